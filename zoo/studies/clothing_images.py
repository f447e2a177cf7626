"""Fashion-MNIST for studies of GANs: images to train on, and the FID of what a generator makes of them."""

from copy import copy
from functools import cache

from torch import nn

from datamodules import FashionMNIST
from lightning_modules.base import GenerativeModule
from lightning_modules.metrics.sample_evaluation import evaluate_samples

CLASSIFIER = "classifier.fashion_mnist"
"""The zoo's checkpoint whose features FID is measured in."""
BATCH = 64


@cache
def as_read() -> FashionMNIST:
    """Returns the images, which are read once."""
    data = FashionMNIST(batch_size=BATCH)
    data.setup("fit")
    return data


def clothing(seed: int) -> FashionMNIST:
    """Returns the images in batches of 64, in an order by the seed; the split is always the same."""
    data = copy(as_read())
    data.seed = seed
    return data


def fid_of(model: GenerativeModule, extractor: nn.Module, num_samples: int) -> float:
    """Returns the FID of samples to the 10 000 test images, in squared units of the classifier's features."""
    spec = as_read().spec
    values = evaluate_samples(model, extractor, spec=spec, num_samples=num_samples, metrics=["fid"], progress=False)
    (value,) = values.values()
    return value
