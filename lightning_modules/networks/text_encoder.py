"""A small transformer that reads a caption, and the one way in which classes and captions enter a network.

A network is built for a condition: a number of classes, captions, captions with classes, or none. Its ``forward`` gets
the condition of each example as whole numbers: classes (N,); tokens (N, S); or, for both, the class before the tokens,
(N, 1 + S). A layer that has a vector for each class, as ``nn.Embedding``, has for captions a linear map of their
encoding in its place, since an embedding is a linear map of a one-hot vector.

NOTE: Vectors of words are normalised before positions are added. Otherwise positions would drown words in networks that
begin with small weights, or keep them small by spectral normalisation. Positions are sinusoids, so that captions may be
longer than those of training. A caption without padding and the same one with padding have the same encoding: padding
is left out of attention and of the mean over words. What lies between several captions, (N, K, S), has the mean of
their encodings.

Attention Is All You Need (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

TEXT_FEATURES, DEPTH, HEADS = 64, 2, 4


class Captions(NamedTuple):
    """The condition of a network that takes captions.

    Attributes:
        num_words: Number of words of the vocabulary; tokens are 1 to ``num_words``, and 0 is padding.
        num_classes: Number of classes that are given with a caption, or ``None``.
    """

    num_words: int
    num_classes: int | None = None


Condition = Captions | int | None
"""What a network is built for: captions, a number of classes, or neither."""


class Words(NamedTuple):
    """The words of captions, for a network that attends to them one by one.

    Attributes:
        vectors: Of each word in its context, (N, S, features).
        hidden: Which of them are not to be seen, padding or dropped captions, bool (N, S).
    """

    vectors: Tensor
    hidden: Tensor


def condition_of(num_classes: int | None, num_words: int | None) -> Condition:
    """Returns the condition with so many classes, and captions of so many words.

    Raises:
        ValueError: If there are fewer than two classes, or ``num_words`` is not positive.
    """
    if num_classes is not None and num_classes < 2:
        raise ValueError(f"num_classes={num_classes} must be at least 2, or null for an unconditional model.")
    if num_words is None:
        return num_classes
    if num_words < 1:
        raise ValueError(f"num_words={num_words} must be at least 1, or null for a model without captions.")
    return Captions(num_words, num_classes)


def sinusoids(length: int, features: int, like: Tensor) -> Tensor:
    """Returns positions (length, features), sines and cosines of wavelengths 2 pi to 20 000 pi, of a tensor's type."""
    place = torch.arange(length, device=like.device, dtype=torch.float32)[:, None]
    rate = torch.exp(-math.log(10_000.0) / features * torch.arange(0, features, 2, device=like.device))
    return torch.stack([(place * rate).sin(), (place * rate).cos()], 2).flatten(1).to(like.dtype)


class TextEncoder(nn.Module):
    """Maps captions to one vector each, which does not depend on their padding.

    Args:
        num_words: Number of words; tokens are 1 to ``num_words``, and 0 is padding.
        features: Size of the vectors, even.
        depth: Layers of attention.
        heads: Heads of each; they divide ``features``.
    """

    def __init__(self, num_words: int, features: int = TEXT_FEATURES, depth: int = DEPTH, heads: int = HEADS) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_words + 1, features)
        self.scale = nn.LayerNorm(features)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                features, heads, 4 * features, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(features)

    def words(self, tokens: Tensor) -> Tensor:
        """Maps tokens (N, S) to a vector for each word in its context, (N, S, features); of padding they are 0."""
        padding = tokens == 0
        h = self.scale(self.embedding(tokens))
        h = h + sinusoids(tokens.shape[1], h.shape[2], h)
        for layer in self.layers:
            h = layer(h, src_key_padding_mask=padding)
        return self.norm(h).masked_fill(padding[:, :, None], 0.0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens, int64 (N, S), each row with a word before its padding, to (N, features)."""
        return mean_of(Words(self.words(tokens), tokens == 0))


def mean_of(words: Words) -> Tensor:
    """Returns the mean of each caption's words, (N, features); vectors of padding must be 0."""
    return words.vectors.sum(1) / (~words.hidden).sum(1, keepdim=True)


class ConditionEncoder(nn.Module):
    """Maps tokens (N, S), or with classes (N, 1 + S), to vectors (N, features): of the caption plus of the class.

    Several conditions of one example, (N, K, S) or (N, K, 1 + S), become the mean of their vectors.
    """

    def __init__(self, condition: Captions, features: int = TEXT_FEATURES) -> None:
        super().__init__()
        self.text = TextEncoder(condition.num_words, features)
        self.label = None if condition.num_classes is None else nn.Embedding(condition.num_classes, features)

    def with_words(self, condition: Tensor) -> tuple[Tensor, Words]:
        """Returns the vectors (N, features) of a condition (N, S) or (N, 1 + S), and the words of its captions."""
        tokens = condition if self.label is None else condition[:, 1:]
        words = Words(self.text.words(tokens), tokens == 0)
        vector = mean_of(words)
        return vector if self.label is None else vector + self.label(condition[:, 0]), words

    def forward(self, condition: Tensor) -> Tensor:
        """Maps the condition, int64, to (N, features)."""
        if condition.ndim == 3:
            return self(condition.flatten(0, 1)).unflatten(0, condition.shape[:2]).mean(1)
        return self.with_words(condition)[0]


def condition_encoder(condition: Condition) -> nn.Module:
    """Returns what a network with several ``vectors_of`` does first with a condition: classes stay as they are."""
    return ConditionEncoder(condition) if isinstance(condition, Captions) else nn.Identity()


def vectors_of(condition: Condition, features: int) -> nn.Embedding | nn.Linear | None:
    """Returns a map of the condition, as ``condition_encoder`` leaves it, to vectors (N, features)."""
    if isinstance(condition, Captions):
        return nn.Linear(TEXT_FEATURES, features)
    return None if condition is None else nn.Embedding(condition, features)


def embedding_of(condition: Condition, features: int) -> nn.Module | None:
    """Returns a map of the condition itself to vectors (N, features), for a network that has one alone."""
    if isinstance(condition, Captions):
        return nn.Sequential(ConditionEncoder(condition), nn.Linear(TEXT_FEATURES, features))
    return vectors_of(condition, features)
