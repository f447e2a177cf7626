"""Paths between latent codes: their ends, their middle, and codes between which there is no arc."""

import torch

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
