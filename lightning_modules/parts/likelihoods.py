"""Log-likelihoods of images and points, as pure functions: nats per example, summed over all dimensions.

NOTE: A probability mass (Bernoulli, discretised logistic) can be compared with that of any other model of the same
discrete data; a density only with densities under the same dequantisation.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.parts.precision import HALF, in_single

NUM_COMPONENTS = 10
"""Components of the discretised logistic mixture, as in PixelCNN++."""
MIN_LOG_SCALE = -7.0
BIN = 1 / 255
"""Half the distance between two of the 256 grey values on [-1, 1]."""
TOLERANCE = 1e-3
QUANTILES = 16
"""Quantiles of a colour over which the mean of the next is averaged."""


def sum_over_event(values: Tensor) -> Tensor:
    """Sums (N, ...) over all but the first dimension."""
    return values.flatten(1).sum(1)


def bernoulli_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    """Returns log p(x) of independent Bernoulli variables, nats, shape (N,).

    Args:
        logits: log(p / (1 - p)), shape (N, ...).
        x: Values in {0, 1} of the same shape.
    """
    return sum_over_event(x * logits - F.softplus(logits))


def gaussian_log_prob(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Returns the log-density of independent Gaussians, eq. 1.16, nats, shape (N,).

    Args:
        x: Shape (N, ...).
        mean: Broadcasts to the shape of ``x``.
        log_scale: Natural logarithm of the standard deviations; broadcasts to the shape of ``x``.
    """
    z = (x - mean) * torch.exp(-log_scale)
    return sum_over_event(-0.5 * (z.square() + math.log(2 * math.pi)) - log_scale)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Returns log N(z; 0, I), nats, shape (N,), of z (N, ...)."""
    return sum_over_event(-0.5 * (z.square() + math.log(2 * math.pi)))


def gaussian_kl(mean: Tensor, log_scale: Tensor) -> Tensor:
    """Returns KL(N(mean, exp(log_scale)^2) || N(0, I)) in nats, shape (...), of (..., D) and (..., D)."""
    return 0.5 * (mean.square() + torch.exp(2 * log_scale) - 1 - 2 * log_scale).sum(-1)


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """Returns log 1/k sum_i w_i, shape (N,), of log w, shape (N, k)."""
    return torch.logsumexp(log_weights, 1) - math.log(log_weights.shape[1])


def discretized_logistic_log_prob(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Returns log P of grey values under a logistic distribution discretised to 256 bins, elementwise, nats.

    The first and the last bin include the tails, so that the masses sum to 1. Where the mass of a bin is below 1e-5, it
    is computed as the density at the centre times the width, whose gradient does not vanish.

    Args:
        x: Values v / 127.5 - 1 for v in {0, ..., 255}.
        mean: Means on the same scale; broadcasts with ``x``.
        log_scale: Natural logarithm of the scales, clamped at -7 from below.

    PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
    """
    log_scale = log_scale.clamp(min=MIN_LOG_SCALE)
    inverse = torch.exp(-log_scale)
    centred = x - mean
    upper, lower, middle = inverse * (centred + BIN), inverse * (centred - BIN), inverse * centred
    mass = torch.sigmoid(upper) - torch.sigmoid(lower)
    density = middle - log_scale - 2 * F.softplus(middle) + math.log(2 * BIN)
    # The clamp keeps the gradient of the branch that is not selected finite: 0 * inf would be NaN.
    inside = torch.where(mass > 1e-5, mass.clamp(min=1e-12).log(), density)
    first, last = upper - F.softplus(upper), -F.softplus(lower)
    return torch.where(x < -0.999, first, torch.where(x > 0.999, last, inside))


