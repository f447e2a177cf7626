"""The distribution of the next stroke: a mixture of correlated Gaussians for the offset, and the state of the pen.

It has the interface of ``autoregressive.emissions``. A step is (dx, dy, pen), with pen in {0, 1}, or in {0, 1, 2} where
2 ends the drawing, as in sketch-rnn.

Generating Sequences With Recurrent Neural Networks (Graves, 2013), https://arxiv.org/abs/1308.0850, eq. 15 to 26
A Neural Representation of Sketch Drawings (Ha and Eck, 2017), https://arxiv.org/abs/1704.03477, section 3.2
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.spec import END_OF_DRAWING
from lightning_modules.parts.precision import in_finest, in_single

MIN_LOG_SIGMA = math.log(1e-3)
"""Logarithm of the smallest standard deviation, in units of the data; it keeps the likelihood bounded."""
MAX_SLANT = 8.0
"""Bound of artanh(rho): rho stays below 1 - 2.2e-7, which float32 distinguishes from 1."""


class StrokeDistribution(NamedTuple):
    """Parameters of the distribution of each step: (..., K) for the K components, (...) or (..., 3) for the pen.

    Attributes:
        log_weight: log pi.
        mean_x: Mean of dx.
        mean_y: Mean of dy.
        log_sigma_x: Logarithm of the standard deviation of dx.
        log_sigma_y: Logarithm of the standard deviation of dy.
        slant: artanh(rho), of the correlation rho of dx and dy.
        pen: log(p / (1 - p)), of the probability p that the pen is lifted; or logits of the three states of the pen.
    """

    log_weight: Tensor
    mean_x: Tensor
    mean_y: Tensor
    log_sigma_x: Tensor
    log_sigma_y: Tensor
    slant: Tensor
    pen: Tensor

    def at_temperature(self, temperature: float) -> "StrokeDistribution":
        """Divides logits and multiplies variances, as sketch-rnn does (Ha and Eck, 2017, section 3.4)."""
        wider = 0.5 * math.log(temperature)
        return self._replace(
            log_weight=F.log_softmax(self.log_weight / temperature, -1),
            log_sigma_x=self.log_sigma_x + wider,
            log_sigma_y=self.log_sigma_y + wider,
            pen=self.pen / temperature,
        )


def offset_log_density(distribution: StrokeDistribution, dx: Tensor, dy: Tensor) -> Tensor:
    """Returns log sum_k pi_k N(dx, dy; mu_k, sigma_k, rho_k), nats, of the shape of ``dx``.

    With rho = tanh(s), 1 / sqrt(1 - rho^2) = cosh(s), and the quadratic form of a component is
    u^2 + (v cosh(s) - u sinh(s))^2, where u and v are the standardised offsets. This avoids cancellation for rho close
    to 1.
    """
    u = (dx.unsqueeze(-1) - distribution.mean_x) * torch.exp(-distribution.log_sigma_x)
    v = (dy.unsqueeze(-1) - distribution.mean_y) * torch.exp(-distribution.log_sigma_y)
    cosh = torch.cosh(distribution.slant)
    rest = v * cosh - u * torch.sinh(distribution.slant)
    log_determinant = distribution.log_sigma_x + distribution.log_sigma_y - cosh.log()
    component = -0.5 * (u.square() + rest.square()) - log_determinant - math.log(2 * math.pi)
    return torch.logsumexp(distribution.log_weight + component, -1)


class StrokeMixture(nn.Module):
    """K bivariate Gaussians and the state of the pen, 6 K + 1 parameters per step, or 6 K + 3 with ends.

    pi = softmax, log sigma is at least ``MIN_LOG_SIGMA``, rho = tanh of a number bounded by ``MAX_SLANT``. Everything
    is computed in the precision of the weights, also under mixed precision: a mean needs more digits than bfloat16 has.

    Args:
        num_components: K.
        features: Size of the network's features.
        ends: Whether the pen has a third state, which ends the drawing.
    """

    def __init__(self, num_components: int, features: int, ends: bool = False) -> None:
        super().__init__()
        self.num_components, self.num_pen = num_components, 3 if ends else 1
        self.head = nn.Linear(features, 6 * num_components + self.num_pen)
        self.in_features = 3

    def start(self, num: int, device: torch.device) -> Tensor:
        """Returns the first input, (num, 1, 3): a lifted pen without offset."""
        return torch.tensor([0.0, 0.0, 1.0], device=device).expand(num, 1, 3)

    def embed(self, x: Tensor) -> Tensor:
        """Returns the strokes in the type of the weights."""
        return x.to(self.head.weight.dtype)

    def steps(self, x: Tensor) -> Tensor:
        """Returns strokes in the type of the weights, or in float32 where that is coarser."""
        return in_single(x.to(self.head.weight.dtype))

    def distribution(self, features: Tensor) -> StrokeDistribution:
        """Returns the distribution of the steps (N, T) that follow features (N, T, ...)."""
        with torch.autocast(features.device.type, enabled=False):
            numbers = self.head(features.to(self.head.weight.dtype))
        logits, mean_x, mean_y, log_sigma_x, log_sigma_y, slant = numbers[..., self.num_pen :].chunk(6, -1)
        return StrokeDistribution(
            F.log_softmax(logits, -1),
            mean_x,
            mean_y,
            log_sigma_x.clamp(min=MIN_LOG_SIGMA),
            log_sigma_y.clamp(min=MIN_LOG_SIGMA),
            slant.clamp(-MAX_SLANT, MAX_SLANT),
            numbers[..., :3] if self.num_pen == 3 else numbers[..., 0],
        )

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        """Returns the log-density of each offset plus log P of its pen, nats, (N, T)."""
        distribution = self.distribution(features)
        offset = offset_log_density(distribution, x[..., 0], x[..., 1])
        if self.num_pen == 3:
            return offset + F.log_softmax(distribution.pen, -1).gather(-1, x[..., 2:].long()).squeeze(-1)
        return offset + x[..., 2] * distribution.pen - F.softplus(distribution.pen)

    def sample(self, features: Tensor, uniform: Callable[..., Tensor], temperature: float = 1.0) -> Tensor:
        """Samples a stroke (N, 1, 3): the component by inverse transform sampling, offsets by Box-Muller.

        Args:
            features: Shape (N, 1, ...).
            uniform: ``uniform(*shape)`` returns uniform samples in [0, 1).
            temperature: Divides the logits of components and pen, and multiplies the variances. Near 0 samples are
                the mean of the most likely component, and the more likely state of the pen.
        """
        last = (in_single(values[:, -1]) for values in self.distribution(features))
        distribution = StrokeDistribution(*last).at_temperature(temperature)
        choice, radius, angle, pen = uniform(len(features), 4).to(distribution.pen).unbind(1)
        component = chosen_by(choice, distribution.log_weight)
        chosen = (values.gather(1, component).squeeze(1) for values in distribution[:-1])
        _, mean_x, mean_y, log_sigma_x, log_sigma_y, slant = chosen
        distance = torch.sqrt(-2 * torch.log1p(-radius))  # the logarithm of 1 - radius, which is never 0
        first, second = distance * torch.cos(2 * math.pi * angle), distance * torch.sin(2 * math.pi * angle)
        dx = mean_x + log_sigma_x.exp() * first
        dy = mean_y + log_sigma_y.exp() * (torch.tanh(slant) * first + second / torch.cosh(slant))
        if self.num_pen == 3:
            state = chosen_by(pen, F.log_softmax(distribution.pen, -1)).squeeze(1)
        else:
            state = pen < torch.sigmoid(distribution.pen)
        return torch.stack([dx, dy, state.to(dx)], 1).unsqueeze(1)

    def ends_with(self, step: Tensor) -> Tensor:
        """Returns whether a stroke (N, 1, 3) ends its drawing, bool (N,)."""
        return (step[:, 0, 2] == END_OF_DRAWING) & (self.num_pen == 3)

    def lengths(self, x: Tensor) -> Tensor:
        """Returns the steps of each drawing (N, T, 3) up to its end, int64 (N,); T where there is none."""
        ends = x[..., 2] == END_OF_DRAWING
        return torch.where(ends.any(1), ends.long().argmax(1) + 1, x.shape[1])

    def padded(self, x: Tensor) -> Tensor:
        """Returns strokes (N, T, 3) with zeros after the end of each drawing, as datamodules pad them."""
        if self.num_pen == 1 or not x.shape[1]:
            return x
        after = torch.arange(x.shape[1], device=x.device) >= self.lengths(x)[:, None]
        return x.masked_fill(after.unsqueeze(2), 0.0)

    def problem_with(self, x: Tensor) -> str | None:
        """Names a value that is not valid in a stroke, if there is one."""
        if not x.is_floating_point() or not torch.isfinite(x).all():
            wrong = f"{x.dtype}" if not x.is_floating_point() else f"{x[~torch.isfinite(x)][0].item()}"
            return f"strokes are finite floats, but a batch holds {wrong}; divide whole offsets by a scale."
        pen, known = x[..., 2], "0, 1 or 2" if self.num_pen == 3 else "0 or 1"
        is_known = (pen == 0) | (pen == 1) | ((pen == END_OF_DRAWING) if self.num_pen == 3 else False)
        if (wrong_pen := pen[~is_known]).numel():
            return (
                f"the third number of a stroke says whether the pen is lifted, {known}, but a batch holds "
                f"{wrong_pen[0].item():.4g}; give strokes as (dx, dy, pen)."
            )
        if not torch.equal(self.padded(x), x):
            return "a drawing has strokes after its end, the step whose third number is 2: pad it with zeros."
        return None


def chosen_by(uniform: Tensor, log_probability: Tensor) -> Tensor:
    """Returns indices (N, 1) into log p (N, K) by inverse transform sampling of uniform numbers (N,) in [0, 1)."""
    cumulative = in_finest(log_probability).exp().cumsum(1)
    index = torch.searchsorted(cumulative, uniform.to(cumulative)[:, None] * cumulative[:, -1:], right=True)
    return index.clamp(max=log_probability.shape[1] - 1)
