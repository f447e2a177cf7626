"""Mode coverage against the exact floors and ceilings of samples of the true distribution."""

import math
import re

import pytest
import torch

from lightning_modules.metrics.modes import mode_coverage

ANGLES = torch.arange(8) * math.tau / 8
RING = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1)


def sampled(modes: torch.Tensor, scale: float, number: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(modes), (number,), generator=generator)
    return modes[chosen] + scale * torch.randn(number, modes.shape[1], generator=generator)


def test_true_samples_reach_the_ceiling_and_the_floor() -> None:
    found = mode_coverage(sampled(RING, 0.02, 100_000), RING, 0.02)
    assert found.modes == found.modes_hit == 8
    # binomial of p = 1 - exp(-9/2): four standard errors, missed once in 16 000 seeds
    ceiling = 1 - math.exp(-4.5)
    assert found.high_quality == pytest.approx(ceiling, abs=4 * math.sqrt(ceiling * (1 - ceiling) / 100_000))
    assert ceiling == pytest.approx(0.98889, abs=1e-5)
    # 2 N KL is about chi-squared with 7 degrees of freedom: above 30 once in 10 000 seeds
    assert 0 <= found.kl < 30 / 200_000


def test_kl_of_true_samples_of_the_grid_has_its_known_mean() -> None:
    axis = torch.arange(-4.0, 5, 2)
    grid = torch.cartesian_prod(axis, axis)
    values = [mode_coverage(sampled(grid, 0.05, 2500, seed), grid, 0.05).kl for seed in range(50)]
    # mean of 50 values of 24 / 2N with deviation sqrt(48) / 2N: four standard errors
    assert sum(values) / 50 == pytest.approx(24 / 5000, abs=4 * math.sqrt(48 / 50) / 5000)


def test_starved_and_missing_modes() -> None:
    half = mode_coverage(sampled(RING[:4], 0.02, 10_000), RING, 0.02)
    assert half.modes == half.modes_hit == 4
    assert half.kl == pytest.approx(math.log(2), abs=0.002)
    most = sampled(RING[:7], 0.02, 2480)
    twenty, twenty_one = (torch.cat([most[: 2500 - n], RING[7].expand(n, 2)]) for n in (20, 21))
    assert mode_coverage(twenty, RING, 0.02)[:2] == (7, 8)
    assert mode_coverage(twenty_one, RING, 0.02)[:2] == (8, 8)


def test_radius_and_scale_are_not_mixed_up() -> None:
    near = RING.repeat(100, 1) + torch.tensor([0.2, 0.0])  # ten standard deviations, but closer than 0.25
    found = mode_coverage(near, RING, 0.02)
    assert (found.modes, found.modes_hit, found.high_quality) == (8, 0, 0)
    far = mode_coverage(RING.repeat(100, 1) + torch.tensor([0.3, 0.0]), RING, 0.2)
    assert (far.modes, far.modes_hit, far.high_quality) == (0, 8, 1)


def test_samples_that_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="NaN"):
        mode_coverage(torch.full((5, 2), torch.nan), RING, 0.02)
    for samples in (torch.zeros(0, 2), torch.zeros(5, 3), torch.zeros(5)):
        with pytest.raises(ValueError, match=re.escape(f"{tuple(samples.shape)}, (8, 2)")):
            mode_coverage(samples, RING, 0.02)
    with pytest.raises(ValueError, match=re.escape("(5, 2), (0, 2)")):
        mode_coverage(torch.zeros(5, 2), RING[:0], 0.02)
