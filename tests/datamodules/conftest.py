"""What the tests of datamodules share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules import ZooDataModule
from tests.datamodules.small_data import small


@pytest.fixture
def small_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ZooDataModule]:
    """Builds the datamodule of a name with small data that need no network; more arguments go to its class."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda name, **arguments: small(name, tmp_path / "small", monkeypatch, **arguments)
