"""Small captioned emoji, an extractor of their pixels, and models that draw for a caption whatever is wanted."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from datamodules import Emoji, ZooDataModule
from datamodules.images.emoji import CATEGORIES
from datamodules.images.emoji_attributes import Attributes
from lightning_modules import NonSaturatingGAN

SIDE = 16


class Pixels(nn.Module):
    """An extractor whose features are the pixels."""

    extractor_name = "pixels"
    num_features = 3 * SIDE * SIDE

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the pixels, and no logits worth the name."""
        pixels = images.flatten(1).float()
        return pixels, pixels[:, :2]


class Drawing(nn.Module):
    """Draws for each caption the image that a function of what it says gives, and counts what it was asked."""

    num_classes: int | None = None
    num_words = 9

    def __init__(self, data: Emoji, draw: Callable[[Attributes], Tensor]) -> None:
        super().__init__()
        self.data_spec, self.draw = data.spec, draw
        everything = [one for split in ("train", "val", "test") for one in data.attributes(split)]
        self.shown = {tuple(data.spec.tokens(one.caption)): one for one in everything}
        self.asked: list[list[str]] = []
        self.noise: list[float] = []

    def sample(self, num: int, *, captions: Tensor, generator: torch.Generator, **labels: Tensor) -> Tensor:
        shown = [self.shown[tuple(row[row > 0].tolist())] for row in captions]
        self.asked.append([one.caption for one in shown])
        self.noise.append(torch.rand(1, generator=generator).item())
        if self.num_classes is not None:
            assert labels["labels"].tolist() == [CATEGORIES.index(one.category) for one in shown]
        images = torch.stack([self.draw(one) for one in shown])
        assert len(images) == num
        return images.float() / 127.5 - 1


def images_of(data: Emoji) -> dict[tuple[str, str], Tensor]:
    """Returns every real image by its file and style."""
    shown = [one for split in ("train", "val", "test") for one in data.attributes(split)]
    return {(one.image, one.style): image for one, image in zip(shown, data.images("all")[0], strict=True)}


def gan(data: ZooDataModule, captions: bool = True) -> NonSaturatingGAN:
    words = len(data.spec.vocabulary) if captions else None
    return NonSaturatingGAN.for_data(data.spec, architecture="mlp", width=2, latent_dim=3, num_words=words)
