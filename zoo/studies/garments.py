"""What studies of Fashion-MNIST share: its images, samples of the zoo's models, and features that are computed once.

Features of many images are kept in a file, under a name that holds the digests of the images and of the extractor, so
that a study that is run again, or another one, reads them.
"""

import hashlib
from copy import copy
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from datamodules.images.emoji import Emoji
from datamodules.images.public_images import FashionMNIST, resized
from lightning_modules.base import GenerativeModule
from lightning_modules.metrics.protocol import Extracted, extract_images, sample_blocks
from lightning_modules.metrics.reference_statistics import extractor_digest
from lightning_modules.metrics.sample_evaluation import evaluate_samples
from lightning_modules.parts.files import cache_folder, replace_file
from lightning_modules.parts.quantization import to_uint8

CLASSIFIER = "classifier.fashion_mnist"
"""The checkpoint in whose features FID is measured."""
BATCH = 64
LEAST_KEPT = 100
"""Number of images from which features are kept in a file."""


@cache
def data() -> FashionMNIST:
    """Returns the datamodule by whose training split the zoo's models were trained, with its images read."""
    datamodule = FashionMNIST(batch_size=BATCH)
    datamodule.setup()
    return datamodule


def data_in_order(seed: int) -> FashionMNIST:
    """Returns the datamodule with its batches in an order by the seed; the split is always the same."""
    datamodule = copy(data())
    datamodule.seed = seed
    return datamodule


def images(split: str, num: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Returns a random subset of the images of a split, uint8 (num, 1, 28, 28), and their labels (num,).

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        num: Number of images; by default all, in a random order.
        seed: Seed of the choice.
    """
    found, labels = data().images(split)
    chosen = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:num]
    return found[chosen], labels[chosen]


def grey_emoji(num: int) -> Tensor:
    """Returns random emoji in grey on black, images of another data set, uint8 (num, 1, 28, 28)."""
    emoji = Emoji(background="black")
    emoji.setup()
    found = emoji.images("all")[0]
    chosen = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[:num]
    return resized(found[chosen].float().mean(1, keepdim=True).round().to(torch.uint8), 28)


def sampled(module: GenerativeModule, num: int, seed: int = 0) -> Tensor:
    """Returns samples of a model by the block protocol, uint8 (num, 1, 28, 28)."""
    value_range = module.data_spec.value_range
    assert value_range is not None
    return to_uint8(sample_blocks(module, num, module.data_spec.shape, seed=seed), value_range)


def fid_of(module: GenerativeModule, extractor: nn.Module, num_samples: int) -> float:
    """Returns the FID of samples of a model against the 10 000 test images."""
    spec = data().spec
    values = evaluate_samples(module, extractor, spec=spec, num_samples=num_samples, metrics=["fid"], progress=False)
    (value,) = values.values()
    return value


def extracted(extractor: nn.Module, images: Tensor) -> Extracted:
    """Returns features and logits of images; those of at least 100 images are kept in a file.

    Args:
        extractor: A ``FeatureExtractor``.
        images: uint8 (N, C, H, W).
    """
    if len(images) < LEAST_KEPT:
        return extract_images(extractor, images)
    path = file_of(extractor, images)
    if path.is_file():
        return Extracted(**load_file(path))
    found = extract_images(extractor, images)
    replace_file(path, save({"features": found.features, "logits": found.logits}))
    return found


def file_of(extractor: nn.Module, images: Tensor) -> Path:
    """Returns the file of the features of images, which may not exist yet."""
    digest = hashlib.sha256(f"{extractor_digest(extractor)} {tuple(images.shape)}".encode())
    digest.update(images.contiguous().numpy().data)
    return cache_folder("study_features") / f"{digest.hexdigest()[:32]}.safetensors"
