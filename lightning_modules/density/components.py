"""Gaussians by the dozen, with three forms of covariance, and the step by which gradients train them.

The three forms have the same calls, so that a method says no more than which one it takes:

    full         precision = A^T A with A lower triangular, its diagonal exp(.): the density needs no inversion
    diagonal     variances exp(2 .)
    low_rank     S (I + V V^T) S with S = diag(exp(.)): the factor analyser; noise of each dimension by itself and
                 ``rank`` directions that they share, inverted by Woodbury's identity

Plain gradients would train them badly: pixels of a picture vary by from 1/400 to 1/2, neighbours nearly together, and
the condition number of the problem is that of the covariance. ``natural_`` turns gradients into ones that do not see
the scale: for full and diagonal covariances the natural gradient in the triangular group (multiplicative updates
A <- (1 - lr R) A, equally fast whatever the covariance), for low rank and for the weights of a mixture the
positive-definite preconditioner by which EM is a gradient ascent, the second moment of the posterior taken as what it
is at the optimum, I. A learning rate of 1 is about one step of EM, and small ones average over 1 / lr batches.

NOTE: One picture whose border pixel is 400 deviations away would throw a small batch's step out of any region where
the gradient means something, so the step of one dimension is limited to ``LIMIT`` in its own unit. The limit biases
nothing once the learning rate is small.

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

COVARIANCES = ("full", "diagonal", "low_rank")
LIMIT = 0.5
"""Longest step of one dimension, in units of its own deviation."""
SINGULAR = 1e-13
"""Share of a dimension's variance that the others leave open, below which it is rounding."""
TINY = 1e-12
"""Least variance, where nothing else is above zero."""
NEGLIGIBLE = 1e-10
"""Responsibilities below this share are left out of sums; on pictures nearly all are."""


