"""Nearest training images of samples, by the features of an extractor: has a model memorised its data?

A model that copies makes samples that lie nearer to their nearest training image than new images of the same kind do.
So the distances of samples are stated relative to those of held-out real images: a median well below 1 means copies.

NOTE: A distance of features sees what the extractor sees. One that was trained to tell classes apart puts different
images of one class close together: look at the images too.

References:
    A note on the evaluation of generative models (Theis et al., 2016), https://arxiv.org/abs/1511.01844 (section 3.3:
    why not by pixels)
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.metrics.protocol import extract_images
from lightning_modules.parts.checks import as_count

ROWS = 32
"""Number of images that are compared with all training images at once."""


class Neighbours(NamedTuple):
    """The k nearest training images of N images, the nearest first.

    Attributes:
        indices: int64 (N, k), into the training images.
        distances: Euclidean distances of features, (N, k).
    """

    indices: Tensor
    distances: Tensor


class Memorisation(NamedTuple):
    """Nearest training images of samples, and of held-out real images for comparison.

    Attributes:
        samples: The neighbours of the samples.
        held_out: The neighbours of the held-out images.
        scale: Median distance of a held-out image to its nearest training image.
    """

    samples: Neighbours
    held_out: Neighbours
    scale: float

    @property
    def relative_distance(self) -> float:
        """Median distance of a sample to its nearest training image, divided by that of held-out images."""
        return self.samples.distances[:, 0].median().item() / self.scale


def nearest(features: Tensor, others: Tensor, k: int = 1) -> Neighbours:
    """Returns the k nearest rows of ``others`` (M, D) of each row of ``features`` (N, D).

    Distances are sums of squared differences, not differences of squares, so that that of equal rows is 0.

    Raises:
        ValueError: If k is not within 1 and M, or the rows have different sizes.
    """
    k = as_count("k", k)
    if k > len(others) or features.shape[1:] != others.shape[1:]:
        raise ValueError(
            f"There are no k={k} neighbours of rows {tuple(features.shape[1:])} among {len(others)} of "
            f"{tuple(others.shape[1:])}: take a smaller k, and features of one extractor."
        )
    found = [
        torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist").topk(k, largest=False)
        for rows in features.split(ROWS)
    ]
    return Neighbours(torch.cat([part.indices for part in found]), torch.cat([part.values for part in found]))


def nearest_training_images(
    extractor: nn.Module,
    samples: Tensor,
    held_out: Tensor,
    training: Tensor,
    *,
    k: int = 1,
    progress: bool = False,
) -> Memorisation:
    """Compares samples and held-out images with all training images, by the features of an extractor.

    Args:
        extractor: A ``FeatureExtractor``.
        samples: Samples of a model, uint8 (N, C, H, W).
        held_out: Real images that were not trained on, uint8 (M, C, H, W).
        training: The training images, uint8 (T, C, H, W).
        k: Number of neighbours.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If k is out of range, or the median of the held-out distances is 0, because most of the held-out
            images are training images too: there is no scale then.
    """
    title = "training images" if progress else None
    real = extract_images(extractor, training, progress=title).features
    of_samples, of_held_out = (
        nearest(extract_images(extractor, images).features, real, k) for images in (samples, held_out)
    )
    scale = of_held_out.distances[:, 0].median().item()
    if scale == 0:
        raise ValueError(
            f"Most of {len(held_out)} held-out images are among the {len(training)} training images, so they give no "
            "scale for distances: hold out images that were not trained on."
        )
    return Memorisation(of_samples, of_held_out, scale)
