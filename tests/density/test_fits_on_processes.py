"""Closed-form fits and EM on two processes equal those on one over all of the points."""

from pathlib import Path

import torch

from tests.density.fit_on_processes import fitted, fitted_with_others
from tests.processes import on_two


def test_two_processes_fit_as_one(tmp_path: Path) -> None:
    first, second = on_two(fitted_with_others, str(tmp_path))
    alone = fitted(0, 1)
    assert first.keys() == second.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, atol=1e-6, rtol=1e-6)
