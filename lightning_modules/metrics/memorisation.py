"""FID that is informed of memorisation: FID over how near the samples lie to their nearest training images.

FID on held-out data does not see that samples are copies, where the copies are many. So it is divided by the mean
cosine distance of the samples to their nearest training images, wherever this is below what honest samples have.

NOTE: The threshold is a choice, and the value jumps there by a factor of 1 / threshold: it ranks models, and its unit
is not that of FID. Features of a classifier of few classes lie closer together than those of ImageNet, so the 0.1 that
is common for Inception's is too large for them; half of the distance of held-out real images is one choice.

On Training Sample Memorization: Lessons from Benchmarking Generative Modeling with a Large-scale Competition (Bai et
al., 2021), https://arxiv.org/abs/2106.03062
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.parts.precision import in_float64

ROWS = 200
"""Number of samples that are compared with all training images at once."""
LEAST = 1e-6
"""What the distance of copies is taken to be, so that the value stays finite."""


def memorisation_distance(features: Tensor, training: Tensor) -> float:
    """Returns the mean over samples of min_t (1 - |cos(x, t)|) over training images t, in [0, 1]; 0 for copies.

    Args:
        features: Features of samples, (N, D).
        training: Features of training images, (T, D).

    Raises:
        ValueError: If the rows have different sizes, or there are none.
    """
    if features.ndim != 2 or features.shape[1:] != training.shape[1:] or not len(features) or not len(training):
        raise ValueError(
            f"Expected features (N, D) and (T, D) of one extractor, got {tuple(features.shape)} and "
            f"{tuple(training.shape)}."
        )
    others = F.normalize(training, dim=1)
    distances = []
    for rows in F.normalize(features, dim=1).split(ROWS):
        near = others[(rows @ others.T).abs().argmax(1)]
        # Of the nearest alone in double precision: 1 - cos of copies is a difference of equal numbers.
        distances.append(1 - F.cosine_similarity(in_float64(rows), in_float64(near)).abs())
    return torch.cat(distances).clamp(min=0).mean().item()


def memorisation_informed_fid(fid: float, distance: float, threshold: float) -> float:
    """Returns FID / s where the memorisation distance s is below the threshold, and FID elsewhere (eq. 5 and 6).

    Args:
        fid: FID of the samples.
        distance: s of the same samples, as ``memorisation_distance`` returns it.
        threshold: Distance from which samples count as no copies, in (0, 1].

    Raises:
        ValueError: If the threshold or the distance is out of range.
    """
    if not (0 < threshold <= 1 and 0 <= distance <= 1):
        raise ValueError(f"threshold={threshold} must lie in (0, 1], and distance={distance} in [0, 1].")
    return fid / max(distance, LEAST) if distance < threshold else fid
