"""Adversarial games: the losses that both players minimise, as functions of logits l = log D - log(1 - D).

Two identities are used throughout, exact and stable for any logit: ``softplus(-l) = -log D`` and
``softplus(l) = -log(1 - D)``. Every function returns a mean over the batch.

NOTE: eq. 1.38 and 1.39 of the text differ only in the position of one minus sign in the generator's loss; compare
``saturating`` with ``non_saturating``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus


class Game(NamedTuple):
    """A pair of losses: the min over the generator of the sup over the discriminator in eq. 1.37.

    Attributes:
        discriminator: Maps (real logits, fake logits), each of shape (batch,), to the discriminator's loss, a scalar.
        generator: Maps fake logits, shape (batch,), to the generator's loss, a scalar; in a relativistic game it maps
            (real logits, fake logits).
        relativistic: Whether the generator's loss compares each fake with a real example. In a class-conditional game
            both then have the same class.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[..., Tensor]
    relativistic: bool = False

    def generator_loss(self, fake: Tensor, real: Tensor | None) -> Tensor:
        """Returns the generator's loss; ``real`` logits are needed in a relativistic game."""
        return self.generator(real, fake) if self.relativistic else self.generator(fake)


def in_full_precision(logits: Tensor) -> Tensor:
    """Returns half-precision logits as float32, because a half-precision mean is rounded to three digits."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))), eq. 1.38 with the opposite sign (Goodfellow et al., 2014)."""
    return softplus(-real).mean() + softplus(fake).mean()


def saturating(fake: Tensor) -> Tensor:
    """E log(1 - D(G(z))), eq. 1.38: its gradient vanishes where D(G(z)) is near 0."""
    return -softplus(fake).mean()


def non_saturating(fake: Tensor) -> Tensor:
    """-E log D(G(z)), eq. 1.39: its gradient by the logit has magnitude near 1 where D(G(z)) is near 0."""
    return softplus(-fake).mean()


def wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    """-(E f(x) - E f(G(z))) for a critic f, the dual of W1 in eq. 1.41 (Arjovsky et al., 2017)."""
    return fake.mean() - real.mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - f(x)) + E max(0, 1 + f(G(z))) (Lim & Ye, 2017; Miyato et al., 2018, eq. 16)."""
    return relu(1 - real).mean() + relu(1 + fake).mean()


def linear(fake: Tensor) -> Tensor:
    """-E f(G(z)), the generator's loss in both the Wasserstein and the hinge game."""
    return -fake.mean()


def least_squares(real: Tensor, fake: Tensor) -> Tensor:
    """(E (D(x) - 1)^2 + E D(G(z))^2) / 2 (Mao et al., 2017, eq. 9 with a = 0 and b = 1)."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def least_squares_to_real(fake: Tensor) -> Tensor:
    """E (D(G(z)) - 1)^2 / 2 (Mao et al., 2017, eq. 9 with c = 1)."""
    return (fake - 1).square().mean() / 2


def real_above_fake(real: Tensor, fake: Tensor) -> Tensor:
    """E softplus(-(D(x) - D(G(z)))), one real example to each fake (Jolicoeur-Martineau, 2018)."""
    return softplus(fake - real).mean()


def fake_above_real(real: Tensor, fake: Tensor) -> Tensor:
    """E softplus(-(D(G(z)) - D(x))), the generator's loss in the relativistic pairing game."""
    return softplus(real - fake).mean()


MINIMAX = Game(cross_entropy, saturating)
NON_SATURATING = Game(cross_entropy, non_saturating)
WASSERSTEIN = Game(wasserstein, linear)
HINGE = Game(hinge, linear)
LEAST_SQUARES = Game(least_squares, least_squares_to_real)
RELATIVISTIC = Game(real_above_fake, fake_above_real, relativistic=True)

GAMES = {
    "minimax": MINIMAX,
    "non_saturating": NON_SATURATING,
    "wasserstein": WASSERSTEIN,
    "hinge": HINGE,
    "least_squares": LEAST_SQUARES,
    "relativistic": RELATIVISTIC,
}
CROSS_ENTROPY_GAMES = ("minimax", "non_saturating")
"""Names of the games whose logits are those of a probability D."""
