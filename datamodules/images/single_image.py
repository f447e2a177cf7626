"""One image as a data set: for methods whose parameters are an image, or a network that is fitted to one image."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from datamodules.images.image_base import ImageDataModule
from datamodules.images.pixels import Pixels
from datamodules.loader import SAMPLES, Source, seeded
from datamodules.sources.digests import digest_of_files
from datamodules.sources.file_names import legible
from datamodules.sources.photographs import (
    Photograph,
    covered,
    header_of,
    lanczos,
    lanczos_of_known,
    read_mask,
    read_photograph,
)
from datamodules.spec import DataSpec

HIDDEN = 128
"""Value of the pixels that a mask hides."""


class RepeatedImage:
    """A source that yields the same image again and again.

    Args:
        pixels: The image, uint8 (3, H, W).
        size: Number of repetitions in an epoch.
        mask: Which pixels are known, bool (H, W), or ``None`` if all are.
        target: The image before it was damaged, uint8 (3, H', W'), or ``None``.
    """

    def __init__(self, pixels: Tensor, size: int, mask: Tensor | None = None, target: Tensor | None = None) -> None:
        self.pixels, self.size = pixels, size
        self.shape, self.labels = tuple(pixels.shape), torch.zeros(size, dtype=torch.int64)
        fields = {"mask": None if mask is None else mask[None].float(), "target": target}
        scaled = {} if target is None else {"target": Pixels()(target[None])[0]}
        self.fields: dict[str, Tensor] = {
            key: value for key, value in {**fields, **scaled}.items() if value is not None
        }

    def __len__(self) -> int:
        return self.size

    def for_epoch(self, epoch: int) -> "RepeatedImage":
        """Returns itself."""
        return self

    def order(self, generator: torch.Generator, size: int) -> Tensor:
        """Returns the indices in order: all are the same image."""
        return torch.arange(self.size)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the image as often as there are indices."""
        return (self.pixels.expand(len(indices), *self.shape) for indices in batches)

    def targets(self, indices: Tensor) -> dict[str, Tensor]:
        """Returns labels, which are 0, the mask and the undamaged image, where there are such."""
        repeated = {key: value.expand(len(indices), *value.shape) for key, value in self.fields.items()}
        return {"labels": self.labels[indices], **repeated}