def num_logistic_parameters(channels: int, num_components: int = NUM_COMPONENTS) -> int:
    """Returns the number of parameters per pixel: weights, means, scales and, in colour, three couplings.

    Raises:
        ValueError: If ``channels`` is neither 1 nor 3, or there is no component.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels={channels}: the discretised logistic mixture supports 1 (grey) or 3 (RGB).")
    if num_components < 1:
        raise ValueError(f"num_components={num_components} must be at least 1.")
    return num_components * (3 if channels == 1 else 10)


def discretized_logistic_mixture_log_prob(parameters: Tensor, x: Tensor) -> Tensor:
    """Returns log P(x) of images under a mixture of discretised logistics at every pixel, nats, shape (N,).

    In colour the mean of green is shifted by c0 red, that of blue by c1 red + c2 green, where c is tanh of a parameter.

    Args:
        parameters: Shape (N, P, H, W) with P = ``num_logistic_parameters(C, K)``: K logits of the weights, then
            (C, K) means, (C, K) logarithms of scales and, in colour, (3, K) couplings.
        x: Shape (N, C, H, W), values v / 127.5 - 1; those that half precision has rounded are taken for the nearest.

    PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
    """
    if x.dtype in HALF:  # bfloat16 rounds by up to half of a bin, which has the width of 1 / 127.5
        x = to_256_bins(x.float())
    logits, means, log_scales, couplings = split_logistic_parameters(in_single(parameters), x.shape[1])
    pixels = x.unsqueeze(2)
    if couplings is not None:
        red, green = pixels[:, 0], pixels[:, 1]
        shift = torch.stack(
            [torch.zeros_like(means[:, 0]), couplings[:, 0] * red, couplings[:, 1] * red + couplings[:, 2] * green], 1
        )
        means = means + shift
    masses = discretized_logistic_log_prob(pixels, means, log_scales).sum(1)
    return sum_over_event(torch.logsumexp(masses + F.log_softmax(logits, 1), 1))


def split_logistic_parameters(parameters: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Splits (N, P, ...) into logits (N, K, ...), means and log-scales (N, C, K, ...), couplings (N, 3, K, ...)."""
    per_component = 3 if channels == 1 else 10
    mixtures, rest = divmod(parameters.shape[1], per_component)
    if rest:
        raise ValueError(
            f"{parameters.shape[1]} parameters per pixel are not a multiple of {per_component} per component."
        )
    sizes = [mixtures, channels * mixtures, channels * mixtures]
    logits, means, log_scales, *couplings = parameters.split(sizes if channels == 1 else [*sizes, 3 * mixtures], 1)
    shape = (channels, mixtures)
    return (
        logits,
        means.unflatten(1, shape),
        log_scales.unflatten(1, shape),
        torch.tanh(couplings[0].unflatten(1, (3, mixtures))) if couplings else None,
    )


def sample_discretized_logistic_mixture(
    parameters: Tensor, choice: Tensor, uniform: Tensor, temperature: float = 1.0
) -> Tensor:
    """Samples pixels (N, C, ...) on the 256 grey values of [-1, 1].

    Args:
        parameters: Shape (N, P, ...), as in ``discretized_logistic_mixture_log_prob``.
        choice: Uniform samples in [0, 1), shape (N, ...): they choose the component.
        uniform: Uniform samples in [0, 1), shape (N, C, ...).
        temperature: Divides the weights' logits and multiplies the scales; below 1 samples are more likely ones.
    """
    channels = uniform.shape[1]
    logits, means, log_scales, couplings = split_logistic_parameters(parameters, channels)
    cumulative = F.softmax(logits / temperature, 1).cumsum(1)
    component = (choice.unsqueeze(1) * cumulative[:, -1:] >= cumulative).sum(1, keepdim=True)
    component = component.clamp(max=logits.shape[1] - 1)

    def chosen(values: Tensor) -> Tensor:
        index = component.unsqueeze(1).expand(-1, values.shape[1], *(-1 for _ in component.shape[1:]))
        return values.gather(2, index).squeeze(2)

    u = uniform.clamp(1e-5, 1 - 1e-5)
    scale = torch.exp(chosen(log_scales).clamp(min=MIN_LOG_SCALE)) * temperature
    x = chosen(means) + scale * (u.log() - torch.log1p(-u))
    if couplings is None:
        return to_256_bins(x)
    c = chosen(couplings)
    red = to_256_bins(x[:, 0])
    green = to_256_bins(x[:, 1] + c[:, 0] * red)
    blue = to_256_bins(x[:, 2] + c[:, 1] * red + c[:, 2] * green)
    return torch.stack([red, green, blue], 1)


