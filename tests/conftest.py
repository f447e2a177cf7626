"""What every test stands on: seeded, single-threaded, offline, in its own folder, leaving nothing behind."""

import gc
import os
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import numpy as np
    from lightning.pytorch import LightningDataModule
    from torch import Tensor

    from datamodules.sources.public_files import PublicDataset

# Set before torch, wandb or huggingface_hub are imported by any test; child processes inherit them.
os.environ.update(
    OMP_NUM_THREADS="1",
    WANDB_MODE="offline",
    WANDB_SILENT="true",
    HF_HUB_OFFLINE="1",
    GLOO_SOCKET_IFNAME="lo",
    MPLBACKEND="agg",
    JSONARGPARSE_DEPRECATION_WARNINGS="off",  # Lightning calls what jsonargparse deprecates
)

LOOPBACK = ("127.", "::1", "localhost")


def pytest_collection_finish() -> None:
    """Spares the garbage collector the modules and the tests themselves, which it would look through all the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the test in its temporary folder, where logs and checkpoints of a careless call land."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def restored_environment() -> Iterator[None]:
    """Takes back what Lightning and W&B write to the environment (LOCAL_RANK, PL_GLOBAL_SEED, ...)."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        if name != "PYTEST_CURRENT_TEST":
            del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Seeds every random state, bounds the threads and ends a process group that a test left open."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(True)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            raise OSError(f"A test tried to reach {address[0]}:{address[1]}; tests are offline.")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def real_files() -> "Callable[[PublicDataset], list[Path]]":
    """Finds the files of a public data set, or skips and names them; nothing is fetched for a test."""
    from datamodules.sources.find import DataNotFoundError, find

    def found(dataset: "PublicDataset") -> list[Path]:
        try:
            return find(replace(dataset, mirrors=(), debian_package=""))
        except DataNotFoundError as error:
            pytest.skip(str(error))

    return found


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    """Decodes real images once in a process, and lists what installed packages offer once, not for each Trainer."""
    from functools import cache

    from lightning.fabric.utilities import registry

    from datamodules.images import emoji, public_images

    @cache
    def idx(path: Path, written: float) -> "Tensor":
        return read_idx(path)

    @cache
    def pixels(files: tuple[tuple[str, bytes], ...], background: tuple[int, int, int], size: int) -> "np.ndarray":
        return decoded_on(dict(files), background, size)

    read_idx, decoded_on = public_images.read_idx, emoji.decoded_on
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "entry_points", cache(registry.entry_points))
        patch.setattr(public_images, "read_idx", lambda path: idx(path, path.stat().st_mtime).clone())
        patch.setattr(emoji, "decoded_on", lambda files, *how: pixels(tuple(files.items()), *how).copy())
        yield


@pytest.fixture(scope="session")
def fashion_mnist(real_files: "Callable[[PublicDataset], list[Path]]") -> None:
    """Skips what needs the real images where they are not."""
    from datamodules.sources.public_files import FASHION_MNIST

    real_files(FASHION_MNIST)


@pytest.fixture(scope="session")
def pretrained_weights() -> "Callable[[str], Path]":
    """Finds the weights of a pretrained network by name, or skips and says how to fetch them."""
    from lightning_modules.pretrained.named_features import find_weights

    def found(name: str) -> Path:
        if (path := find_weights(name)) is None:
            pytest.skip(f"The weights of {name} are not on this machine: python -m zoo fetch {name}")
        return path

    return found


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> "Callable[[LightningDataModule], None]":
    """Skips what needs the files of a datamodule where they are not; nothing is fetched for a test."""
    from datamodules.sources import find

    def found(datamodule: "LightningDataModule") -> None:
        monkeypatch.setattr(find, "_fetch", lambda *arguments: False)
        try:
            datamodule.prepare_data()
        except find.DataNotFoundError as error:
            pytest.skip(str(error))

    return found
