"""Puts the statistics of real pictures beside a judge, so that measuring needs no data: `make checkpoints` runs it."""

import sys

import datamodules
from datamodules.image_base import ImageDataModule
from lightning_modules.callbacks import ship_statistics
from lightning_modules.parts.capabilities import Extracts
from zoo import ZooError, load
from zoo.cards import STATISTICS_FOLDER, card

FORMS = (("val", False), ("test", False), ("test", True))  # split, and whether of bits


def main(name: str) -> None:
    """Writes ``statistics/`` in the folder of the judge called ``name``, for the data set that it was trained on."""
    shown, judge = card(name), load(name)
    by_name = {getattr(value, "name", None): value for value in datamodules.DATAMODULES.values()}
    datamodule = by_name[shown.data]() if shown.data in by_name else None
    if not isinstance(datamodule, ImageDataModule) or not isinstance(judge, Extracts):
        raise ZooError(f"{name} is no judge of a picture data set that has a datamodule here.")
    for split, binarize in FORMS:
        real = datamodule.binarized() if binarize else datamodule
        print(f"Wrote {ship_statistics(judge, real, split, shown.path / STATISTICS_FOLDER)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
