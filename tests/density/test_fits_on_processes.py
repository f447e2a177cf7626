"""Closed-form fits and EM on two processes equal those on one over all of the points."""

import subprocess
import sys
from pathlib import Path

import torch

from tests.density import fit_on_processes


def test_two_processes_fit_as_one(tmp_path: Path) -> None:
    command = [sys.executable, fit_on_processes.__file__]
    processes = [subprocess.Popen([*command, str(rank), "2", str(tmp_path)]) for rank in range(2)]
    try:
        assert [process.wait(timeout=240) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    alone = fit_on_processes.fitted(0, 1)
    assert first.keys() == second.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, atol=1e-6, rtol=1e-6)
