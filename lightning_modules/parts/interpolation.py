"""Interpolation between latent codes.

References:
    Sampling Generative Networks (White, 2016), https://arxiv.org/abs/1609.04468 (why spherical interpolation)
"""

import torch
from torch import Tensor


def linear_interpolation(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Returns ``steps`` codes on the segment, both ends included: (N, D), (N, D) to (N, steps, D)."""
    weight = torch.linspace(0, 1, steps, device=start.device)[:, None]
    return torch.lerp(start[:, None], end[:, None], weight)


def spherical_interpolation(start: Tensor, end: Tensor, steps: int) -> Tensor:
    r"""Returns ``steps`` codes along the arc between two: (N, D), (N, D) to (N, steps, D).

    .. math:: \frac{\sin((1 - t)\omega)}{\sin\omega} z_0 + \frac{\sin(t\omega)}{\sin\omega} z_1

    where :math:`\omega` is the angle between them. Codes of a Gaussian prior lie near a sphere of radius
    :math:`\sqrt{D}`; the middle of a segment does not, and the model was not trained on such codes.
    """
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=1).clamp(-1, 1)
    angle = cosine.acos()[:, None, None]
    weight = torch.linspace(0, 1, steps, device=start.device)[None, :, None]
    sine = angle.sin()
    arc = (((1 - weight) * angle).sin() * start[:, None] + (weight * angle).sin() * end[:, None]) / sine
    # Between parallel codes there is no arc, and between opposite ones it is not unique.
    return torch.where(sine > 1e-4, arc, linear_interpolation(start, end, steps))
