"""Stores statistics of real images with a classifier, so that metrics need no data; `make checkpoints` runs it."""

import sys

from datamodules.images.image_base import ImageDataModule
from lightning_modules.metrics.reference_statistics import ship_statistics
from zoo import ZooError, card, load_classifier
from zoo.cards import STATISTICS_FOLDER
from zoo.data import SPLIT, datamodule_of

FORMS = (("val", False), ("test", False), ("test", True))  # split, and whether the images are binarized


def main(name: str) -> None:
    """Writes ``statistics/`` in the folder of a classifier, for the data set that it was trained on."""
    of, classifier = card(name), load_classifier(name)
    datamodule = datamodule_of(of)
    if not isinstance(datamodule, ImageDataModule):
        raise ZooError(f"{name} was trained on {of.data!r}, which is not a set of images: there are no statistics.")
    forms = FORMS if datamodule.compared_with == SPLIT else ((datamodule.compared_with, False),)
    for split, binarize in forms:
        real = datamodule.binarized() if binarize else datamodule
        print(f"Wrote {ship_statistics(classifier, real, split, of.path / STATISTICS_FOLDER)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
