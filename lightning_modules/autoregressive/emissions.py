"""Output layers of sequence models: they map features of the past to the conditional distribution of the next step.

Each emission also embeds steps as inputs of the network, computes log p(x_t | x_<t) of a whole sequence at once, and
samples one step. All have the same interface, so that every sequence method works with every kind of data:

    embed(x)                          steps (N, T, ...) -> inputs of the network (N, T, ...)
    start(num, device)                the input before the first step, (num, 1, ...)
    log_prob(features, x)             nats, (N, T)
    sample(features, uniform, ...)    one step (N, 1, ...); ``uniform(*shape)`` returns uniform samples in [0, 1)
    problem_with(x)                   a sentence that names an invalid value, or None
    ends_with(step)                   optional: whether a step (N, 1, ...) is the last of its sequence, bool (N,)
    steps(x)                          valid steps of any type, in the type in which the emission samples
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.parts.likelihoods import not_binary
from lightning_modules.parts.precision import in_finest, in_single

Uniform = Callable[..., Tensor]
NOTES = "in a frame of notes 0 is silence and 1 a note, whatever its velocity"


class Categorical(nn.Module):
    """One of V symbols; the additional symbol V is the first input.

    Args:
        vocabulary_size: V.
        embedding: Size of a symbol's embedding.
        features: Size of the network's features.
    """

    def __init__(self, vocabulary_size: int, embedding: int, features: int) -> None:
        super().__init__()
        self.size = vocabulary_size
        self.symbols = nn.Embedding(vocabulary_size + 1, embedding)
        self.head = nn.Linear(features, vocabulary_size)
        self.in_features = embedding

    def start(self, num: int, device: torch.device) -> Tensor:
        """Returns the first input of every sequence, the symbol V."""
        return torch.full((num, 1), self.size, dtype=torch.long, device=device)

    def embed(self, x: Tensor) -> Tensor:
        """Maps symbols (N, T) to (N, T, embedding)."""
        return self.symbols(x)

    def steps(self, x: Tensor) -> Tensor:
        """Returns symbols as int64."""
        return x.long()

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        """Returns log p of each symbol, nats, (N, T)."""
        return -F.cross_entropy(self.head(features).transpose(1, 2), x, reduction="none")

    def sample(
        self,
        features: Tensor,
        uniform: Uniform,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """Samples a symbol (N, 1) by inverse transform sampling."""
        logits = restricted(in_single(self.head(features[:, -1])) / temperature, top_k, top_p)
        cumulative = in_finest(logits).softmax(1).cumsum(1)
        thresholds = uniform(len(features), 1).to(cumulative) * cumulative[:, -1:]
        return torch.searchsorted(cumulative, thresholds, right=True).clamp(max=self.size - 1)

    def problem_with(self, x: Tensor) -> str | None:
        """Names numbers that are not symbols, if there are any."""
        if x.is_floating_point():
            return f"it was built for {self.size} symbols, which are integers, but a batch is of {x.dtype}."
        least, most = x.long().aminmax()  # not every integer type can be compared
        if least >= 0 and most < self.size:
            return None
        return f"it was built for {self.size} symbols, but a batch of {x.dtype} spans [{least}, {most}]."


def restricted(logits: Tensor, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Excludes all but the most likely symbols.

    Args:
        logits: (N, V).
        top_k: Keeps the k most likely (Fan et al., 2018).
        top_p: Keeps the fewest whose probabilities sum to at least p: nucleus sampling
            (Holtzman et al., 2020, https://arxiv.org/abs/1904.09751).

    Returns:
        The logits, minus infinity where a symbol is excluded.
    """
    if top_k is not None and top_k < logits.shape[1]:
        least = logits.topk(top_k, 1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(1, descending=True)
        before = ordered.softmax(1).cumsum(1) - ordered.softmax(1)
        logits = logits.masked_fill((before >= top_p).gather(1, order.argsort(1)), -math.inf)
    return logits


class IndependentNotes(nn.Module):
    """Independent Bernoulli variables for the notes of a frame, as in published results of plain RNNs.

    Args:
        notes: Notes in a frame, 88.
        embedding: Size of a frame's embedding.
        features: Size of the network's features.
    """

    def __init__(self, notes: int, embedding: int, features: int) -> None:
        super().__init__()
        self.notes = notes
        self.frames = nn.Linear(notes, embedding)
        self.head = nn.Linear(features, notes)
        self.in_features = embedding

    def start(self, num: int, device: torch.device) -> Tensor:
        """Returns the first input, silence."""
        return torch.zeros(num, 1, self.notes, device=device)

    def embed(self, x: Tensor) -> Tensor:
        """Maps frames (N, T, notes) to (N, T, embedding)."""
        return self.frames(x.to(self.frames.weight.dtype))

    def steps(self, x: Tensor) -> Tensor:
        """Returns frames in the type of the weights, or in float32 where that is coarser."""
        return in_single(x.to(self.frames.weight.dtype))

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        """Returns log p of each frame, nats, (N, T)."""
        logits = self.head(features)
        return (x * logits - F.softplus(logits)).sum(2)

    def sample(self, features: Tensor, uniform: Uniform, temperature: float = 1.0) -> Tensor:
        """Samples a frame (N, 1, notes)."""
        on = torch.sigmoid(in_single(self.head(features[:, -1:])) / temperature)
        return (uniform(*on.shape) < on).to(on.dtype)

    def problem_with(self, x: Tensor) -> str | None:
        """Names a value that is neither 0 (silence) nor 1 (a note), if there is one."""
        return not_binary(x, NOTES)


class NADENotes(nn.Module):
    """The notes of a frame, each given the lower ones: a NADE whose biases depend on the past (RNN-NADE).

    p(x) = prod_d p(x_d | x_<d), with p(x_d = 1 | x_<d) = sigmoid(b_d + V_d h_d), h_d = sigmoid(c + W_<d x_<d), and b
    and c linear in the features of the past.

    Args:
        notes: Notes in a frame, 88, from the lowest to the highest.
        embedding: Size of a frame's embedding.
        features: Size of the network's features.
        hidden: Units of the NADE.

    Larochelle and Murray (2011), https://proceedings.mlr.press/v15/larochelle11a.html;
    Boulanger-Lewandowski et al. (2012), https://arxiv.org/abs/1206.6392
    """

    def __init__(self, notes: int, embedding: int, features: int, hidden: int = 128) -> None:
        super().__init__()
        self.notes = notes
        self.frames = nn.Linear(notes, embedding)
        self.visible_bias, self.hidden_bias = nn.Linear(features, notes), nn.Linear(features, hidden)
        self.encode = nn.Parameter(torch.randn(notes, hidden) * 0.05)
        self.decode = nn.Parameter(torch.randn(notes, hidden) / math.sqrt(hidden))
        self.in_features = embedding

    def start(self, num: int, device: torch.device) -> Tensor:
        """Returns the first input, silence."""
        return torch.zeros(num, 1, self.notes, device=device)

    def embed(self, x: Tensor) -> Tensor:
        """Maps frames (N, T, notes) to (N, T, embedding)."""
        return self.frames(x.to(self.frames.weight.dtype))

    def steps(self, x: Tensor) -> Tensor:
        """Returns frames in the type of the weights, or in float32 where that is coarser."""
        return in_single(x.to(self.frames.weight.dtype))

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        """Returns log p of each frame, nats, (N, T).

        h_d changes only at a note that sounds. A frame has few of these, so only those h are computed, all logits of
        each in one product, and each note's logit is taken from the row for the number of notes that sound below it.
        """
        below = x.cumsum(2) - x
        rank = torch.arange(self.notes, 0, -1, device=x.device)
        sounding, notes = (x * rank).topk(int(x.sum(2).max()), dim=2)  # from the lowest note to the highest
        steps = F.embedding(notes, self.encode) * (sounding > 0).unsqueeze(3)
        bias = self.hidden_bias(features).unsqueeze(2)
        h = torch.sigmoid(torch.cat([bias, bias + steps.cumsum(2)], 2))  # (N, T, sounding + 1, hidden)
        logits = self.visible_bias(features) + (h @ self.decode.t()).gather(2, below.long().unsqueeze(2)).squeeze(2)
        return (x * logits - F.softplus(logits)).sum(2)

    def sample(self, features: Tensor, uniform: Uniform, temperature: float = 1.0) -> Tensor:
        """Samples a frame (N, 1, notes), note by note."""
        activation, bias = self.hidden_bias(features[:, -1]), self.visible_bias(features[:, -1])
        numbers, notes = uniform(len(features), self.notes), []
        for d in range(self.notes):
            logit = bias[:, d] + torch.sigmoid(activation) @ self.decode[d]
            note = (numbers[:, d] < torch.sigmoid(in_single(logit) / temperature)).to(activation.dtype)
            activation = activation + note[:, None] * self.encode[d]
            notes.append(note)
        return in_single(torch.stack(notes, 1).unsqueeze(1))

    def problem_with(self, x: Tensor) -> str | None:
        """Names a value that is neither 0 (silence) nor 1 (a note), if there is one."""
        return not_binary(x, NOTES)
