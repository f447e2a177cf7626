"""Interpolation between latent codes.

References:
    Sampling Generative Networks (White, 2016), https://arxiv.org/abs/1609.04468 (why spherical interpolation)
"""

import torch
from torch import Tensor

from lightning_modules.parts.precision import in_single


def linear_interpolation(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Returns ``steps`` codes on the segment, both ends included: (N, D), (N, D) to (N, steps, D).

    They are of the finer of both types, and at least float32.
    """
    start, end, weight = _with_weights(start, end, steps)
    return torch.lerp(start, end, weight)


def spherical_interpolation(start: Tensor, end: Tensor, steps: int) -> Tensor:
    r"""Returns ``steps`` codes along the arc between two: (N, D), (N, D) to (N, steps, D).

    .. math:: \frac{\sin((1 - t)\omega)}{\sin\omega} z_0 + \frac{\sin(t\omega)}{\sin\omega} z_1

    where :math:`\omega` is the angle between them. Codes of a Gaussian prior lie near a sphere of radius
    :math:`\sqrt{D}`; the middle of a segment does not, and the model was not trained on such codes. The type is that of
    ``linear_interpolation``.
    """
    first, last, weight = _with_weights(start, end, steps)
    angle = torch.nn.functional.cosine_similarity(first, last, dim=2).clamp(-1, 1).acos()[..., None]
    sine = angle.sin()
    arc = (((1 - weight) * angle).sin() * first + (weight * angle).sin() * last) / sine
    # Between parallel codes there is no arc, and between opposite ones it is not unique.
    return torch.where(sine > 1e-4, arc, linear_interpolation(start, end, steps))


def _with_weights(start: Tensor, end: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns codes (N, 1, D) and weights (steps, 1) in 0..1, all of one type."""
    dtype = torch.promote_types(in_single(start).dtype, in_single(end).dtype)
    weight = torch.linspace(0, 1, steps, device=start.device, dtype=dtype)
    return start[:, None].to(dtype), end[:, None].to(dtype), weight[:, None]
