"""Adversarial games: what each player minimises, written on raw logits l = log D - log(1 - D).

Two identities are used throughout, exact and stable for any logit: ``softplus(-l) = -log D`` and
``softplus(l) = -log(1 - D)``. Every function returns a mean over the batch.

NOTE: eq. 1.38 and 1.39 of the text differ by where one minus sign stands in the generator's loss, and by
nothing else; compare ``saturating`` with ``non_saturating``.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import relu, softplus


class Game(NamedTuple):
    """A pair of losses.

    Args:
        discriminator: (real logits, fake logits), each of shape (batch,), to the scalar it minimises.
        generator: fake logits, shape (batch,), to the scalar it minimises.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))), eq. 1.37 with its sign turned (Goodfellow et al., 2014)."""
    return softplus(-real).mean() + softplus(fake).mean()


def saturating(fake: Tensor) -> Tensor:
    """E log(1 - D(G(z))), eq. 1.38: its gradient vanishes where the discriminator is sure."""
    return -softplus(fake).mean()


def non_saturating(fake: Tensor) -> Tensor:
    """-E log D(G(z)), eq. 1.39: its gradient stays near 1 where the discriminator is sure."""
    return softplus(-fake).mean()


def wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    """-(E f(x) - E f(G(z))) for a critic f, the dual of W1 (Arjovsky et al., 2017, eq. 2)."""
    return fake.mean() - real.mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - f(x)) + E max(0, 1 + f(G(z))) (Lim & Ye, 2017; Miyato et al., 2018, eq. 16)."""
    return relu(1 - real).mean() + relu(1 + fake).mean()


def linear(fake: Tensor) -> Tensor:
    """-E f(G(z)), the generator of both the Wasserstein and the hinge game."""
    return -fake.mean()


MINIMAX = Game(cross_entropy, saturating)
NON_SATURATING = Game(cross_entropy, non_saturating)
WASSERSTEIN = Game(wasserstein, linear)
HINGE = Game(hinge, linear)

GAMES = {"minimax": MINIMAX, "non_saturating": NON_SATURATING, "wasserstein": WASSERSTEIN, "hinge": HINGE}
