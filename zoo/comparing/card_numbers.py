"""Numbers of a card in words: the likelihood with its unit and kind, the protocol of FID, and times."""

import math
import re
from collections.abc import Mapping

from zoo.cards import Card

STEP = {"tokens": "character", "piano_roll": "frame", "strokes": "stroke", "video": "frame"}
KINDS = {"exact": "exact", "exact_windows_256": "exact, windows of 256", "exact_pixels": "exact"} | {
    "grid": "by quadrature",
    "ais": "AIS estimate",
    "estimate_nce": "NCE's estimate",
}

PRETRAINED = ("inception", "efficientnet_lite0")
"""Extractors of FID that others trained on photographs, whose values are not those of the zoo's classifiers."""


def tested(card: Card) -> dict[str, float]:
    """Returns the metrics of the test split by name, without the split."""
    return {name.removeprefix("test/"): value for name, value in card.metrics.items() if name.startswith("test/")}


def two_digits(value: float) -> str:
    """Returns a number below 1 with two digits that count, 0.00042."""
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}"


def likelihood(card: Card, metrics: Mapping[str, float]) -> str:
    """Returns the likelihood with its unit and its kind: exact, a bound or an estimate; empty if there is none.

    A density of dequantized images is named so, because its bits/dim are no likelihood of grey values, only a bound.
    """
    noisy = card.data_spec is not None and str(card.data_spec.get("preprocessing")).endswith("dequantized")
    of_noisy = ", dequantized" if noisy else ""
    kind = card.data_spec["kind"] if card.data_spec is not None else "image"
    pixels = card.data == "fashion_mnist_pixels"
    unit = "bits/dim" if kind == "image" or pixels else "nats" if kind == "points" else f"nats per {STEP[kind]}"
    key = {"bits/dim": "bits_per_step" if pixels else "bits_per_dim", "nats": "nll"}.get(unit, "nats_per_step")
    found = {name.partition("-")[2]: value for name, value in metrics.items() if name.partition("-")[0] == key}
    for exact, words in KINDS.items():
        if exact in found:
            return f"{found[exact]:.4g} {unit}, {words}{of_noisy}"
    for name, value in found.items():
        if match := re.fullmatch(r"estimate_ode-(\w+)", name):
            return f"{value:.4g} {unit}, estimate from {_images(match[1])}{of_noisy}"
    bounds = [match for name in found if (match := re.fullmatch(r"upper_bound_k(\d+)(?:-(\w+))?", name))]
    if not bounds:
        return ""
    best = max(bounds, key=lambda match: int(match[1]))
    few = f", {_images(best[2])}" if best[2] else ""
    return f"≤ {found[best[0]]:.4g} {unit}, bound with k = {best[1]}{few}{of_noisy}"


def _images(count: str) -> str:
    return f"{count.replace('k', ' 000')} images"


def fid_protocol(metrics: Mapping[str, float]) -> str:
    """Returns extractor and number of samples of the FID to show, ``fashion_mnist-10k``; empty if there is none.

    It is that of the most samples by a classifier of the zoo: the numbers of other extractors do not compare with it.
    """
    found = [re.fullmatch(r"fid-((\w+)-(?:10k|2k)(?:-all)?)", name) for name in metrics]
    ours = [match[1] for match in found if match and match[2].removesuffix("_binarized") not in PRETRAINED]
    return min(ours, default="")  # 10k before 2k
