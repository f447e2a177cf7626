"""Captions of tiny data, and the methods that cannot do without."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datamodules import Batch, SyntheticImages
from datamodules.captions import CaptionedSource, caption_tokens
from datamodules.loader import Source, TensorSource
from datamodules.spec import DataSpec

CAPTIONED = {"CaptionGAN"}
"""Methods of captions alone; all others that take captions can be built without."""
WORDS = ("bar", "a", "leaning", "left", "right")
CAPTIONS = ("a bar", "a bar leaning left", "a leaning bar", "bar", "a bar leaning right")
"""The captions of the examples, in turn."""


def needed(method: str) -> dict[str, Any]:
    """Returns the hyperparameters without which a method cannot be built."""
    return {"num_words": len(WORDS)} if method in CAPTIONED else {}


def with_words(spec: DataSpec) -> DataSpec:
    """Returns the spec of the same data with captions."""
    classes = tuple(place % spec.num_classes for place in range(len(CAPTIONS))) if spec.num_classes else ()
    return replace(spec, vocabulary=WORDS, captions=CAPTIONS, caption_classes=classes)


def captions_of(num: int) -> list[str]:
    """Returns the captions of so many examples."""
    return [CAPTIONS[place % len(CAPTIONS)] for place in range(num)]


def tokens_of(num: int) -> Tensor:
    """Returns the captions of so many examples as tokens, int64 (num, 4)."""
    spec = with_words(DataSpec("bars", "image", (1, 8, 8)))
    return caption_tokens([*captions_of(num), *CAPTIONS], spec)[:num]


def batch_for(method: str, x: Tensor, labels: Tensor | None = None) -> Batch:
    """Returns a batch of examples, with captions if the method cannot do without."""
    return Batch(x, labels, tokens_of(len(x)) if method in CAPTIONED else None)


class CaptionedExamples(TensorSource):
    """Examples held as one tensor, with captions."""

    def targets(self, indices: Tensor) -> dict[str, Tensor]:
        return {**super().targets(indices), "tokens": tokens_of(len(self))[indices]}


class CaptionedBars(SyntheticImages):
    """Synthetic images with captions."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.spec = with_words(self.spec)

    def read(self) -> dict[str, Source]:
        return {
            split: CaptionedSource(source, captions_of(len(source)), tokens_of(len(source)))
            for split, source in super().read().items()
        }


def condition_for(module: Any, num: int) -> Tensor | None:
    """Returns a condition of ``num`` examples, as a module of classes, captions or both takes it."""
    labels = None if module.num_classes is None else torch.arange(num) % module.num_classes
    return labels if module.num_words is None else module.caption_condition(tokens_of(num), labels)
