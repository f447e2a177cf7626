"""The view of counterfactuals: captions that training held out, what is true and what a model draws."""

from dataclasses import replace

import torch
from PIL.Image import Image

from datamodules.images.emoji import Emoji
from lightning_modules.metrics.neighbours import nearest
from lightning_modules.metrics.protocol import extract_images
from lightning_modules.parts.quantization import to_uint8
from lightning_modules.rendering.image_rows import captioned_rows
from zoo.cards import Card
from zoo.counterfactual_figures import asked_for
from zoo.data import datamodule_of
from zoo.errors import ZooError
from zoo.evaluation_request import default_extractor
from zoo.features import load_extractor
from zoo.view_request import Request

SAMPLES = 4
"""Number of samples of a caption."""
HEADINGS = {0: "truth", 1: "samples", 1 + SAMPLES: "nearest seen"}
"""Headings of columns: the last has the training image that is nearest to the first sample."""


def counterfactual(request: Request) -> Image:
    """Renders a row for each caption: its real image, samples, and the training image nearest to the first of these."""
    assert request.extractor is not None
    repeated = [one for one in request.asked for _ in range(SAMPLES)]
    samples = to_uint8(asked_for(request.module, repeated, request.generator).cpu(), request.value_range)
    samples = samples.unflatten(0, (len(request.asked), SAMPLES))
    seen, first = (extract_images(request.extractor, x).features for x in (request.training, samples[:, 0]))
    copies = request.training[nearest(first, seen).indices]
    rows = torch.cat([to_uint8(request.real, request.value_range)[:, None], samples, copies], 1)
    return captioned_rows(rows / 255, [one.caption for one in request.asked], (0.0, 1.0), HEADINGS)


def with_counterfactuals(request: Request, card: Card, data_dir: str | None = None) -> Request:
    """Returns the request with ``num`` held-out captions, evenly spaced, their images, and the training images.

    Raises:
        ZooError: If the data are no emoji, there are fewer held-out captions, or no extractor of such images.
    """
    datamodule = datamodule_of(card, data_dir)
    if not isinstance(datamodule, Emoji):
        raise ZooError(
            f"{card.name} was trained on captions of {card.data!r}: counterfactuals are known of emoji only."
        )
    shown, (images, _) = datamodule.attributes("test"), datamodule.images("test")
    if request.num > len(shown):
        raise ZooError(f"--num {request.num}: the data have {len(shown)} held-out captions. Give fewer.")
    chosen = [place * len(shown) // request.num for place in range(request.num)]
    low, high = request.value_range
    return replace(
        request,
        asked=[shown[place] for place in chosen],
        real=images[chosen] / 255 * (high - low) + low,
        training=datamodule.images("train")[0],
        extractor=load_extractor(default_extractor(card, request.module.data_spec)),
    )
