"""The law of the next stroke: a mixture of correlated Gaussians for where the pen goes, and a coin for lifting it.

It has the interface of ``autoregressive.emissions``. A step is (dx, dy, pen), with pen in {0, 1}.

Generating Sequences With Recurrent Neural Networks (Graves, 2013), https://arxiv.org/abs/1308.0850, eq. 15 to 26
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MIN_LOG_SIGMA = math.log(1e-3)
"""Floor of the standard deviations, in the units of the data: without one, repeated offsets would have no maximum."""
MAX_SLANT = 8.0
"""Bound of artanh(rho): rho stays below 1 - 2.2e-7, which float32 tells from 1."""


class StrokeLaw(NamedTuple):
    """The law of a step, for each step: (..., K) for the K components, (...) for the pen.

    Args:
        log_weight: log pi.
        mean_x: Mean of dx.
        mean_y: Mean of dy.
        log_sigma_x: Logarithm of the standard deviation of dx.
        log_sigma_y: Logarithm of the standard deviation of dy.
        slant: artanh(rho), of the correlation rho of dx and dy.
        pen: log p / (1 - p), of the probability p that the pen is lifted.
    """

    log_weight: Tensor
    mean_x: Tensor
    mean_y: Tensor
    log_sigma_x: Tensor
    log_sigma_y: Tensor
    slant: Tensor
    pen: Tensor

    def at_temperature(self, temperature: float) -> "StrokeLaw":
        """Divides logits and multiplies variances, as sketch-rnn does (Ha and Eck, 2017, section 3.4)."""
        wider = 0.5 * math.log(temperature)
        return self._replace(
            log_weight=F.log_softmax(self.log_weight / temperature, -1),
            log_sigma_x=self.log_sigma_x + wider,
            log_sigma_y=self.log_sigma_y + wider,
            pen=self.pen / temperature,
        )


def offset_log_density(law: StrokeLaw, dx: Tensor, dy: Tensor) -> Tensor:
    """Returns log sum_k pi_k N(dx, dy; mu_k, sigma_k, rho_k), nats, of the shape of ``dx``.

    With rho = tanh(s), 1 / sqrt(1 - rho^2) = cosh(s), and the quadratic form of a component is
    u^2 + (v cosh(s) - u sinh(s))^2, where u and v are the standardised offsets: nothing cancels however close rho is
    to 1.
    """
    u = (dx.unsqueeze(-1) - law.mean_x) * torch.exp(-law.log_sigma_x)
    v = (dy.unsqueeze(-1) - law.mean_y) * torch.exp(-law.log_sigma_y)
    cosh = torch.cosh(law.slant)
    rest = v * cosh - u * torch.sinh(law.slant)
    log_determinant = law.log_sigma_x + law.log_sigma_y - cosh.log()
    component = -0.5 * (u.square() + rest.square()) - log_determinant - math.log(2 * math.pi)
    return torch.logsumexp(law.log_weight + component, -1)


class StrokeMixture(nn.Module):
    """K bivariate Gaussians and a Bernoulli variable, 6 K + 1 numbers a step.

    pi = softmax, sigma = exp with the floor ``MIN_LOG_SIGMA``, rho = tanh of a number bounded by ``MAX_SLANT``. All is
    computed in the precision of the weights: under mixed precision, too, a mean needs more digits than bfloat16 has.

    Args:
        num_components: K.
        features: Size of the network's features.
    """

    def __init__(self, num_components: int, features: int) -> None:
        super().__init__()
        self.num_components = num_components
        self.head = nn.Linear(features, 6 * num_components + 1)
        self.in_features = 3

    def start(self, num: int, device: torch.device) -> Tensor:
        """Returns a lifted pen that has not moved."""
        return torch.tensor([0.0, 0.0, 1.0], device=device).expand(num, 1, 3)

    def embed(self, x: Tensor) -> Tensor:
        """Returns the strokes, which the network reads as they are."""
        return x

    def law(self, features: Tensor) -> StrokeLaw:
        """Returns the law of the steps (N, T) that follow features (N, T, ...)."""
        with torch.autocast(features.device.type, enabled=False):
            numbers = self.head(features.to(self.head.weight.dtype))
        logits, mean_x, mean_y, log_sigma_x, log_sigma_y, slant = numbers[..., 1:].chunk(6, -1)
        return StrokeLaw(
            F.log_softmax(logits, -1),
            mean_x,
            mean_y,
            log_sigma_x.clamp(min=MIN_LOG_SIGMA),
            log_sigma_y.clamp(min=MIN_LOG_SIGMA),
            slant.clamp(-MAX_SLANT, MAX_SLANT),
            numbers[..., 0],
        )

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        """Returns the log-density of each offset plus log P of its pen, nats, (N, T)."""
        law = self.law(features)
        return offset_log_density(law, x[..., 0], x[..., 1]) + x[..., 2] * law.pen - F.softplus(law.pen)

    def sample(self, features: Tensor, uniform: Callable[..., Tensor], temperature: float = 1.0) -> Tensor:
        """Draws a stroke (N, 1, 3): a component by the inverse of its distribution function, offsets by Box-Muller.

        Args:
            features: Shape (N, 1, ...).
            uniform: ``uniform(*shape)`` gives draws from [0, 1).
            temperature: Divides the logits of components and pen, and multiplies the variances. Towards 0 it leaves
                the mean of the likeliest component, and the likelier state of the pen.
        """
        law = StrokeLaw(*(values[:, -1] for values in self.law(features))).at_temperature(temperature)
        choice, radius, angle, coin = uniform(len(features), 4).to(law.pen).unbind(1)
        cumulative = law.log_weight.double().exp().cumsum(1)
        component = torch.searchsorted(cumulative, choice.double()[:, None] * cumulative[:, -1:], right=True)
        component = component.clamp(max=self.num_components - 1)
        chosen = (values.gather(1, component).squeeze(1) for values in law[:-1])
        _, mean_x, mean_y, log_sigma_x, log_sigma_y, slant = chosen
        distance = torch.sqrt(-2 * torch.log1p(-radius))  # of 1 - radius, which is never 0
        first, second = distance * torch.cos(2 * math.pi * angle), distance * torch.sin(2 * math.pi * angle)
        dx = mean_x + log_sigma_x.exp() * first
        dy = mean_y + log_sigma_y.exp() * (torch.tanh(slant) * first + second / torch.cosh(slant))
        return torch.stack([dx, dy, (coin < torch.sigmoid(law.pen)).to(dx)], 1).unsqueeze(1)

    def problem_with(self, x: Tensor) -> str | None:
        """Says which value is no stroke, if one is."""
        if not x.is_floating_point() or not torch.isfinite(x).all():
            wrong = f"{x.dtype}" if not x.is_floating_point() else f"{x[~torch.isfinite(x)][0].item()}"
            return f"strokes are finite floats, but a batch holds {wrong}; divide whole offsets by a scale."
        pen = x[..., 2]
        if (wrong_pen := pen[(pen != 0) & (pen != 1)]).numel():
            return (
                f"the third number of a stroke says whether the pen is lifted, 0 or 1, but a batch holds "
                f"{wrong_pen[0].item():.4g}; give strokes as (dx, dy, pen)."
            )
        return None
