"""Emoji: small colour images of two artists, each with a caption of its parts.

What a model has understood of captions can be asked here: the images of combinations that were held out exist.

Noto Emoji, by Google, Apache-2.0. Twemoji, copyright Twitter, Inc. and other contributors, CC-BY 4.0, resized.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from datamodules.captions import CaptionedSource, caption_tokens, words_in
from datamodules.images.emoji_attributes import Attributes, attribute_indices, attribute_values
from datamodules.images.emoji_captions import DescribedEmoji, read_emoji
from datamodules.images.emoji_pixels import SIZES, colour, decoded_on
from datamodules.images.emoji_splits import held_out
from datamodules.images.image_base import ImageDataModule, split_indices
from datamodules.images.pixels import Pixels
from datamodules.loader import Source, TensorSource
from datamodules.sources.emoji_files import STYLES, EmojiFiles
from datamodules.spec import DataSpec

CATEGORIES = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
    "Component",
)


class Emoji(ImageDataModule):
    """3 786 emoji in each of two styles, RGB, with captions, and ten categories as classes.

    Batches are ``(x, labels, tokens)``; see ``datamodules.captions``. A caption is such as ``"woman firefighter,
    medium-dark skin tone, twemoji"``; with one style alone it does not name the style. The emoji that ``split`` holds
    out are the test split, with their captions; validation examples are chosen among the others by ``seed``.

    NOTE: "random" holds out emoji in every style at once; "style" is the split in which a held-out emoji is seen in
    another style.

    Args:
        data_dir: Folder with ``emoji-64.zip``, its content, or the archives of the packages of npm; see
            ``datamodules.sources.find``. Packages that are fetched are written there.
        styles: ``"noto"``, ``"twemoji"`` or both.
        image_size: Height and width, 16, 32 or 64. Smaller images are means over squares of pixels.
        background: Colour on which transparent parts are shown, by name or as ``"#rrggbb"``.
        split: Which emoji are the test split: ``"random"``, ``"composition"`` or ``"style"``; see
            ``datamodules.images.emoji_splits``.
        batch_size: Examples per process and batch.
        val_size: Examples held out of training for validation; 0 for none.
        seed: Seed of the choice of validation examples, of order and noise.
        binarize: As in ``PublicImages``.
        dequantize: As in ``PublicImages``.
        channels_last: As in ``PublicImages``.
        with_attributes: Whether batches have ``attributes`` too, as ``spec.attributes`` lists them: skin tone, person,
            role and style; see ``datamodules.images.emoji_attributes``.

    Raises:
        ValueError: If an argument is out of range.
    """

    name = "emoji"
    compared_with = "all"

    def __init__(
        self,
        data_dir: str | None = None,
        styles: list[str] | tuple[str, ...] = ("noto", "twemoji"),
        image_size: int = 32,
        background: str = "white",
        split: str = "random",
        batch_size: int = 64,
        val_size: int = 256,
        seed: int = 0,
        binarize: bool = False,
        dequantize: bool = False,
        channels_last: bool = False,
        with_attributes: bool = False,
    ) -> None:
        if not styles or len(set(styles)) < len(styles) or not set(styles) <= STYLES.keys():
            raise ValueError(f"styles={list(styles)} must be one or both of {', '.join(STYLES)}.")
        if image_size not in SIZES:
            raise ValueError(f"image_size={image_size} is not one of {', '.join(map(str, SIZES))}.")
        self.background = colour(background)
        held_out((), styles, split)  # refuses one that is unknown
        spec = DataSpec(
            name=self.name,
            kind="image",
            shape=(3, image_size, image_size),
            num_classes=len(CATEGORIES),
            class_names=CATEGORIES,
            preprocessing="-".join([*styles, f"resized-{image_size}", split, *on_colour(self.background)]),
        )
        super().__init__(spec, batch_size, val_size, seed, Pixels(binarize, dequantize, channels_last))
        styles = list(styles)
        self.save_hyperparameters(logger=False)
        self.data_dir, self.styles, self.split = data_dir, styles, split
        self.with_attributes = with_attributes
        self._attributes: dict[str, list[Attributes]] = {}

    def prepare_data(self) -> None:
        """Finds the files, or fetches them.

        Raises:
            DataNotFoundError: If they were not found.
            DamagedDataError: If an archive is truncated or changed.
        """
        EmojiFiles(self.styles, self.data_dir)

    def read(self) -> dict[str, Source]:
        """Decodes the images, composes them with the background, reduces and splits them.

        Raises:
            ValueError: If an image is missing or damaged, or ``val_size`` leaves nothing to train on.
        """
        files = EmojiFiles(self.styles, self.data_dir)
        emoji = read_emoji(files.table())
        size = self.spec.shape[-1]
        images = torch.cat([self._images(files, style, emoji, size) for style in self.styles])
        attributes = [self._parts(one, style) for style in self.styles for one in emoji]
        labels = torch.tensor([CATEGORIES.index(one.category) for one in attributes])
        held = held_out(emoji, self.styles, self.split)
        is_test = torch.tensor([(one.image, one.style) in held for one in attributes])
        rest = (~is_test).nonzero().flatten()
        train, val = (rest[part] for part in split_indices(len(rest), self.val_size, self.seed))
        self._spec = replace(self._spec, vocabulary=words_in([one.caption for one in attributes]))
        known = attribute_indices(attributes, values := attribute_values(attributes)) if self.with_attributes else None
        if known is not None:
            self._spec = replace(self._spec, attributes=values)
        sources: dict[str, Source] = {}
        for split, indices in (("train", train), ("val", val), ("test", is_test.nonzero().flatten())):
            self._attributes[split] = [attributes[index] for index in indices.tolist()]
            captions = [one.caption for one in self._attributes[split]]
            tokens = caption_tokens(captions, self.spec)
            source = TensorSource(images[indices], labels[indices])
            sources[split] = CaptionedSource(source, captions, tokens, None if known is None else known[indices])
        return sources

    def attributes(self, split: str) -> Sequence[Attributes]:
        """Returns what each image of a split shows, in the order of ``images(split)``.

        Raises:
            ValueError: If ``split`` is not "train", "val" or "test".
        """
        self.source(split)
        return self._attributes[split]

    def _parts(self, one: DescribedEmoji, style: str) -> Attributes:
        caption = f"{one.caption}, {style}" if len(self.styles) > 1 else one.caption
        return Attributes(one.image, caption, one.tone, one.category, one.person, one.role, style)

    def _images(self, files: EmojiFiles, style: str, emoji: Sequence[DescribedEmoji], size: int) -> Tensor:
        found = files.images(style, {one.image: one.name for one in emoji})
        return torch.from_numpy(decoded_on(found, self.background, size)).permute(0, 3, 1, 2).contiguous()


def on_colour(background: tuple[int, int, int]) -> list[str]:
    """Returns what the preprocessing says of a colour: nothing of white."""
    return [] if background == (255, 255, 255) else ["on_{:02x}{:02x}{:02x}".format(*background)]
