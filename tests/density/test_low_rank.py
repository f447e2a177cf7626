"""Factor analysis, and which form of covariance is built."""

import pytest
import torch

from lightning_modules.density.components import DiagonalComponents, FullComponents
from lightning_modules.density.low_rank import (
    LowRankComponents,
    build_components,
    factor_analysis,
    principal_factors,
)


def test_factor_analysis_finds_a_factor_analyser() -> None:
    weights = torch.randn(8, 2, dtype=torch.float64)
    variance = torch.rand(8, dtype=torch.float64) + 0.1
    covariance = weights @ weights.T + variance.diag()
    found, directions = factor_analysis(
        covariance, *principal_factors(covariance, 2), floor=0.0, iterations=5000, tolerance=1e-10
    )
    torch.testing.assert_close(found, variance, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(directions @ directions.T, weights @ weights.T, atol=1e-5, rtol=1e-5)


def test_the_form_of_the_covariance_is_built_that_was_asked_for() -> None:
    for covariance, rank, form in (
        ("full", None, FullComponents),
        ("diagonal", None, DiagonalComponents),
        ("low_rank", 2, LowRankComponents),
    ):
        components = build_components(covariance, rank, 3, 4)
        assert type(components) is form
        assert components.mean.shape == (3, 4)


def test_forms_and_ranks_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="covariance='round'.*full.*diagonal.*low_rank"):
        build_components("round", None, 1, 2)
    for rank in (None, 0, 2, 3):
        with pytest.raises(ValueError, match=rf"rank={rank}\b.*1\.\.1.*'low_rank'"):
            build_components("low_rank", rank, 1, 2)
    with pytest.raises(ValueError, match="rank=3.*'low_rank'.*'full'"):
        build_components("full", 3, 1, 2)
