"""Any folder of images as a datamodule."""

import os
from dataclasses import replace
from pathlib import Path
from typing import IO

import torch

from datamodules.images.image_base import ImageDataModule
from datamodules.images.pixels import Pixels
from datamodules.images.streaming import FileSource
from datamodules.loader import SPLIT, Source, seeded
from datamodules.spec import DataSpec

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MEMORY_LIMIT = 4 * 2**30
"""Bytes of decoded images above which ``in_memory=True`` is refused."""
SPLIT_NAMES = {"train", "val", "valid", "validation", "test"}
"""Names of sub-folders that mean splits and not classes."""


class ImageFolder(ImageDataModule):
    """All images below a folder, each cropped to its central square and resized.

    Where all images lie in sub-folders, two or more, these are the classes, in alphabetical order. A permutation that
    depends on ``seed`` and on the number of images splits them. Formats: PNG, JPEG, WebP, BMP, GIF (first frame),
    TIFF and PPM; other files and hidden files are skipped. Transparent parts become white.

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
            name=Path(data_dir).expanduser().resolve().name or "folder",
            kind="image",
            shape=(1 if grey else 3, image_size, image_size),
            preprocessing=f"resized-{image_size}" + ("-grey" if grey else ""),
        )
        super().__init__(spec, batch_size, val_size or 0, seed, Pixels(binarize, dequantize, channels_last))
        self.save_hyperparameters(logger=False)
        self.in_memory = in_memory

    def read(self) -> dict[str, Source]:
        """Lists the folder, splits it and, if ``in_memory``, decodes it.

        Raises:
            ValueError: If there is no such folder, no image in it, too few for the split, or too many for memory.
        """
        folder = Path(self.hparams["data_dir"]).expanduser()
        paths = list_images(folder)
        labels, class_names = classes_of(folder, paths)
        if class_names:
            self.spec = replace(self.spec, num_classes=len(class_names), class_names=class_names)
        sizes = [self._share(name, len(paths)) for name in ("val_size", "test_size")]
        if sum(sizes) >= len(paths):
            raise ValueError(
                f"val_size={sizes[0]} and test_size={sizes[1]} leave nothing to train on: {folder} has "
                f"{len(paths)} image(s)."
            )
        order = torch.randperm(len(paths), generator=seeded(SPLIT, self.seed))
        parts = [part.sort().values for part in order.split([*sizes, len(paths) - sum(sizes)])]
        bytes_needed = len(paths) * torch.Size(self.spec.shape).numel()
        if self.in_memory and bytes_needed > MEMORY_LIMIT:
            raise ValueError(
                f"{len(paths)} images of shape {self.spec.shape} take {bytes_needed / 2**30:.1f} GiB, and only up "
                f"to {MEMORY_LIMIT / 2**30:.0f} GiB are held in memory: pass in_memory=False or a smaller image_size."
            )
        sources: dict[str, Source] = {}
        for split, indices in zip(("val", "test", "train"), parts, strict=True):
            names = [str(paths[index]) for index in indices.tolist()]
            shape = (self.spec.shape[0], self.spec.shape[1], self.spec.shape[2])
            source = FileSource(names, labels[indices], shape, open_binary)
            sources[split] = source.in_memory(f"{folder.name} ({split})") if self.in_memory else source
        return sources

    def _share(self, name: str, total: int) -> int:
        size = self.hparams[name]
        return min(5000, total // 10) if size is None else size


def open_binary(path: str) -> IO[bytes]:
    """Opens a file for reading bytes."""
    return open(path, "rb")


def list_images(folder: Path) -> list[Path]:
    """Returns all images below a folder, sorted; they are known by their extension.

    Raises:
        ValueError: If there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise ValueError(f"data_dir={str(folder)!r} is not a folder.")
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = (name for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith("."))
        found += [Path(parent, name) for name in images]
    if not found:
        raise ValueError(f"{folder} has no images: expected files ending in {', '.join(EXTENSIONS)}.")
    return sorted(found)


def classes_of(folder: Path, paths: list[Path]) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Returns the label of each image by its sub-folder, int64 (N,), and the names of the classes.

    The labels are 0, and there are no names, where there are fewer than two sub-folders or an image lies in none.

    Raises:
        ValueError: If the sub-folders are splits rather than classes, by their names.
    """
    parts = [path.relative_to(folder).parts for path in paths]
    names = sorted({part[0] for part in parts if len(part) > 1})
    if len(names) < 2 or any(len(part) == 1 for part in parts):
        return torch.zeros(len(paths), dtype=torch.int64), ()
    if set(names) <= SPLIT_NAMES:
        raise ValueError(
            f"The sub-folders of {folder} are named {', '.join(names)}, which are splits and not classes: give one of "
            "them as data_dir (its images are split by seed)."
        )
    return torch.tensor([names.index(part[0]) for part in parts]), tuple(names)
