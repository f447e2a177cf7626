"""Any folder of images as a datamodule."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO

import torch

from datamodules.captions import CaptionedSource, caption_tokens, words_in
from datamodules.images.folder_files import classes_of, list_images
from datamodules.images.image_base import ImageDataModule
from datamodules.images.pixels import Pixels
from datamodules.images.read_all import check_all, check_headers, decoded
from datamodules.images.streaming import FileSource
from datamodules.loader import SPLIT, Source, seeded
from datamodules.sources.digests import digest_of_files
from datamodules.sources.file_names import legible
from datamodules.spec import DataSpec

MEMORY_LIMIT = 4 * 2**30
"""Bytes of decoded images above which ``in_memory=True`` is refused."""

HINT = " The datamodule's check_files() names all such files at once."


class ImageFolder(ImageDataModule):
    """All images below a folder, each cropped to its central square and resized.

    Where all images lie in sub-folders, two or more, these are the classes, in alphabetical order. A permutation that
    depends on ``seed`` and on the number of images splits them. Formats: PNG, JPEG, WebP, BMP, GIF (first frame),
    TIFF and PPM; other files and hidden files are skipped. Transparent parts become white. Links are followed; see
    ``list_images``. The classes are in ``spec`` at once, because the folder is listed when ``spec`` is first asked for.
    All files that are no images or are damaged are reported together, before training. With ``in_memory=False``, where
    only the beginning of each file is read before training, damage further on is reported when it is met;
    ``check_files`` finds all of it in advance.

    Args:
        data_dir: The folder.
        image_size: Height and width to resize to.
        grey: Make images of one channel instead of three.
        batch_size: Examples per process and batch.
        val_size: Images held out for validation; None for a tenth, at most 5000.
        test_size: Images held out for testing; None for a tenth, at most 5000.
        seed: Seed of split, order and noise.
        binarize: As in ``PublicImages``.
        dequantize: As in ``PublicImages``.
        channels_last: As in ``PublicImages``.
        in_memory: Decode everything once and hold it (up to 4 GiB of pixels). False reads each batch from its files.

    Raises:
        ValueError: If an argument is out of range.
    """

    own_argument = "data_dir"
    tests_on_training: bool = False
    """Whether the test split was set to the training images, of which nothing was held out."""

    def __init__(
        self,
        data_dir: str,
        image_size: int = 64,
        grey: bool = False,
        batch_size: int = 64,
        val_size: int | None = None,
        test_size: int | None = None,
        seed: int = 0,
        binarize: bool = False,
        dequantize: bool = False,
        channels_last: bool = False,
        in_memory: bool = True,
    ) -> None:
        for name, value, least in (("image_size", image_size, 1), ("test_size", test_size or 0, 0)):
            if value < least:
                raise ValueError(f"{name}={value} must be at least {least}.")
        spec = DataSpec(
            name=legible(Path(data_dir).expanduser().resolve().name) or "folder",
            kind="image",
            shape=(1 if grey else 3, image_size, image_size),
            preprocessing=f"resized-{image_size}" + ("-grey" if grey else ""),
        )
        super().__init__(spec, batch_size, val_size or 0, seed, Pixels(binarize, dequantize, channels_last))
        self.save_hyperparameters(logger=False)
        self.in_memory = in_memory

    @cached_property
    def _listed(self) -> tuple[list[Path], torch.Tensor, tuple[str, ...]]:
        """All images, the label of each, and the names of the classes."""
        paths = list_images(self.folder)
        return paths, *classes_of(self.folder, paths)

    @property
    def folder(self) -> Path:
        """The folder of the images."""
        return Path(self.hparams["data_dir"]).expanduser()

    def describe(self) -> None:
        """Lists the folder, whose sub-folders are the classes, and reads its captions if it has them.

        Raises:
            ValueError: If there is no such folder, or no image in it, or captions cannot be used.
        """
        if class_names := self._listed[2]:
            self.spec = replace(self.spec, num_classes=len(class_names), class_names=class_names)
        if self._captions:
            self.spec = replace(self.spec, vocabulary=words_in(self._captions))

    def digest(self) -> str:
        """Returns the sha256 of the names, sizes and first 64 KiB of all images, and of their captions.

        Raises:
            ValueError: If there is no such folder, or no image in it.
        """
        images = digest_of_files(self.folder, self._listed[0])
        return hashlib.sha256("\n".join([images, *self._captions]).encode()).hexdigest() if self._captions else images

    def read(self) -> dict[str, Source]:
        """Lists the folder, splits it and, if ``in_memory``, decodes it.

        Raises:
            ValueError: If there is no such folder, no image in it, too few for the split, or too many for memory; or if
                files cannot be read as images.
        """
        paths, labels, _ = self._listed
        sizes = [self.held_out(name) for name in ("val", "test")]
        if sum(sizes) >= len(paths):
            raise ValueError(
                f"val_size={sizes[0]} and test_size={sizes[1]} leave nothing to train on: {self.folder} has "
                f"{len(paths)} image(s)."
            )
        bytes_needed = len(paths) * torch.Size(self.spec.shape).numel()
        if self.in_memory and bytes_needed > MEMORY_LIMIT:
            raise ValueError(
                f"{len(paths)} images of shape {self.spec.shape} take {bytes_needed / 2**30:.1f} GiB, and only up "
                f"to {MEMORY_LIMIT / 2**30:.0f} GiB are held in memory: pass in_memory=False or a smaller image_size."
            )
        order = torch.randperm(len(paths), generator=seeded(SPLIT, self.seed))
        parts = [part.sort().values for part in order.split([*sizes, len(paths) - sum(sizes)])]
        shape = (self.spec.shape[0], self.spec.shape[1], self.spec.shape[2])
        sources = {
            split: FileSource([str(paths[i]) for i in indices.tolist()], labels[indices], shape, open_binary, hint=HINT)
            for split, indices in zip(("val", "test", "train"), parts, strict=True)
        }
        found: dict[str, Source] = {**sources}
        if self.in_memory:
            found = decoded(sources, self.spec.name)
        else:
            check_headers(sources, self.spec.name)
        if self._captions:
            for split, indices in zip(("val", "test", "train"), parts, strict=True):
                captions = [self._captions[index] for index in indices.tolist()]
                found[split] = CaptionedSource(found[split], captions, caption_tokens(captions, self.spec))
        return found

    def captions_of(self, paths: Sequence[Path]) -> list[str]:
        """Hook: returns the caption of each image, or none for images without captions."""
        return []

    @cached_property
    def _captions(self) -> list[str]:
        return self.captions_of(self._listed[0])

    def check_files(self) -> None:
        """Decodes all images, which takes about as long as an epoch without training, and keeps none.

        Raises:
            ValueError: If files are no images or are damaged; the message names the first twenty and their number.
        """
        files = [str(path) for path in self._listed[0]]
        shape = (self.spec.shape[0], self.spec.shape[1], self.spec.shape[2])
        check_all({"all": FileSource(files, self._listed[1], shape, open_binary)}, self.spec.name)

    @property
    def num_images(self) -> int:
        """The number of images, which are not read for it."""
        return len(self._listed[0])

    def held_out(self, split: str) -> int:
        """Returns the number of images of "val" or "test", without reading them."""
        size: int | None = self.hparams[f"{split}_size"]
        return min(5000, self.num_images // 10) if size is None else size


def open_binary(path: str) -> IO[bytes]:
    """Opens a file for reading bytes."""
    return open(path, "rb")
