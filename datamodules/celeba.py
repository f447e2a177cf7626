"""CelebA: faces, at 64x64 as the GAN literature cuts them."""

from zipfile import BadZipFile, ZipFile

import torch

from datamodules.find import find
from datamodules.image_base import ImageDataModule
from datamodules.loader import SPLIT, Source, seeded
from datamodules.pixels import Pixels
from datamodules.public_files import CELEBA
from datamodules.spec import DataSpec
from datamodules.streaming import FileSource

CROP = 148
PARTITION = {"train": "0", "val": "1", "test": "2"}


class CelebA(ImageDataModule):
    """202 599 aligned faces (Liu et al., 2015, https://arxiv.org/abs/1411.7766), without their attributes.

    The central 148x148 pixels are cut out and resized. The publisher's partition gives the splits; validation takes
    ``val_size`` pictures, chosen by ``seed``, of its 19 867. The archive is read as it is, without unpacking.
    At 64x64 the pictures take 2.3 GiB of memory and some minutes of decoding at the start.

    Args:
        data_dir: Folder with ``img_align_celeba.zip`` and ``list_eval_partition.txt``; see ``datamodules.find``.
        batch_size: Examples per process and batch.
        val_size: Pictures of the validation partition to use.
        seed: Seed of order, noise and choice of the validation pictures.
        binarize: As in ``PublicImages``.
        dequantize: As in ``PublicImages``.
        image_size: Height and width to resize to.
        channels_last: As in ``PublicImages``.
        in_memory: Decode everything once. False reads each batch from the archive, for larger sizes.

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
        """Finds the archive."""
        find(CELEBA, self.data_dir)

    def read(self) -> dict[str, Source]:
        """Reads the partition and, if ``in_memory``, decodes the pictures.

        Raises:
            ValueError: If a file is not what it should be, or ``val_size`` is larger than the partition.
        """
        archive_path, partition_path = find(CELEBA, self.data_dir)
        try:
            archive = ZipFile(archive_path)
        except BadZipFile as error:
            raise ValueError(f"{archive_path} is no whole archive ({error}): get it again.") from error
        present = {name.rsplit("/", 1)[-1]: name for name in archive.namelist() if name.endswith(".jpg")}
        names: dict[str, list[str]] = {split: [] for split in PARTITION}
        splits = {number: split for split, number in PARTITION.items()}
        for line in partition_path.read_text().splitlines():
            name, _, number = line.partition(" ")
            if name not in present or number not in splits:
                raise ValueError(f"{partition_path} says {line!r}, but {archive_path} has no such picture.")
            names[splits[number]].append(present[name])
        if self.val_size > len(names["val"]):
            raise ValueError(f"val_size={self.val_size} is more than the {len(names['val'])} validation pictures.")
        chosen = torch.randperm(len(names["val"]), generator=seeded(SPLIT, self.seed))[: self.val_size]
        names["val"] = [names["val"][index] for index in chosen.sort().values.tolist()]

        shape = (3, self.spec.shape[1], self.spec.shape[2])
        sources: dict[str, Source] = {}
        for split, files in names.items():
            source = FileSource(files, torch.zeros(len(files), dtype=torch.int64), shape, archive.open, crop=CROP)
            sources[split] = source.in_memory(f"CelebA ({split})") if self.in_memory else source
        return sources
