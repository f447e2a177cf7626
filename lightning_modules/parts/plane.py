"""Integrals of densities in the plane by sums over a grid, without samplers or bounds."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from datamodules.spec import DataSpec
from lightning_modules.parts.precision import in_float64

CELLS = 20_000
"""Number of cells at which a function is computed at once."""
GRID_EXTENT, GRID_RESOLUTION = 4.0, 400
"""The square [-4, 4]^2 in cells of side 1/50: for densities near unit scale with no detail below three cells."""
GRIDS = ((GRID_EXTENT, GRID_RESOLUTION), (2 * GRID_EXTENT, 2 * GRID_RESOLUTION), (4 * GRID_EXTENT, 2 * GRID_RESOLUTION))
"""Extent and resolution of the grids on which a normaliser is computed: the first that holds the density."""
LARGEST_BORDER, LARGEST_CHANGE = 1e-6, 0.01
"""Share of the mass that may lie in the outermost cells, and nats by which half as many cells a side may differ."""


def plane_grid(extent: float, resolution: int, device: torch.device | None = None) -> Tensor:
    """Returns the centres of resolution^2 cells of [-extent, extent]^2, (resolution^2, 2); x_0 changes slowest."""
    edges = torch.linspace(-extent, extent, resolution + 1, device=device)
    centres = (edges[1:] + edges[:-1]) / 2
    return torch.cartesian_prod(centres, centres)


@torch.no_grad()
def on_grid(
    function: Callable[[Tensor], Tensor],
    device: torch.device,
    extent: float = GRID_EXTENT,
    resolution: int = GRID_RESOLUTION,
) -> Tensor:
    """Returns function(x) at the cells of ``plane_grid``, float64 (resolution^2,), on the CPU if there is no other."""
    return in_float64(torch.cat([function(part) for part in plane_grid(extent, resolution, device).split(CELLS)]))


def grid_log_integral(log_values: Tensor, extent: float) -> Tensor:
    """Returns the logarithm of the integral of exp(log_values) over the square, by the midpoint rule."""
    cell_area = (2 * extent) ** 2 / len(log_values)
    return log_values.logsumexp(0) + math.log(cell_area)


def grid_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Returns KL(p || q) in nats of two densities, each given at the same cells up to a factor."""
    log_p, log_q = log_p.log_softmax(0), log_q.log_softmax(0)
    return (log_p.exp() * (log_p - log_q)).sum()


def mixture_log_density(modes: Tensor, scale: float, x: Tensor) -> Tensor:
    """Returns the log-density (N,) of equally likely Gaussians of deviation ``scale`` around ``modes`` (M, D), nats."""
    squares = (x[:, None] - modes.to(x)).square().sum(2) / (2 * scale**2)
    constant = math.log(len(modes)) + x.shape[1] * math.log(scale * math.sqrt(2 * math.pi))
    return (-squares).logsumexp(1) - constant


class GridDensity:
    """An unnormalised log-density in the plane at the cells of a grid, with its integral and divergences.

    Args:
        log_density: Maps points (N, 2) to nats (N,).
        device: Device of the computation.
        dtype: Floating-point type of the points that it takes.

    Attributes:
        log_integral: Logarithm of the integral of the density, nats.
    """

    def __init__(
        self, log_density: Callable[[Tensor], Tensor], device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self.log_values = on_grid(lambda x: log_density(x.to(dtype)), device)
        self.log_integral = grid_log_integral(self.log_values, GRID_EXTENT).item()

    def divergence_from(self, spec: DataSpec | None) -> float | None:
        """Returns KL(data || model) in nats, or ``None`` where the data are not a mixture with known modes."""
        if spec is None or not spec.modes or spec.mode_scale is None:
            return None
        modes, scale = torch.tensor(spec.modes), spec.mode_scale
        truth = on_grid(lambda x: mixture_log_density(modes, scale, x), self.log_values.device)
        return grid_divergence(truth, self.log_values).item()


def checked_log_integral(log_density: Callable[[Tensor], Tensor], place: tuple[torch.device, torch.dtype]) -> float:
    """Returns the logarithm of the integral of a density over the plane, in nats, by the first grid that holds it.

    Args:
        log_density: Maps points (N, 2) to nats (N,).
        place: Device and floating-point type of the points that it takes.

    Raises:
        ValueError: If mass reaches the border of the largest grid, or details are too fine for its cells.
    """
    device, dtype = place

    def log_values(extent: float, resolution: int) -> Tensor:
        return on_grid(lambda x: log_density(x.to(dtype)), device, extent, resolution)

    border = change = math.inf
    for extent, resolution in GRIDS:
        values = log_values(extent, resolution)
        border = 1 - values.softmax(0).view(resolution, resolution)[1:-1, 1:-1].sum().item()
        if border <= LARGEST_BORDER:
            log_integral = grid_log_integral(values, extent).item()
            coarse = grid_log_integral(log_values(extent, resolution // 2), extent).item()
            change = abs(log_integral - coarse)
            if change <= LARGEST_CHANGE:
                return log_integral
            break
    raise ValueError(
        f"The density cannot be integrated over a grid on [-{extent:g}, {extent:g}]^2: a share of {border:.2g} of its "
        f"mass is at the border, and half as many cells a side change log Z by {change:.2g} nats."
    )
