"""Sets of Gaussians with three forms of covariance, and the preconditioner of their gradients.

The three forms have the same methods, so that a model only has to choose one:

    full         precision = A^T A with A lower triangular, its diagonal exp(.): the density needs no inversion
    diagonal     variances exp(2 .)
    low_rank     S (I + V V^T) S with S = diag(exp(.)): the factor analyser; independent noise in each dimension and
                 ``rank`` shared directions, inverted by Woodbury's identity

Plain gradients would train them badly: standard deviations of pixels range from 1/400 to 1/2, neighbouring pixels are
highly correlated, and the condition number of the problem is that of the covariance. ``natural_`` makes gradients
independent of the scale. For full and diagonal covariances it computes the natural gradient in the triangular group
(multiplicative updates A <- (1 - lr R) A, equally fast for every covariance). For low rank, and for the weights of a
mixture, it applies the positive-definite preconditioner with which EM is a gradient ascent, where the second moment of
the posterior is replaced by its value at the optimum, I. A learning rate of 1 is about one step of EM, and small ones
average over 1 / lr batches.

NOTE: For an image whose border pixel is 400 standard deviations away, the gradient of a small batch is not valid over
the length of the step. So the step of each dimension is limited to ``LIMIT``, in units of its standard deviation. The
limit causes no bias once the learning rate is small.

References:
    Natural Gradient Works Efficiently in Learning (Amari, 1998), https://doi.org/10.1162/089976698300017746
    Equivariant Adaptive Source Separation (Cardoso and Laheld, 1996), https://doi.org/10.1109/78.553476
    On Convergence Properties of the EM Algorithm for Gaussian Mixtures (Xu and Jordan, 1996),
    https://doi.org/10.1162/neco.1996.8.1.129
    EM Algorithms for ML Factor Analysis (Rubin and Thayer, 1982), https://doi.org/10.1007/BF02293851
"""

import math
from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from lightning_modules.parts.noise import draw_normal
from lightning_modules.parts.precision import in_float64, in_single

LIMIT = 0.5
"""Largest step of one dimension, in units of its standard deviation."""
SINGULAR = 1e-13
"""Share of a dimension's variance that the others do not explain; below this it is rounding error."""
TINY = 1e-12
"""Smallest variance, used where no other lower bound is positive."""
NEGLIGIBLE = 1e-10
"""Responsibilities below this are left out of sums; for images nearly all are."""


class Moments(NamedTuple):
    """Weighted sums over examples, float64: sufficient for a closed-form fit, and additive over processes.

    Attributes:
        counts: Sums of the weights, (K,).
        first: Sums of weighted differences from the component's mean, (K, D).
        second: Sums of their squares (K, D), or of their outer products (K, D, D).
    """

    counts: Tensor
    first: Tensor
    second: Tensor


