"""Penalties on the players of a game, with their weights.

A penalty on the discriminator is a function of the norm of its input gradient at certain points:
``(critic, real, fake, noise) -> scalar``. A penalty on the generator is a function of the generator and the codes of a
batch: ``(generator, z, noise) -> scalar``. Each is an unweighted mean over examples of a per-example quantity. They
assume that the network treats examples independently, which is not so with batch normalisation.

A penalty may have a second form, ``of_outputs``, which takes what the game has computed already in place of passes of
its own, and is then differentiated together with the loss of the game.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.parts.conditions import Conditioned, has_batch_norm, is_compiled, mixes_examples
from lightning_modules.parts.double_backward import fast_double_backward, input_gradient
from lightning_modules.parts.noise import Noise

LOSSES = ("discriminator", "generator", "generator_and_encoder", "interpolation")
"""Names of losses of games, which a penalty of the same name would replace."""

Critic = Callable[[Tensor], Tensor]
Penalty = Callable[[Critic, Tensor, Tensor, Noise], Tensor]
GeneratorPenalty = Callable[[Callable[[Tensor], Tensor], Tensor, Noise], Tensor]


class WeightedTerm(NamedTuple):
    """A penalty with its weight in a loss.

    Attributes:
        weight: Its weight, or a function of the number of earlier batches; at least 0.
        term: The penalty.
        every: Period in critic batches, or in steps of the generator: the penalty is computed once per period, with
            its weight times the period (lazy regularisation; Karras et al., 2020, https://arxiv.org/abs/1912.04958).
    """

    weight: float | Callable[[int], float]
    term: Callable[..., Tensor]
    every: int = 1

    def weight_at(self, step: int, count: int | None = None) -> float:
        """Returns the weight in the batch after ``step`` others; 0 where the penalty is not computed.

        Args:
            step: Number of earlier batches.
            count: Number of earlier steps of the player, if its steps are not the batches.

        Raises:
            ValueError: If the weight is a function that returns a negative number.
        """
        if ((step if count is None else count) + 1) % self.every:
            return 0.0
        weight = self.weight(step) if callable(self.weight) else self.weight
        if not weight >= 0:
            raise ValueError(f"The weight of a penalty is {weight} after {step} batches; it must be at least 0.")
        return self.every * weight


def weighted_terms(terms: Mapping[str, Any] | None) -> dict[str, WeightedTerm]:
    """Returns penalties by name, given each as a ``WeightedTerm`` or as ``(weight, penalty)``.

    Raises:
        ValueError: If a weight is negative or not finite, a period below 1, or a name that of a loss of the game.
    """
    found = {name: WeightedTerm(*term) for name, term in (terms or {}).items()}
    for name, term in found.items():
        if name in LOSSES:
            raise ValueError(f"A penalty is named {name}, as a loss of the game is; give it another name.")
        if term.every < 1 or (not callable(term.weight) and not 0 <= term.weight < math.inf):
            raise ValueError(
                f"The penalty {name} has weight={term.weight}, which must be finite and at least 0, and "
                f"every={term.every}, which must be at least 1."
            )
    return found


def periods(penalties: Mapping[str, WeightedTerm]) -> dict[str, int]:
    """Returns the period of each penalty by name."""
    return {name: penalty.every for name, penalty in penalties.items()}


def check_penalised(penalties: Mapping[str, WeightedTerm], discriminator: nn.Module) -> None:
    """Raises ValueError if there are penalties on a discriminator with batch normalisation."""
    if penalties and has_batch_norm(discriminator):
        raise ValueError(
            f"The penalty {', '.join(penalties)} is a mean over independent examples, but batch normalisation "
            "in the discriminator makes them depend on each other; build it without (batch_norm=false)."
        )


DueTerms = dict[str, tuple[float, Any]]
"""Name to weight and penalty."""


def due_terms(penalties: Mapping[str, WeightedTerm], step: int, count: int | None = None) -> DueTerms:
    """Returns by name the weight and the term of the penalties that are due; arguments as in ``weight_at``."""
    due = {name: (penalty.weight_at(step, count), penalty.term) for name, penalty in penalties.items()}
    return {name: (weight, term) for name, (weight, term) in due.items() if weight}


def sharing(due: DueTerms, network: nn.Module, device: torch.device) -> DueTerms:
    """Returns the penalties that take the game's own pass.

    There are none where it is in half precision or compiled, or where a layer would mix real and generated examples.
    """
    if torch.is_autocast_enabled(device.type) or is_compiled(network) or mixes_examples(network):
        return {}
    return {name: pair for name, pair in due.items() if hasattr(pair[1], "of_outputs")}


def own_terms(due: DueTerms, shared: Mapping[str, Tensor], device: torch.device, *arguments: Any) -> dict[str, Tensor]:
    """Returns the penalties that are due and not among ``shared``, times their weights, computed in float32."""
    with torch.autocast(device.type, enabled=False):
        return {name: weight * term(*arguments) for name, (weight, term) in due.items() if name not in shared}


def logits_and_gradients(critic: Critic, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns critic(x), (batch,), and its gradient by x, (batch, size), differentiable in the critic's weights."""
    x = x.detach().requires_grad_()
    with fast_double_backward():
        logits = critic(x)
        value = logits.sum()
    return logits.reshape(len(x)), input_gradient(value, x).flatten(1)


def gradient_norm(critic: Critic, x: Tensor) -> Tensor:
    """Returns ``||d critic(x) / dx||_2`` of each example, shape (batch,), differentiable in the critic's weights.

    The square root is taken of sum + 1e-12, because its derivative at an exactly zero gradient would be NaN.
    """
    _, gradient = logits_and_gradients(critic, x)
    return (gradient.square().sum(1) + 1e-12).sqrt()


def at_fakes(critic: Critic) -> Critic:
    """Returns the critic with the class labels of the generated examples in place of those of the real ones."""
    return critic.of_fakes() if isinstance(critic, Conditioned) else critic


def on_segment(real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
    """Returns one uniformly distributed point on the segment from each real example to its fake partner."""
    t = noise.uniform(len(real), *[1] * (real.ndim - 1), device=real.device).to(real.dtype)
    return torch.lerp(real, fake, t)


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
    """E (||grad f|| - 1)^2 between real and fake (Gulrajani et al., 2017, eq. 3)."""
    return (gradient_norm(critic, on_segment(real, fake, noise)) - 1).square().mean()


def r1(critic: Critic, real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
    """E ||grad f||^2 / 2 on real data (Mescheder et al., 2018, eq. 9)."""
    return gradient_norm(critic, real).square().mean() / 2


def r2(critic: Critic, real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
    """E ||grad f||^2 / 2 on generated data (Mescheder et al., 2018, eq. 10)."""
    return gradient_norm(at_fakes(critic), fake).square().mean() / 2


class Roth:
    """(E (1 - D(x))^2 ||grad phi(x)||^2 + E D(G(z))^2 ||grad phi(G(z))||^2) / 2 with logits phi and D = sigmoid(phi).

    Where the discriminator is optimal it is what noise N(0, gamma I) on all inputs adds to the cross-entropy, to second
    order in the noise and divided by gamma (Roth et al., 2017, eq. 21), so it belongs to the games of that loss.
    """

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
        """Computes it by passes of its own."""
        parts = [logits_and_gradients(critic, real), logits_and_gradients(at_fakes(critic), fake)]
        logits, gradient = (torch.cat(part) for part in zip(*parts, strict=True))
        return self.of_gradients(logits, gradient)

    def of_outputs(self, examples: Tensor, logits: Tensor) -> Tensor:
        """Computes it from the game's own pass.

        Args:
            examples: As many real as generated examples, in this order, (2N, ...), of which gradients are taken.
            logits: Of these, (2N,), computed inside of ``fast_double_backward``.
        """
        return self.of_gradients(logits, input_gradient(logits.sum(), examples).flatten(1))

    def of_gradients(self, logits: Tensor, gradient: Tensor) -> Tensor:
        """Computes it from logits (2N,) and their gradients (2N, size), the first N of real examples."""
        on_real, on_fake = logits.chunk(2)
        weights = torch.cat([(-on_real).sigmoid(), on_fake.sigmoid()]).square()
        return (weights * gradient.square().sum(1)).mean()


roth = Roth()


PENALTIES: dict[str, Penalty] = {"gradient_penalty": gradient_penalty, "r1": r1, "r2": r2, "roth": roth}