def discretized_logistic_mixture_mean(parameters: Tensor, channels: int) -> Tensor:
    """Returns the mean of each pixel, shape (N, C, ...), on [-1, 1], before values are rounded to the 256 grey values.

    Values beyond the ends of the range count as these, as in the masses. In colour, green and blue are averaged over
    quantiles of the colours before them.

    Args:
        parameters: Shape (N, P, ...), as in ``discretized_logistic_mixture_log_prob``.
        channels: C, 1 or 3.
    """
    logits, means, log_scales, couplings = split_logistic_parameters(parameters, channels)
    weights, scales = F.softmax(logits, 1), torch.exp(log_scales.clamp(min=MIN_LOG_SCALE))
    if couplings is None:
        return (clipped_logistic_mean(means, scales) * weights.unsqueeze(1)).sum(2)
    share = (torch.arange(QUANTILES, device=means.device, dtype=means.dtype) + 0.5) / QUANTILES
    deviations = share.logit().view(-1, *[1] * means[:, 0].ndim)
    green_means, blue_means = [], []
    for deviation in deviations:
        red = (means[:, 0] + scales[:, 0] * deviation).clamp(-1, 1)
        green_centre = means[:, 1] + couplings[:, 0] * red
        green = (green_centre + scales[:, 1] * deviations).clamp(-1, 1)
        blue_centre = means[:, 2] + couplings[:, 1] * red + couplings[:, 2] * green
        green_means.append(clipped_logistic_mean(green_centre, scales[:, 1]))
        blue_means.append(clipped_logistic_mean(blue_centre, scales[:, 2]).mean(0))
    red_mean = clipped_logistic_mean(means[:, 0], scales[:, 0])
    by_component = torch.stack([red_mean, torch.stack(green_means).mean(0), torch.stack(blue_means).mean(0)], 1)
    return (by_component * weights.unsqueeze(1)).sum(2)


def clipped_logistic_mean(mean: Tensor, scale: Tensor) -> Tensor:
    """Returns E[clip(x, -1, 1)] of logistic variables x, elementwise: -1 plus the integral of P(x > t) over [-1, 1]."""
    return scale * (F.softplus((mean + 1) / scale) - F.softplus((mean - 1) / scale)) - 1


def to_256_bins(x: Tensor) -> Tensor:
    """Clamps to [-1, 1] and rounds to the nearest v / 127.5 - 1."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def bits_per_dim(nats: Tensor | float, dimensions: int, offset: float = 0.0) -> Tensor | float:
    """Converts a negative log-likelihood from nats per example into bits per dimension.

    Args:
        nats: -log p(x).
        dimensions: Number of values in one example.
        offset: log2 of the number of bins per unit of length: 0 for masses, 7 for densities of 256 grey values on
            [-1, 1].
    """
    return nats / (dimensions * math.log(2)) + offset


def not_binary(x: Tensor, remedy: str = "build the datamodule with binarize=True") -> str | None:
    """Returns a sentence that names a value of ``x`` other than 0 and 1, or ``None`` if there is none."""
    wrong = (x != 0) & (x != 1)
    if not wrong.any():
        return None
    return f"a Bernoulli likelihood needs values in {{0, 1}}, but a batch holds {x[wrong][0].item():.4g}; {remedy}."


def not_on_256_bins(x: Tensor) -> str | None:
    """Returns a sentence that names a value of ``x`` outside the 256 grey values on [-1, 1], or ``None``."""
    if (wrong := off_levels(x, -1.0)) is None:
        return None
    return (
        f"the likelihood needs the 256 grey values v / 127.5 - 1, but a batch holds {wrong:.6g}; "
        "build the datamodule without dequantize and binarize, and give it 8-bit images."
    )


def not_grey(x: Tensor) -> str | None:
    """Returns a sentence that names a value of ``x`` outside the 256 grey values v / 255 on [0, 1], or ``None``."""
    if (wrong := off_levels(x, 0.0)) is None:
        return None
    return (
        f"the likelihood needs the 256 grey values v / 255, from 0 to 1, but a batch holds {wrong:.6g}; "
        "divide 8-bit frames by 255."
    )


def off_levels(x: Tensor, low: float) -> float | None:
    """Returns the first value of ``x`` that is none of the 256 grey values on [low, 1], or ``None``; NaN is none.

    The tolerance is the rounding of the type of ``x``, and at least ``TOLERANCE`` on [-1, 1]: an eighth of a level.
    In bfloat16 every value on [0, 1] is within rounding of a level.
    """
    scale = 255 / (1 - low)
    rounding = torch.finfo(x.dtype).eps / 3 * scale if x.is_floating_point() else 0.0
    levels = (x.detach().to(torch.promote_types(x.dtype, torch.float32)) - low) * scale
    distance = (levels - levels.round()).abs()
    on_level = (distance <= max(TOLERANCE * 127.5, rounding)) & (levels >= -0.5) & (levels <= 255.5)
    return None if on_level.all() else float(x[~on_level][0])