class Components(nn.Module):
    """Abstract: ``num`` Gaussians of ``dim`` dimensions.

    Args:
        num: Number of Gaussians K.
        dim: Number of dimensions D.
        num_normals: Number of standard normal samples that a point is made of, by default D.
    """

    log_scale: nn.Parameter

    def __init__(self, num: int, dim: int, num_normals: int | None = None) -> None:
        super().__init__()
        self.num, self.dim, self.num_normals = num, dim, dim if num_normals is None else num_normals
        self.mean = nn.Parameter(torch.randn(num, dim) if num > 1 else torch.zeros(num, dim))

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Maps points (N, D) to their log-density under each Gaussian, nats, shape (N, K)."""

    @abstractmethod
    def shrinkage(self) -> Tensor:
        """Returns half the trace of each inverse covariance (of the noise's, in ``low_rank``), shape (K,).

        Subtracting c times this from the mean log-likelihood adds c to every variance at the optimum.
        """

    @abstractmethod
    def place(self, chosen: Tensor, z: Tensor) -> Tensor:
        """Maps standard normal z (N, num_normals) to points (N, D) of the Gaussians ``chosen``, int64 (N,)."""

    def draw(self, chosen: Tensor, generator: Generator) -> Tensor:
        """Samples a point from each of the Gaussians ``chosen``, int64 (N,): shape (N, D)."""
        return self.place(chosen, draw_normal((len(chosen), self.num_normals), generator, self.mean.device))

    @abstractmethod
    def covariances(self) -> Tensor:
        """Returns the covariances, shape (K, D, D)."""

    @abstractmethod
    def natural_(self, shares: Tensor, limit: float) -> None:
        """Replaces gradients by natural ones, in place.

        Args:
            shares: Share of the data of each Gaussian, (K,), by which its gradients are divided.
            limit: Largest gradient of one dimension, in units of its standard deviation.
        """

    @abstractmethod
    def fit_(self, moments: Moments, floors: Tensor, *, fresh: bool, steps: int = 10) -> None:
        """Sets each Gaussian to the maximum-likelihood estimate from its moments, with ``floors`` added to variances.

        Args:
            moments: Moments about the present means.
            floors: Added to the variances of each Gaussian, (K,).
            fresh: Whether an iterative fit starts anew, instead of from the present parameters.
            steps: Largest number of steps of an iterative fit.
        """

    def moments(self, x: Tensor, weights: Tensor) -> Moments:
        """Returns the moments of points (N, D) under weights (N, K)."""
        sums = [self.moments_of(x, weights[:, k], self.mean[k].detach()) for k in range(self.num)]
        return Moments(*(torch.stack(parts) for parts in zip(*sums, strict=True)))

    def moments_of(self, x: Tensor, weights: Tensor, mean: Tensor) -> Moments:
        """Returns the moments of points under one Gaussian's weights (N,)."""
        kept = weights > NEGLIGIBLE
        weights, offsets = in_float64(weights[kept]), in_float64(x[kept]) - in_float64(mean)
        weighted = offsets * weights[:, None]
        second = (weighted * offsets).sum(0) if self.diagonal_moments else weighted.T @ offsets
        return Moments(weights.sum(), weighted.sum(0), second)

    diagonal_moments = False
    """Whether a fit needs only squares, not outer products."""

    def set_(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Overwrites a parameter."""
        with torch.no_grad():
            parameter.copy_(value)

    def move_means_(self, moments: Moments) -> tuple[Tensor, Tensor]:
        """Sets the means, and returns which Gaussians have data, (K,), and the second moments about the new means."""
        present = moments.counts > NEGLIGIBLE
        count = moments.counts.clamp_min(NEGLIGIBLE)
        shift = moments.first / count[:, None]
        mean = in_float64(self.mean)
        self.set_(self.mean, torch.where(present[:, None], mean + shift, mean))
        if self.diagonal_moments:
            return present, (moments.second / count[:, None] - shift.square()).clamp_min(0)
        return present, moments.second / count[:, None, None] - shift[:, :, None] * shift[:, None, :]


class FullComponents(Components):
    """Full covariances by the triangular factor A of the precision: z = A (x - mean) ~ N(0, I).

    Args:
        num: Number of Gaussians K.
        dim: Number of dimensions D.
    """

    def __init__(self, num: int, dim: int) -> None:
        super().__init__(num, dim)
        self.lower = nn.Parameter(torch.zeros(num, dim, dim))  # below the diagonal; the rest stays zero
        self.log_scale = nn.Parameter(torch.zeros(num, dim))  # minus the logarithm of the diagonal

    def factor(self) -> Tensor:
        """Returns A, lower triangular, shape (K, D, D)."""
        return self.lower.tril(-1) + torch.diag_embed((-self.log_scale).exp())

    def log_prob(self, x: Tensor) -> Tensor:
        """Maps points (N, D) to log-densities (N, K)."""
        offsets = x - self.mean[:, None]
        z = torch.bmm(offsets, self.factor().mT)
        return (-0.5 * (z.square().sum(2) + self.dim * math.log(2 * math.pi)) - self.log_scale.sum(1)[:, None]).T

    def shrinkage(self) -> Tensor:
        """Returns half the trace of A^T A."""
        return 0.5 * self.factor().square().sum((1, 2))

    def place(self, chosen: Tensor, z: Tensor) -> Tensor:
        """Solves z = A (x - mean) for x."""
        z = z.to(self.mean.dtype)
        x, factor = torch.empty_like(z), in_single(self.factor())  # there is no solver in half precision
        for k in chosen.unique().tolist():
            own, mean = chosen == k, in_single(self.mean[k])
            offset = torch.linalg.solve_triangular(factor[k].mT, in_single(z[own]), upper=True, left=False)
            x[own] = (mean + offset).to(x.dtype)
        return x

    def covariances(self) -> Tensor:
        """Inverts the factors."""
        factor = in_single(self.factor())
        eye = torch.eye(self.dim, dtype=factor.dtype, device=factor.device)
        inverse = torch.linalg.solve_triangular(factor, eye, upper=False)
        return (inverse @ inverse.mT).to(self.mean.dtype)

    @torch.no_grad()
    def natural_(self, shares: Tensor, limit: float) -> None:
        """Replaces the gradient of A by R A, where R = tril(gradient of A times A^T)."""
        if self.lower.grad is None or self.log_scale.grad is None or self.mean.grad is None:
            return
        factor = in_single(self.factor())
        gradient = in_single(self.lower.grad).tril(-1)
        # d/d log_scale = -A_ii d/dA_ii
        gradient.diagonal(dim1=1, dim2=2).copy_(-self.log_scale.grad * self.log_scale.exp())
        relative = torch.bmm(gradient, factor.mT).tril_() / shares[:, None, None]
        relative.diagonal(dim1=1, dim2=2).mul_(0.5)  # the variance of z^2 is 2, that of z z' is 1
        relative *= (limit / relative.norm(dim=2, keepdim=True).clamp_min(1e-12)).clamp_max(1)
        # Rows that move in a common direction would still overshoot together: the whole step is limited, too.
        relative *= (2 * limit / relative.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12)).clamp_max(1)
        self.log_scale.grad.copy_(-relative.diagonal(dim1=1, dim2=2))
        self.lower.grad.copy_(torch.bmm(relative, factor).tril_(-1))
        # Covariance times gradient: the mean of x - mean.
        step = torch.linalg.solve_triangular(factor.mT, in_single(self.mean.grad)[:, :, None], upper=True)
        step = torch.linalg.solve_triangular(factor, step, upper=False)
        self.mean.grad.copy_(step.squeeze(2) / shares[:, None])

    def fit_(self, moments: Moments, floors: Tensor, *, fresh: bool, steps: int = 10) -> None:
        """Inverts the Cholesky factor of the covariance.

        Raises:
            ValueError: If a covariance is singular.
        """
        present, covariance = self.move_means_(moments)
        eye = torch.eye(self.dim, dtype=torch.float64, device=covariance.device)
        covariance = torch.where(present[:, None, None], covariance + floors[:, None, None] * eye, eye)
        cholesky, failed = torch.linalg.cholesky_ex(covariance)
        pivots = cholesky.diagonal(dim1=1, dim2=2).square() / covariance.diagonal(dim1=1, dim2=2)
        failed = failed.bool() | (pivots < SINGULAR).any(1)
        if failed.any():
            raise ValueError(
                f"The covariance of component {int(failed.nonzero()[0])} is singular: its examples lie in a subspace. "
                "Give a larger covariance_floor."
            )
        factor = torch.linalg.solve_triangular(cholesky, eye, upper=False)
        self.set_(self.lower, torch.where(present[:, None, None], factor.tril(-1), in_float64(self.lower)))
        log_scale = -factor.diagonal(dim1=1, dim2=2).log()
        self.set_(self.log_scale, torch.where(present[:, None], log_scale, in_float64(self.log_scale)))


class DiagonalComponents(Components):
    """Independent dimensions.

    Args:
        num: Number of Gaussians K.
        dim: Number of dimensions D.
    """

    diagonal_moments = True

    def __init__(self, num: int, dim: int) -> None:
        super().__init__(num, dim)
        self.log_scale = nn.Parameter(torch.zeros(num, dim))

    def log_prob(self, x: Tensor) -> Tensor:
        """Maps points (N, D) to log-densities (N, K)."""
        z = (x[:, None] - self.mean) * (-self.log_scale).exp()
        return -0.5 * (z.square().sum(2) + self.dim * math.log(2 * math.pi)) - self.log_scale.sum(1)

    def shrinkage(self) -> Tensor:
        """Returns half the sum of inverse variances."""
        return 0.5 * (-2 * self.log_scale).exp().sum(1)

    def place(self, chosen: Tensor, z: Tensor) -> Tensor:
        """Scales and shifts standard normal samples."""
        return self.mean[chosen] + self.log_scale[chosen].exp() * z.to(self.mean.dtype)

    def covariances(self) -> Tensor:
        """Squares of the scales on the diagonal."""
        return torch.diag_embed((2 * self.log_scale).exp())

    @torch.no_grad()
    def natural_(self, shares: Tensor, limit: float) -> None:
        """Divides by the Fisher information."""
        if self.log_scale.grad is None or self.mean.grad is None:
            return
        self.log_scale.grad.div_(2 * shares[:, None]).clamp_(-limit, limit)
        self.mean.grad.mul_((2 * self.log_scale).exp() / shares[:, None])

    def fit_(self, moments: Moments, floors: Tensor, *, fresh: bool, steps: int = 10) -> None:
        """Sets the scales to the square roots of the variances.

        Raises:
            ValueError: If a variance is zero.
        """
        present, variance = self.move_means_(moments)
        variance = variance + floors[:, None]
        if not (variance[present] > 0).all():
            raise ValueError("The variance of a dimension is zero. Give a larger covariance_floor.")
        self.set_(self.log_scale, torch.where(present[:, None], 0.5 * variance.log(), in_float64(self.log_scale)))
