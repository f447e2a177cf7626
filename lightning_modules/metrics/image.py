"""Metrics of generated images: distances and scores of features, as pure functions.

All functions work on outputs of an extractor, features (N, D) or class logits (N, K), in float64, and use no random
numbers: subsets and splits are chosen by index, so that a value is a function of its inputs. If the order of the data
has a meaning (sorted by class), the caller must permute them first.

Limitation: all of these are biased at finite N (FID by about c / N), so two values are comparable only with the same
extractor and the same number of images.

References:
    FID: Heusel et al. (2017), https://arxiv.org/abs/1706.08500
    Inception Score: Salimans et al. (2016), https://arxiv.org/abs/1606.03498; Barratt and Sharma (2018),
    https://arxiv.org/abs/1801.01973, show its limitations.
    KID: Binkowski et al. (2018), https://arxiv.org/abs/1801.01401
    Precision and recall: Kynkaanniemi et al. (2019), https://arxiv.org/abs/1904.06991
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.parts.precision import in_float64


class ScoreWithSpread(NamedTuple):
    """A mean over splits or subsets of the images, and the standard deviation over them."""

    mean: float
    std: float


class PrecisionAndRecall(NamedTuple):
    """Precision and recall, fractions in [0, 1]."""

    precision: float
    recall: float


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean (D,) and the unbiased covariance (D, D) of features (N, D), in float64.

    Raises:
        ValueError: If there are fewer than two rows.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"A covariance needs features (N, D) with N >= 2, but got {tuple(features.shape)}.")
    features = in_float64(features)
    mean = features.mean(0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_distance(mu1: Tensor, sigma1: Tensor, mu2: Tensor, sigma2: Tensor) -> float:
    r"""Returns the squared Frechet (2-Wasserstein) distance of two Gaussians (eq. 1.47), in squared units of features.

    .. math:: |\mu_1 - \mu_2|^2 + \mathrm{Tr}(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2})

    The trace of the root is computed as the sum of the roots of the eigenvalues of the symmetric
    :math:`\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2}`, which is similar to the product: two symmetric
    eigenproblems are faster than the general one of the product, and give no complex numbers.

    Args:
        mu1: Mean (D,).
        sigma1: Covariance (D, D), positive semi-definite; it may be singular.
        mu2: Mean (D,).
        sigma2: Covariance (D, D).

    Returns:
        The distance, never below 0; computed in float64.

    Raises:
        ValueError: If the shapes do not fit together.
    """
    size = len(mu1)
    if not (mu1.shape == mu2.shape == (size,) and sigma1.shape == sigma2.shape == (size, size)):
        shapes = ", ".join(str(tuple(x.shape)) for x in (mu1, sigma1, mu2, sigma2))
        raise ValueError(f"Expected means (D,) and covariances (D, D) of one size D, but got {shapes}.")
    mu1, sigma1, mu2, sigma2 = (in_float64(x) for x in (mu1, sigma1, mu2, sigma2))
    values, vectors = torch.linalg.eigh(sigma1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    trace_root = torch.linalg.eigvalsh(root @ sigma2 @ root).clamp(min=0).sqrt().sum()
    distance = (mu1 - mu2).square().sum() + sigma1.trace() + sigma2.trace() - 2 * trace_root
    return max(0.0, distance.item())


def inception_score(logits: Tensor, splits: int = 10) -> ScoreWithSpread:
    r"""Returns the Inception Score :math:`\exp E_x KL(p(y|x) || p(y))` (eq. 1.46), from 1 to K, the number of classes.

    Args:
        logits: Class logits (N, K).
        splits: Number of consecutive parts for which the score is computed; the mean and the unbiased standard
            deviation over them are returned (0 for one split).

    Raises:
        ValueError: If there are fewer rows than splits.
    """
    if logits.ndim != 2 or not 1 <= splits <= len(logits):
        raise ValueError(f"Expected logits (N, K) with N >= splits >= 1, got {tuple(logits.shape)}, splits={splits}.")
    log_prob = in_float64(logits).log_softmax(1)
    scores = []
    for part in log_prob.tensor_split(splits):
        prob = part.exp()
        # xlogy: a class that no image of this part shows contributes 0, not 0 * -inf
        divergence = (prob * part).sum(1) - torch.xlogy(prob, prob.mean(0)).sum(1)
        scores.append(divergence.mean().exp())
    score = torch.stack(scores)
    return ScoreWithSpread(score.mean().item(), score.std().item() if len(score) > 1 else 0.0)


def kernel_distance(real: Tensor, fake: Tensor, subset_size: int = 1000) -> ScoreWithSpread:
    r"""Returns the Kernel Inception Distance: unbiased squared MMD with the kernel :math:`(x^T y / D + 1)^3`.

    Args:
        real: Features (N, D).
        fake: Features (M, D).
        subset_size: Rows per subset; there are ``max(N, M) // subset_size`` subsets of consecutive rows,
            and the smaller set is repeated from its start.

    Returns:
        Mean and population standard deviation over the subsets; the mean may be slightly negative.

    Raises:
        ValueError: If either set has fewer rows than a subset.
    """
    if min(len(real), len(fake)) < subset_size or subset_size < 2:
        raise ValueError(
            f"KID on subsets of {subset_size} (at least 2) needs that many real and generated images, "
            f"but there are {len(real)} real and {len(fake)} generated: lower subset_size or use more images."
        )
    values = []
    for index in range(max(len(real), len(fake)) // subset_size):
        rows = torch.arange(index * subset_size, (index + 1) * subset_size)
        x, y = (in_float64(side[rows.to(side.device) % len(side)]) for side in (real, fake))
        kernel_xx, kernel_yy, kernel_xy = (_cubic_kernel(a, b) for a, b in ((x, x), (y, y), (x, y)))
        within = kernel_xx.sum() - kernel_xx.trace() + kernel_yy.sum() - kernel_yy.trace()
        values.append(within / (subset_size * (subset_size - 1)) - 2 * kernel_xy.mean())
    value = torch.stack(values)
    return ScoreWithSpread(value.mean().item(), value.std(unbiased=False).item())


def _cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def precision_recall(real: Tensor, fake: Tensor, neighbours: int = 3, chunk: int = 1000) -> PrecisionAndRecall:
    """Returns improved precision and recall: the fraction of each set in the other's k-nearest-neighbour balls.

    Precision is the fraction of generated images inside the ball of some real image, whose radius is the
    distance to its k-th nearest real neighbour; recall is the same with the roles exchanged (eq. 1-3).

    Args:
        real: Features (N, D).
        fake: Features (M, D).
        neighbours: k; 3 in the paper.
        chunk: Rows of the distance matrix in memory at once; it does not change the result.

    Raises:
        ValueError: If either set has no k-th neighbour.
    """
    if min(len(real), len(fake)) <= neighbours:
        raise ValueError(
            f"The {neighbours}-th nearest neighbour needs more than {neighbours} real and generated images, "
            f"but there are {len(real)} real and {len(fake)} generated."
        )
    real, fake = in_float64(real), in_float64(fake)
    return PrecisionAndRecall(
        precision=_covered(fake, real, _radii(real, neighbours, chunk), chunk),
        recall=_covered(real, fake, _radii(fake, neighbours, chunk), chunk),
    )


def _radii(points: Tensor, neighbours: int, chunk: int) -> Tensor:
    # The nearest point is the point itself.
    return torch.cat([torch.cdist(part, points).kthvalue(neighbours + 1).values for part in points.split(chunk)])


def _covered(points: Tensor, centres: Tensor, radii: Tensor, chunk: int) -> float:
    inside = [(torch.cdist(part, centres) <= radii).any(1) for part in points.split(chunk)]
    return in_float64(torch.cat(inside)).mean().item()
