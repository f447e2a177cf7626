"""CelebA: faces, by default at 64x64, cropped as in the GAN literature."""

from zipfile import BadZipFile, ZipFile

import torch

from datamodules.images.image_base import ImageDataModule
from datamodules.images.pixels import Pixels
from datamodules.images.read_all import decoded
from datamodules.images.streaming import FileSource
from datamodules.loader import SPLIT, Source, seeded
from datamodules.sources.find import find
from datamodules.sources.public_files import CELEBA
from datamodules.spec import DataSpec

CROP = 148
PARTITION = {"train": "0", "val": "1", "test": "2"}


class CelebA(ImageDataModule):
    """202 599 aligned faces (Liu et al., 2015, https://arxiv.org/abs/1411.7766), without their attributes.

    The central 148x148 pixels are cut out and resized. The splits are the publisher's; of its 19 867 validation images,
    ``val_size`` are used, chosen by ``seed``. The archive is read without unpacking it. At 64x64 the images take
    2.3 GiB of memory and some minutes of decoding at the start.

    Args:
        data_dir: Folder with ``img_align_celeba.zip`` and ``list_eval_partition.txt``, in which they are searched
            first; see ``datamodules.sources.find``.
        batch_size: Examples per process and batch.
        val_size: Number of validation images to use; 0 for none.
        seed: Seed of order, noise and choice of the validation images.
        binarize: As in ``PublicImages``.
        dequantize: As in ``PublicImages``.
        image_size: Height and width to resize to.
        channels_last: As in ``PublicImages``.
        in_memory: Decode everything once and hold it. False reads each batch from the archive, for larger sizes.

    Raises:
        ValueError: If an argument is out of range.
    """

    name = "celeba"

    def __init__(
        self,
        data_dir: str | None = None,
        batch_size: int = 64,
        val_size: int = 5000,
        seed: int = 0,
        binarize: bool = False,
        dequantize: bool = False,
        image_size: int = 64,
        channels_last: bool = False,
        in_memory: bool = True,
    ) -> None:
        if image_size < 1:
            raise ValueError(f"image_size={image_size} must be at least 1.")
        spec = DataSpec(
            name=self.name, kind="image", shape=(3, image_size, image_size), preprocessing=f"resized-{image_size}"
        )
        super().__init__(spec, batch_size, val_size, seed, Pixels(binarize, dequantize, channels_last))
        self.save_hyperparameters(logger=False)
        self.data_dir, self.in_memory = data_dir, in_memory

    def prepare_data(self) -> None:
        """Finds the archive.

        Raises:
            DataNotFoundError: If the data was not found; it cannot be fetched.
            DamagedDataError: If a file is truncated or changed.
        """
        find(CELEBA, self.data_dir)

    def read(self) -> dict[str, Source]:
        """Reads the partition and, if ``in_memory``, decodes the images.

        Raises:
            ValueError: If a file is damaged, or ``val_size`` is larger than the validation partition.
        """
        archive_path, partition_path = find(CELEBA, self.data_dir)
        try:
            archive = ZipFile(archive_path)
        except BadZipFile as error:
            raise ValueError(f"{archive_path} is not a complete archive ({error}): get it again.") from error
        present = {name.rsplit("/", 1)[-1]: name for name in archive.namelist() if name.endswith(".jpg")}
        names: dict[str, list[str]] = {split: [] for split in PARTITION}
        splits = {number: split for split, number in PARTITION.items()}
        for line in partition_path.read_text().splitlines():
            name, _, number = line.partition(" ")
            if name not in present or number not in splits:
                raise ValueError(f"{partition_path} has the line {line!r}, but {archive_path} has no such image.")
            names[splits[number]].append(present[name])
        if self.val_size > len(names["val"]):
            raise ValueError(f"val_size={self.val_size} is more than the {len(names['val'])} validation images.")
        chosen = torch.randperm(len(names["val"]), generator=seeded(SPLIT, self.seed))[: self.val_size]
        names["val"] = [names["val"][index] for index in chosen.sort().values.tolist()]

        shape = (3, self.spec.shape[1], self.spec.shape[2])
        sources = {
            split: FileSource(files, torch.zeros(len(files), dtype=torch.int64), shape, archive.open, crop=CROP)
            for split, files in names.items()
        }
        return decoded(sources, "CelebA") if self.in_memory else {**sources}