class SingleImage(ImageDataModule):
    """One image, read from a file, in colours and perhaps damaged; every batch has it.

    A batch has the image as ``x``, (N, 3, H, W) in [-1, 1], and the labels 0. If the image is damaged here, by noise, a
    mask or reduction, a batch also has the undamaged one as ``target``, and where there is a mask, which pixels are
    known as ``mask``, (N, 1, H, W): 1 for known and 0 for hidden ones.

    Args:
        path: File of the image; see ``datamodules.sources.photographs`` for what may be in it.
        size: Length of the longer side to which the image is resized (Lanczos); ``None`` leaves it as it is. A pixel
            of a resized mask is known if all of its area is.
        noise: Standard deviation of Gaussian noise that is added, in grey values of 0..255, to a grey image the same in
            all channels; the noisy image is rounded and clipped to 8 bits.
        mask: File of a mask of the image's own size; white pixels are kept, and black ones are hidden.
        invert_mask: Whether white pixels are hidden and black ones kept.
        scale: Factor by which the image is reduced (Lanczos), after it was cropped to a multiple of it.
        styles: Files of further images, which ``style_images`` returns.
        style_size: As ``size``, of these.
        steps_per_epoch: Number of times that an epoch has the image.
        batch_size: Copies of the image in a batch.
        seed: Seed of the noise.

    Raises:
        ValueError: If an argument is out of range. When the image is read: if a file is no still image, the mask has
            another size than the image or leaves no pixel known at ``size``, or the image is smaller than ``scale``.
        FileNotFoundError: When the image is read, if there is no such file.
    """

    own_argument = "path"

    def __init__(
        self,
        path: str,
        size: int | None = None,
        noise: float = 0.0,
        mask: str | None = None,
        invert_mask: bool = False,
        scale: int = 1,
        styles: Sequence[str] = (),
        style_size: int | None = None,
        steps_per_epoch: int = 100,
        batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        for name, value in {"size": size, "style_size": style_size}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1 pixel, or null for the size of the file.")
        for name, value in {"scale": scale, "steps_per_epoch": steps_per_epoch}.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if not 0 <= noise <= 255:
            raise ValueError(f"noise={noise} must lie in 0..255: it is a standard deviation in grey values.")
        if mask is not None and scale > 1:
            raise ValueError(f"mask={mask!r} and scale={scale} exclude each other: fill the image, then enlarge it.")
        if steps_per_epoch < batch_size:
            raise ValueError(f"steps_per_epoch={steps_per_epoch} must be at least batch_size={batch_size}.")
        steps = [f"resized-{size}"] * (size is not None) + [f"noise-{noise:g}"] * (noise > 0)
        steps += ["masked"] * (mask is not None) + [f"reduced-{scale}"] * (scale > 1)
        name = legible(Path(path).expanduser().resolve().stem) or "image"
        # The true shape is in the file, which is read by ``describe``.
        spec = DataSpec(name=name, kind="image", shape=(3, 1, 1), preprocessing="-".join(steps))
        super().__init__(spec, batch_size, 0, seed, Pixels())
        # As text, because a checkpoint has them.
        path, styles, mask = str(path), [str(style) for style in styles], None if mask is None else str(mask)
        self.save_hyperparameters(logger=False)

    def describe(self) -> None:
        """Reads the shape from the file.

        Raises:
            ValueError: As the class.
            FileNotFoundError: As the class.
        """
        height, width = resized_size(header_of(self.hparams["path"]), self.hparams["size"])
        scale = self.hparams["scale"]
        if min(height, width) < scale:
            raise ValueError(f"scale={scale} is larger than the image, which has {width} x {height} pixels.")
        self.spec = replace(self.spec, shape=(3, height // scale, width // scale))

    def digest(self) -> str:
        """Returns the sha256 of the name, size and first 64 KiB of the file, of the mask and of the styles."""
        given = [self.hparams["mask"]] if self.hparams["mask"] is not None else []
        paths = [Path(path).expanduser() for path in (self.hparams["path"], *given, *self.hparams["styles"])]
        digests = [digest_of_files(path.parent, [path]) for path in paths]
        if len(digests) == 1:
            return digests[0]
        invert = f"invert_mask={self.hparams['invert_mask']}" if given else "no mask"
        return hashlib.sha256("\n".join([invert, *digests]).encode()).hexdigest()

    @cached_property
    def photograph(self) -> Photograph:
        """The image before it is damaged, resized and cropped to a multiple of ``scale``; see the class for errors."""
        return _read_resized(self.hparams["path"], self.hparams["size"]).cropped(self.hparams["scale"])

    @cached_property
    def mask(self) -> Tensor | None:
        """Which pixels are known, bool (H, W), or ``None``; see the class for errors."""
        if self.hparams["mask"] is None:
            return None
        height, width = size = self.photograph.size
        known = covered(self._kept, *size)
        if not known.any():
            raise ValueError(
                f"The mask {self.hparams['mask']} leaves nothing to keep at size={self.hparams['size']}: no pixel of "
                f"{width} x {height} is known in all of its area. Give a larger size."
            )
        return known

    @cached_property
    def _kept(self) -> Tensor:
        """The mask in the size of its file."""
        kept = read_mask(self.hparams["mask"], self.hparams["invert_mask"])
        expected = header_of(self.hparams["path"])
        if kept.shape != expected:
            raise ValueError(
                f"The mask {self.hparams['mask']} has {kept.shape[1]} x {kept.shape[0]} pixels, but the image "
                f"{self.hparams['path']} has {expected[1]} x {expected[0]}: give a mask of the same size."
            )
        return kept

    def read(self) -> dict[str, Source]:
        """Reads the image and damages it; training, validation and test are all of that one image.

        Raises:
            ValueError: As the class.
            FileNotFoundError: As the class.
        """
        pixels, target = self.damaged()
        steps = self.hparams["steps_per_epoch"]
        sizes = {"train": steps, "val": self.batch_size, "test": self.batch_size}
        return {split: RepeatedImage(pixels, size, self.mask, target) for split, size in sizes.items()}

    def damaged(self) -> tuple[Tensor, Tensor | None]:
        """Returns the image of the batches and, if that is damaged, the undamaged one, uint8 (3, H, W) each."""
        scale, noise = self.hparams["scale"], self.hparams["noise"]
        whole = pixels = self.photograph.pixels
        if scale > 1:
            pixels = lanczos(whole, *(length // scale for length in self.photograph.size))
        if self.mask is not None and self._kept.shape != self.mask.shape:  # what is hidden must not shine through
            pixels = lanczos_of_known(read_photograph(self.hparams["path"]).pixels, self._kept, *self.mask.shape)
        if noise:
            channels = 1 if self.photograph.is_grey else 3  # what is grey stays grey
            added = torch.randn(channels, *pixels.shape[1:], generator=seeded(SAMPLES, self.seed))
            pixels = (pixels + noise * added).round().clamp(0, 255).byte()
        if self.mask is not None:
            pixels = torch.where(self.mask, pixels, torch.full_like(pixels, HIDDEN))
        return pixels, None if pixels is whole else whole

    @cached_property
    def style_photographs(self) -> list[Photograph]:
        """The images of ``styles``, in their final size; see the class for errors."""
        return [_read_resized(path, self.hparams["style_size"]) for path in self.hparams["styles"]]

    def style_images(self) -> list[Tensor]:
        """Returns the images of ``styles``, each float32 (1, 3, H, W) in [-1, 1].

        Raises:
            ValueError: If a file is no still image.
            FileNotFoundError: If there is no such file.
        """
        return [Pixels()(photograph.pixels[None]) for photograph in self.style_photographs]


def resized_size(size: tuple[int, int], longest: int | None) -> tuple[int, int]:
    """Returns height and width whose longer one is ``longest``, in the proportions of ``size``; ``size`` for None."""
    if longest is None:
        return size
    factor = longest / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _read_resized(path: str, size: int | None) -> Photograph:
    photograph = read_photograph(path)
    return photograph.resized(*resized_size(photograph.size, size))
