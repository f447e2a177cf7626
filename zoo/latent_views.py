"""Views of a generator: what it can make of given images, what it may have copied, how it stretches its codes."""

import sys
from dataclasses import replace

import torch
from PIL.Image import Image

from lightning_modules.metrics.generator_jacobian import jacobian_spectrum
from lightning_modules.metrics.inversion import invert
from lightning_modules.metrics.neighbours import nearest_training_images
from lightning_modules.parts.quantization import to_uint8
from lightning_modules.rendering.image_rows import captioned_rows
from lightning_modules.rendering.images import image_grid
from lightning_modules.rendering.spectra import draw_spectrum
from zoo.cards import Card
from zoo.data import SPLIT, datamodule_of
from zoo.errors import ZooError
from zoo.evaluation_request import default_extractor
from zoo.features import load_extractor
from zoo.view_request import Request

PAIRS_IN_A_ROW = 5
NEIGHBOURS = 9
NUM_HELD_OUT = 100
"""Number of held-out images whose distances are the scale of those of samples."""
HELD_OUT_ROWS = 4


def inversion(request: Request) -> Image:
    """Renders held-out images, each with the nearest that the generator makes of any code to the right of it."""
    found = invert(request.module, request.real, labels=request.labels, generator=request.generator)
    made = request.module.decode(found.codes, labels=request.labels).cpu()
    pairs = torch.stack([request.real, made], 1).flatten(0, 1)
    return image_grid(pairs, request.value_range, columns=min(2 * request.num, 2 * PAIRS_IN_A_ROW))


def neighbours(request: Request) -> Image:
    """Renders samples, and below them held-out images, each with its nearest training images to the right of it.

    Beside a row is the distance to the nearest one, relative to the median of held-out images.
    """
    assert request.extractor is not None
    low, high = request.value_range
    samples = to_uint8(request.module.sample(request.num, generator=request.generator).cpu(), (low, high))
    held_out = request.real
    k = min(NEIGHBOURS, len(request.training))
    found = nearest_training_images(
        request.extractor, samples, held_out, request.training, k=k, progress=sys.stdout.isatty()
    )
    rows, captions = [], []
    for what, images, near in (("sample", samples, found.samples), ("held out", held_out, found.held_out)):
        for index in range(len(images) if what == "sample" else min(HELD_OUT_ROWS, len(images))):
            rows.append(torch.cat([images[index, None], request.training[near.indices[index]]]))
            captions.append(f"{what} {near.distances[index, 0].item() / found.scale:.2f}")
    return captioned_rows(torch.stack(rows) / 255, captions, (0.0, 1.0))


def jacobian(request: Request) -> Image:
    """Renders the singular values of the generator's Jacobian: their median and spread over codes."""
    return draw_spectrum(jacobian_spectrum(request.module, request.num, generator=request.generator))


def with_neighbours(request: Request, card: Card, data_dir: str | None = None) -> Request:
    """Returns the request with all training images, the scale's held-out ones, both uint8, and an extractor.

    Raises:
        ZooError: If there is no extractor of such images, or no image was held out.
    """
    datamodule = datamodule_of(card, data_dir)
    if getattr(datamodule, "tests_on_training", False):
        raise ZooError(
            f"{card.name} was trained on all of its images, and there is no scale for distances without held-out ones: "
            "train it with some held out, or name others with --data-dir."
        )
    extractor = load_extractor(request.extractor_name or default_extractor(card, request.module.data_spec))
    held_out = datamodule.images(SPLIT)[0]
    # The first ones of a folder are all of its first class.
    chosen = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(0))[:NUM_HELD_OUT]
    return replace(request, real=held_out[chosen], training=datamodule.images("train")[0], extractor=extractor)
