"""Networks that take a condition, such as class labels, as their second argument, and those that take x alone."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_modules.parts.batch_statistics import BatchStatistics


def takes_condition(network: nn.Module) -> bool:
    """Returns whether ``network(x, condition)`` is possible; an ``nn.Sequential`` takes x alone."""
    forward = without_compile(network).forward
    return _takes_two(getattr(forward, "__func__", forward), hasattr(forward, "__func__"))


def without_compile(network: nn.Module) -> nn.Module:
    """Returns the network that ``torch.compile(network)`` has wrapped, or the network itself."""
    inner: nn.Module = getattr(network, "_orig_mod", network)
    return inner


def is_compiled(network: nn.Module) -> bool:
    """Returns whether a call of the network is compiled, by ``torch.compile(network)`` or ``network.compile()``."""
    return network._compiled_call_impl is not None or without_compile(network) is not network


def given_condition(network: nn.Module, x: Tensor, condition: Tensor | None) -> Tensor:
    """Returns ``network(x, condition)``, or ``network(x)`` for a network that takes no condition and gets none."""
    return network(x) if condition is None and not takes_condition(network) else network(x, condition)


def logits_of(network: nn.Module, x: Tensor, condition: Tensor | None) -> Tensor:
    """Returns the network's output, where (N, 1), as the (N,) that losses take."""
    logits = given_condition(network, x, condition)
    return logits.squeeze(1) if logits.ndim == 2 else logits


def conditioned(network: nn.Module, condition: Tensor | None, x: Tensor) -> Tensor:
    """Returns the network's output for x and the condition (int64 (N, ...), or ``None``), without ``torch.compile``."""
    forward = without_compile(network).forward
    output: Tensor = forward(x, condition) if takes_condition(network) else forward(x)
    return output


def has_batch_norm(network: nn.Module) -> bool:
    """Returns whether an example's output depends on the others of its batch, by batch normalisation."""
    return any(isinstance(layer, _BatchNorm) for layer in network.modules())


def mixes_examples(network: nn.Module) -> bool:
    """Returns whether a layer says of itself that an example's output depends on the others of its batch."""
    return any(getattr(layer, "mixes_examples", False) for layer in network.modules())


@dataclass(frozen=True)
class Conditioned:
    """A network with the condition of a batch, as penalties take it: a function of x alone, not compiled.

    Args:
        network: Takes x and a condition, or x alone.
        labels: Condition, int64 (N, ...), of the codes or of the real examples; ``None`` without one.
        fake_labels: That of the generated examples, for a discriminator.
        statistics: Those of the batch that the game has computed, for a generator, or ``None``.
    """

    network: nn.Module
    labels: Tensor | None
    fake_labels: Tensor | None = None
    statistics: BatchStatistics | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Returns the network's output for N examples or codes x, each with its label."""
        return conditioned(self.network, self.labels, x)

    def of_fakes(self) -> "Conditioned":
        """Returns the network with the labels of the generated examples."""
        return Conditioned(self.network, self.fake_labels)

    def every(self, stride: int) -> "Conditioned":
        """Returns the network with the labels of the examples 0, stride, 2 * stride, ..."""
        return self if self.labels is None else replace(self, labels=self.labels[::stride])

    def recording(self, x: Tensor) -> tuple[Tensor, "Conditioned"]:
        """Returns the network's output for x, and the network with the statistics of this batch."""
        statistics = BatchStatistics(self.network)
        with statistics.recorded():
            return self(x), replace(self, statistics=statistics)

    def by_statistics(self, x: Tensor) -> Tensor:
        """Returns the network's output for x, normalised by the statistics of the batch that they were recorded of."""
        assert self.statistics is not None
        with self.statistics.applied():
            return self(x)


@dataclass(frozen=True)
class PairCritic:
    """A discriminator of pairs (x, z), as penalties take it: a function of vectors (x, z), not compiled.

    Args:
        network: Takes examples (N, *shape) and codes (N, latent_dim).
        shape: Shape of an example.
    """

    network: nn.Module
    shape: Sequence[int]

    def __call__(self, vectors: Tensor) -> Tensor:
        """Returns the network's output for N vectors of ``as_vectors``."""
        size = math.prod(self.shape)
        return conditioned(self.network, vectors[:, size:], vectors[:, :size].unflatten(1, self.shape))


def as_vectors(x: Tensor, z: Tensor) -> Tensor:
    """Returns each pair of an example (N, *shape) and a code (N, latent_dim) as one vector, (N, size + latent_dim)."""
    return torch.cat([x.flatten(1), z.to(x.dtype)], 1)


def check_takes_labels(num_classes: int | None, *networks: nn.Module, num_words: int | None = None) -> None:
    """Raises ValueError if there are classes, or words of captions, and a network whose forward takes x alone."""
    given = {"num_classes": num_classes, "num_words": num_words}
    name, value = next(((name, value) for name, value in given.items() if value is not None), (None, None))
    if name is not None and not all(map(takes_condition, networks)):
        raise ValueError(f"{name}={value} needs networks whose forward takes (x, labels); one of these takes x alone.")


@lru_cache(maxsize=64)
def _takes_two(forward: Callable[..., Any], bound: bool) -> bool:
    kinds = [p.kind for p in inspect.signature(forward).parameters.values()]
    places = sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)
    return places - bound >= 2 or inspect.Parameter.VAR_POSITIONAL in kinds
