"""Checkpoints of a tiny method, registered for the duration of a test."""

import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

import lightning_modules
import zoo
from datamodules.spec import DataSpec
from lightning_modules.callbacks.ema import EMA
from tests.zoo.tiny import TinyGAN

SPEC = DataSpec("tiny_pictures", "image", (1, 8, 8), value_range=(-1.0, 1.0))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lightning_modules.METHODS, "TinyGAN", TinyGAN)


@pytest.fixture
def module(registered: None) -> TinyGAN:
    module = TinyGAN()
    module.data_spec = SPEC
    module.generator(torch.randn(16, 4))  # batch statistics and power iterations leave their first values
    module.discriminator(torch.randn(16, 1, 8, 8))
    return module


@pytest.fixture
def averaging(module: TinyGAN) -> Trainer:
    """A trainer whose EMA callback averaged weights that the module has left since."""
    ema = EMA()
    trainer = Trainer(callbacks=[ema], logger=False, enable_checkpointing=False, accelerator="cpu")
    ema.averaged_state_dict(module)
    with torch.no_grad():
        for parameter in module.generator.parameters():
            parameter.add_(1.0)
    return trainer


@pytest.fixture(scope="session")
def saved_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(lightning_modules.METHODS, "TinyGAN", TinyGAN)
        module = TinyGAN()
        module.data_spec = SPEC
        folder = tmp_path_factory.mktemp("saved") / "tiny"
        zoo.save(module, folder, metrics={"test/fid-tiny-10k": 12.5})
    return folder


@pytest.fixture
def checkpoint(saved_once: Path, tmp_path: Path, registered: None) -> Path:
    """The folder of a saved checkpoint, which the test may damage."""
    return Path(shutil.copytree(saved_once, tmp_path / "tiny"))
