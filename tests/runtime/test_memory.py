"""What a computation saves is counted once, and the limit of a container counts."""

from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch

from lightning_modules.runtime import memory
from lightning_modules.runtime.memory import available_bytes, saved_bytes

Status = namedtuple("Status", ["available", "rss"])


def test_each_saved_tensor_is_counted_once() -> None:
    x = torch.zeros(1000, requires_grad=True)
    assert saved_bytes(lambda: x * 2) == 0
    assert saved_bytes(lambda: x.exp()) == 4000  # the result
    assert saved_bytes(lambda: x.exp() * x.exp()) == 8000  # two results, each for two derivatives
    weights = torch.zeros(1000)
    assert saved_bytes(lambda: (x * weights).sum()) == 4000
    nowhere = torch.zeros(2**50, requires_grad=True, device="meta")
    assert saved_bytes(lambda: nowhere.exp() * nowhere.exp()) == 8 * 2**50


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = Status(available=10_000, rss=300)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: status)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: status)
    limits = (str(tmp_path / "limit"), str(tmp_path / "none"))
    monkeypatch.setattr(memory, "LIMITS", limits)
    for text, expected in (("max", 10_000), ("5000", 4_700), ("20000", 10_000), ("100", 0)):
        (tmp_path / "limit").write_text(f"{text}\n")
        assert available_bytes(torch.device("cpu")) == expected