class Moments(NamedTuple):
    """Weighted sums over examples, float64: all that a closed-form fit needs, and they add over processes.

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
    """

    log_scale: nn.Parameter

    def __init__(self, num: int, dim: int) -> None:
        super().__init__()
        self.num, self.dim = num, dim
        self.mean = nn.Parameter(torch.randn(num, dim) if num > 1 else torch.zeros(num, dim))

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Maps points (N, D) to their log-density under each Gaussian, nats, shape (N, K)."""

    @abstractmethod
    def shrinkage(self) -> Tensor:
        """Returns half the trace of each inverse covariance (of the noise's, in ``low_rank``), shape (K,).

        Its multiple by c, taken off the mean log-likelihood, is what adds 2 c to every variance at the optimum.
        """

    @property
    def num_normals(self) -> int:
        """Standard normal numbers that a point is made of."""
        return self.dim

    @abstractmethod
    def place(self, chosen: Tensor, z: Tensor) -> Tensor:
        """Makes a point of each of the Gaussians ``chosen``, int64 (N,), of normal draws (N, num_normals): (N, D)."""

    def draw(self, chosen: Tensor, generator: Generator) -> Tensor:
        """Draws a point from each of the Gaussians ``chosen``, int64 (N,): shape (N, D)."""
        return self.place(chosen, draw_normal((len(chosen), self.num_normals), generator, self.mean.device))

    @abstractmethod
    def covariances(self) -> Tensor:
        """Returns the covariances, shape (K, D, D)."""

    @abstractmethod
    def natural_(self, shares: Tensor, limit: float) -> None:
        """Replaces gradients by natural ones, in place.

        Args:
            shares: Share of the data of each Gaussian, (K,), by which its gradients are divided.
            limit: Longest gradient of one dimension, in its own unit.
        """

    @abstractmethod
    def fit_(self, moments: Moments, floors: Tensor, *, fresh: bool, steps: int = 10) -> None:
        """Sets each Gaussian to the maximum likelihood of its moments, with ``floors`` (K,) added to variances.

        Args:
            moments: About the present means.
            floors: What is added to the variances of each.
            fresh: Whether a fit that iterates starts anew, instead of at the present parameters.
            steps: Steps at most of a fit that iterates.
        """

    def moments(self, x: Tensor, weights: Tensor) -> Moments:
        """Returns the moments of points (N, D) under weights (N, K)."""
        sums = [self.moments_of(x, weights[:, k], self.mean[k].detach()) for k in range(self.num)]
        return Moments(*(torch.stack(parts) for parts in zip(*sums, strict=True)))

    def moments_of(self, x: Tensor, weights: Tensor, mean: Tensor) -> Moments:
        """Returns the moments of points under one Gaussian's weights (N,)."""
        kept = weights > NEGLIGIBLE
        weights, offsets = weights[kept].double(), x[kept].double() - mean.double()
        weighted = offsets * weights[:, None]
        second = (weighted * offsets).sum(0) if self.diagonal_moments else weighted.T @ offsets
        return Moments(weights.sum(), weighted.sum(0), second)

    diagonal_moments = False
    """Whether a fit needs the squares alone."""

    def set_(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Overwrites a parameter."""
        with torch.no_grad():
            parameter.copy_(value)

    def move_means_(self, moments: Moments) -> tuple[Tensor, Tensor]:
        """Sets the means, and returns which Gaussians have data, (K,), and the second moments about the new means."""
        present = moments.counts > NEGLIGIBLE
        count = moments.counts.clamp_min(NEGLIGIBLE)
        shift = moments.first / count[:, None]
        self.set_(self.mean, torch.where(present[:, None], self.mean + shift, self.mean))
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
        """Half the trace of A^T A."""
        return 0.5 * self.factor().square().sum((1, 2))

    def place(self, chosen: Tensor, z: Tensor) -> Tensor:
        """Solves z = A (x - mean) for x."""
        z = z.to(self.mean.dtype)
        x, factor = torch.empty_like(z), self.factor()
        for k in chosen.unique().tolist():
            own = chosen == k
            x[own] = self.mean[k] + torch.linalg.solve_triangular(factor[k].mT, z[own], upper=True, left=False)
        return x

    def covariances(self) -> Tensor:
        """Inverts the factors."""
        eye = torch.eye(self.dim, dtype=self.mean.dtype, device=self.mean.device)
        inverse = torch.linalg.solve_triangular(self.factor(), eye, upper=False)
        return inverse @ inverse.mT

    @torch.no_grad()
    def natural_(self, shares: Tensor, limit: float) -> None:
        """R = tril(gradient of A times A^T), and the gradient of A becomes R A."""
        if self.lower.grad is None or self.log_scale.grad is None or self.mean.grad is None:
            return
        factor = self.factor()
        gradient = self.lower.grad.tril(-1)
        # d/d log_scale = -A_ii d/dA_ii
        gradient.diagonal(dim1=1, dim2=2).copy_(-self.log_scale.grad * self.log_scale.exp())
        relative = torch.bmm(gradient, factor.mT).tril_() / shares[:, None, None]
        relative.diagonal(dim1=1, dim2=2).mul_(0.5)  # the variance of z^2 is 2, that of z z' is 1
        relative *= (limit / relative.norm(dim=2, keepdim=True).clamp_min(1e-12)).clamp_max(1)
        # Rows that all move one way would still overshoot together: the whole step stays below one in any direction.
        relative *= (2 * limit / relative.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12)).clamp_max(1)
        self.log_scale.grad.copy_(-relative.diagonal(dim1=1, dim2=2))
        self.lower.grad.copy_(torch.bmm(relative, factor).tril_(-1))
        # Covariance times gradient: the mean of x - mean.
        step = torch.linalg.solve_triangular(factor.mT, self.mean.grad[:, :, None], upper=True)
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
        self.set_(self.lower, torch.where(present[:, None, None], factor.tril(-1), self.lower))
        log_scale = -factor.diagonal(dim1=1, dim2=2).log()
        self.set_(self.log_scale, torch.where(present[:, None], log_scale, self.log_scale))


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
        """Half the sum of inverse variances."""
        return 0.5 * (-2 * self.log_scale).exp().sum(1)

    def place(self, chosen: Tensor, z: Tensor) -> Tensor:
        """Scales and shifts normal draws."""
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
        """Takes the variances."""
        present, variance = self.move_means_(moments)
        variance = variance + floors[:, None]
        if not (variance[present] > 0).all():
            raise ValueError("A dimension has no variance at all. Give a larger covariance_floor.")
        self.set_(self.log_scale, torch.where(present[:, None], 0.5 * variance.log(), self.log_scale))


class LowRankComponents(Components):
    """Factor analysers: x = mean + S (V h + noise) with h and noise standard normal.

    NOTE: ``log_prob`` holds the most probable h constant under differentiation, where the square it minimises is flat
    (the envelope theorem). First derivatives are exact; second ones are not.

    Args:
        num: Number of Gaussians K.
        dim: Number of dimensions D.
        rank: Number of shared directions.
    """

    def __init__(self, num: int, dim: int, rank: int) -> None:
        super().__init__(num, dim)
        self.rank = rank
        self.loadings = nn.Parameter(torch.randn(num, dim, rank) / math.sqrt(dim))  # not 0: a saddle point
        self.log_scale = nn.Parameter(torch.zeros(num, dim))

    def cholesky(self) -> Tensor:
        """Returns the Cholesky factor of I + V^T V, the precision of h given x, shape (K, rank, rank)."""
        eye = torch.eye(self.rank, dtype=self.mean.dtype, device=self.mean.device)
        return torch.linalg.cholesky(eye + self.loadings.mT @ self.loadings)

    def log_prob(self, x: Tensor) -> Tensor:
        """Maps points (N, D) to log-densities (N, K).

        The square is the minimum over h of |y - V h|^2 + |h|^2, y = S^-1 (x - mean): a sum of squares, where
        Woodbury's difference would cancel to nothing in single precision.
        """
        y = (x - self.mean[:, None]) * (-self.log_scale).exp()[:, None]
        cholesky = self.cholesky()
        with torch.no_grad():
            h = torch.cholesky_solve(torch.bmm(y, self.loadings).mT, cholesky).mT
        square = (y - torch.bmm(h, self.loadings.mT)).square().sum(2) + h.square().sum(2)
        log_determinant = self.log_scale.sum(1) + cholesky.diagonal(dim1=1, dim2=2).log().sum(1)
        return (-0.5 * (square + self.dim * math.log(2 * math.pi)) - log_determinant[:, None]).T

    def shrinkage(self) -> Tensor:
        """Half the sum of inverse variances of the noise."""
        return 0.5 * (-2 * self.log_scale).exp().sum(1)

    @property
    def num_normals(self) -> int:
        """Noise of each dimension and the shared directions."""
        return self.dim + self.rank

    def place(self, chosen: Tensor, z: Tensor) -> Tensor:
        """Adds shared directions to noise."""
        noise, h = z.to(self.mean.dtype).split([self.dim, self.rank], dim=1)
        x = torch.empty_like(noise)
        for k in chosen.unique().tolist():
            own = chosen == k
            x[own] = self.mean[k] + self.log_scale[k].exp() * (noise[own] + h[own] @ self.loadings[k].T)
        return x

    def covariances(self) -> Tensor:
        """Multiplies out."""
        eye = torch.eye(self.dim, dtype=self.mean.dtype, device=self.mean.device)
        scale = self.log_scale.exp()
        return scale[:, :, None] * (eye + self.loadings @ self.loadings.mT) * scale[:, None, :]

    @torch.no_grad()
    def natural_(self, shares: Tensor, limit: float) -> None:
        """In these coordinates EM's preconditioner is a number for V and S, and the covariance for the mean.

        NOTE: With V held constant a scale moves the shared directions too, and the information of its logarithm is
        1 + C_ii C^-1_ii (C = I + V V^T) rather than 2. Dividing by 2 is bolder: ten factor analysers of 784 dimensions
        are at 4.83 bits/dim after 300 steps, 5.01 if divided by the information. The price is that a large constant
        learning rate ends in circles around the optimum; ``decay_steps`` ends them.
        """
        if self.loadings.grad is None or self.log_scale.grad is None or self.mean.grad is None:
            return
        self.log_scale.grad.div_(2 * shares[:, None]).clamp_(-limit, limit)
        self.loadings.grad.div_(shares[:, None, None])
        spread = (1 + self.loadings.square().sum(2, keepdim=True)).sqrt()  # deviation in units of the noise's
        norm = self.loadings.grad.norm(dim=2, keepdim=True).clamp_min(1e-12)
        self.loadings.grad.mul_((limit * spread / norm).clamp_max(1))
        scale = self.log_scale.exp()
        step = (scale * self.mean.grad)[:, :, None]
        step = step + self.loadings @ (self.loadings.mT @ step)
        self.mean.grad.copy_(scale * step.squeeze(2) / shares[:, None])

    @torch.no_grad()
    def fit_(self, moments: Moments, floors: Tensor, *, fresh: bool, steps: int = 10) -> None:
        """Iterates EM for factor analysis on the covariance; it needs the data no more.

        A fresh fit starts at the principal components of the correlations. However few the steps, each raises the
        likelihood.
        """
        present, covariance = self.move_means_(moments)
        for k in present.nonzero().squeeze(1).tolist():
            if fresh:
                variance, weights = principal_factors(covariance[k], self.rank)
            else:
                scale = self.log_scale[k].double().exp()
                variance, weights = scale.square(), scale[:, None] * self.loadings[k].double()
            variance, weights = factor_analysis(
                covariance[k], variance, weights, floor=floors[k].item(), iterations=steps
            )
            self.log_scale[k] = 0.5 * variance.log()
            self.loadings[k] = weights / variance.sqrt()[:, None]


def principal_factors(covariance: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Returns noise variances (D,) and weights (D, rank) from the principal components of the correlations."""
    scale = covariance.diagonal().sqrt().clamp_min(TINY)
    values, vectors = torch.linalg.eigh(covariance / scale[:, None] / scale)
    rest = values[: len(values) - rank].mean().clamp_min(1e-6)
    weights = scale[:, None] * vectors[:, -rank:] * (values[-rank:] - rest).clamp_min(1e-6).sqrt()
    variance = covariance.diagonal()
    return torch.maximum(variance - weights.square().sum(1), 0.01 * variance).clamp_min(TINY), weights


def factor_analysis(
    covariance: Tensor, variance: Tensor, weights: Tensor, *, floor: float, iterations: int, tolerance: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """EM for factor analysis (Rubin and Thayer, 1982) on a covariance matrix.

    Args:
        covariance: Of the data, float64 (D, D).
        variance: Of the noise at the start, (D,).
        weights: Of the factors at the start, (D, rank).
        floor: Added to the variances of the noise.
        iterations: Steps at most.
        tolerance: Stops when no logarithm of a variance changes by more.

    Returns:
        Variances (D,) and weights (D, rank).
    """
    eye = torch.eye(weights.shape[1], dtype=weights.dtype, device=weights.device)
    for _ in range(iterations):
        scaled = weights / variance[:, None]
        posterior = torch.linalg.inv(eye + weights.T @ scaled)
        regression = posterior @ scaled.T  # E[h | x] = regression (x - mean)
        crossed = covariance @ regression.T
        second = posterior + regression @ crossed  # E[h h^T]
        weights = torch.linalg.solve(second, crossed.T).T
        before, variance = variance, ((covariance.diagonal() - (weights * crossed).sum(1)).clamp_min(0) + floor)
        variance = variance.clamp_min(TINY)
        if (variance / before).log().abs().max() < tolerance:
            break
    return variance, weights


def build_components(covariance: str, rank: int | None, num: int, dim: int) -> Components:
    """Returns ``num`` Gaussians with covariances of the form ``covariance``.

    Raises:
        ValueError: If the form is unknown, or the rank is missing, out of range or not asked for.
    """
    if covariance not in COVARIANCES:
        raise ValueError(f"covariance={covariance!r} is not one of {', '.join(COVARIANCES)}.")
    if covariance != "low_rank":
        if rank is not None:
            raise ValueError(f"rank={rank} belongs to covariance='low_rank', not to {covariance!r}; leave it null.")
        return FullComponents(num, dim) if covariance == "full" else DiagonalComponents(num, dim)
    if rank is None or not 1 <= rank < dim:
        raise ValueError(f"rank={rank} must lie in 1..{dim - 1} for covariance='low_rank' in {dim} dimensions.")
    return LowRankComponents(num, dim, rank)
