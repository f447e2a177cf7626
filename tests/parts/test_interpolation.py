"""Paths between latent codes: their ends, their middle, and codes between which there is no arc."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_modules.parts.interpolation import linear_interpolation, spherical_interpolation


def test_paths_between_codes() -> None:
    start, end = torch.eye(3)[:1] * 2, torch.eye(3)[1:2] * 2
    line = linear_interpolation(start, end, 3)
    arc = spherical_interpolation(start, end, 3)
    assert line[0, 1].tolist() == [1, 1, 0]
    torch.testing.assert_close(arc[0, 1], torch.tensor([2**0.5, 2**0.5, 0]))
    torch.testing.assert_close(arc.norm(dim=2), torch.full((1, 3), 2.0))
    for path in (line, arc):
        torch.testing.assert_close(path[:, [0, -1]], torch.stack([start, end], 1))
    many = spherical_interpolation(torch.randn(5, 7), torch.randn(5, 7), 9)
    assert many.shape == (5, 9, 7)
    for other in (start, -start, 3 * start, torch.zeros(1, 3)):  # no arc, or no single one
        assert torch.isfinite(spherical_interpolation(start, other, 4)).all()


@pytest.mark.parametrize("path", [linear_interpolation, spherical_interpolation])
def test_codes_of_any_floating_type_are_interpolated(path: Callable[..., Tensor]) -> None:
    """Computed in the finer type of both, and never in half precision."""
    start, end = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).bfloat16().split(1)
    expected = path(start.float(), end.float(), 4)
    for first, last, dtype in (
        (start, end, torch.float32),
        (start, end.half(), torch.float32),
        (start.double(), end, torch.float64),
    ):
        found = path(first, last, 4)
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected.to(dtype), rtol=1e-5, atol=1e-6)


def test_an_arc_keeps_the_norm_and_turns_at_a_constant_rate() -> None:
    generator = torch.Generator().manual_seed(0)
    start, end = (5 * torch.nn.functional.normalize(torch.randn(8, 64, generator=generator)) for _ in range(2))
    arc = spherical_interpolation(start, end, 9)
    torch.testing.assert_close(arc.norm(dim=2), torch.full((8, 9), 5.0), rtol=1e-5, atol=0)
    turns = torch.nn.functional.cosine_similarity(arc[:, 1:], arc[:, :-1], dim=2).acos()
    whole = torch.nn.functional.cosine_similarity(start, end).acos()
    torch.testing.assert_close(turns, (whole / 8)[:, None].expand(8, 8), rtol=1e-3, atol=0)
