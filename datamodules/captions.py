"""Captions of examples as tokens: whole words, padded at the end."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from datamodules.loader import Source
from datamodules.spec import DataSpec, words_of


def words_in(captions: Iterable[str]) -> tuple[str, ...]:
    """Returns the words of captions, each once, the most frequent first and those of one frequency sorted."""
    counts = Counter(word for caption in captions for word in words_of(caption))
    return tuple(sorted(counts, key=lambda word: (-counts[word], word)))


def caption_tokens(captions: Sequence[str], spec: DataSpec) -> Tensor:
    """Returns captions as tokens, int64 (N, S), padded with 0 to the S of the longest; see ``DataSpec.tokens``."""
    return padded([spec.tokens(caption) for caption in captions])


def padded(tokens: Sequence[Sequence[int]]) -> Tensor:
    """Returns lists of tokens as one tensor, int64 (N, S), padded with 0 to the S of the longest."""
    found = torch.zeros(len(tokens), max(map(len, tokens), default=0), dtype=torch.int64)
    for row, values in zip(found, tokens, strict=True):
        row[: len(values)] = torch.tensor(values)
    return found


class CaptionedSource:
    """Examples of another source, each with its caption.

    Args:
        source: The examples.
        captions: The caption of each.
        tokens: These as tokens, int64 (N, S).
        attributes: Attributes of the examples as batches have them, int64 (N, A), or ``None`` to yield none.

    Raises:
        ValueError: If there is not one caption per example.
    """

    def __init__(
        self, source: Source, captions: Sequence[str], tokens: Tensor, attributes: Tensor | None = None
    ) -> None:
        if not len(source) == len(captions) == len(tokens):
            raise ValueError(f"{len(source)} examples need as many captions, got {len(captions)}.")
        self.source, self.captions, self.tokens = source, tuple(captions), tokens
        self.attributes = attributes
        self.labels, self.shape = source.labels, source.shape

    def __len__(self) -> int:
        return len(self.source)

    def for_epoch(self, epoch: int) -> "CaptionedSource":
        """Returns itself: the same examples in every epoch."""
        return self

    def order(self, generator: torch.Generator, size: int) -> Tensor:
        """Returns the order of the source."""
        return self.source.order(generator, size)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the examples at each tensor of indices."""
        return self.source.stream(batches)

    def targets(self, indices: Tensor) -> dict[str, Tensor]:
        """Returns the fields of the source, the tokens of the captions, and the attributes where there are any."""
        found = {**self.source.targets(indices), "tokens": self.tokens.index_select(0, indices)}
        return found if self.attributes is None else {**found, "attributes": self.attributes.index_select(0, indices)}
