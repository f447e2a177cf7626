"""No held-out number of any method depends on the batch size, or on whose loader yields the batches."""

import inspect
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, TensorDataset

from datamodules.loader import TensorSource
from lightning_modules import METHODS, RBM
from lightning_modules.base import ZooModule
from tests import training

SMALL = {
    "width": 4, "latent_dim": 2, "hidden": 4, "num_hidden": 4, "num_components": 2, "num_scales": 2,
    "val_particles": 3, "test_particles": 100, "schedule": 200, "num_chains": 10, "num_reversed": 30,
    "likelihood_steps": 4,
}  # fmt: skip
"""So many test particles that a whole split is measured in several chunks."""
BATCH_SIZES = (1, 4, training.EXAMPLES)
CASES = [
    *[pytest.param(name, {}, id=name) for name in METHODS],
    *[
        pytest.param(name, {"num_classes": 2}, id=f"{name}, classes")
        for name in ("VAE", "IWAE", "LadderVAE", "PixelCNNPlusPlus", "SNGAN")
    ],
    *[
        pytest.param(name, {"num_classes": 2, "num_tested": 12}, id=f"{name}, classes, some examples")
        for name in ("VAE", "IWAE", "LadderVAE")
    ],
    pytest.param("VAE", {"shape": (1, 8, 8)}, id="VAE, images"),
    pytest.param("VAE", {"latent_prior": "mixture"}, id="VAE, mixture prior"),
    pytest.param("NCE", {"noise_ratio": 2.6}, id="NCE, 2.6 times the noise"),
    pytest.param("PixelCNNPlusPlus", {"dropout": 0.5}, id="PixelCNNPlusPlus, dropout"),
    pytest.param("TeacherForcing", {"architecture": "transformer", "dropout": 0.5}, id="TeacherForcing, transformer"),
    pytest.param("EBM", {"shape": (1, 8, 8)}, id="EBM, images"),
    pytest.param("NCE", {"shape": (1, 8, 8)}, id="NCE, images"),
]


class RaggedData(training.TinyData):
    """The tiny data, with sequences of all lengths."""

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        source: Any = self.sources["test"]
        if self.spec.kind in training.SEQUENCES:
            lengths = torch.arange(len(source)) % self.spec.shape[0] + 1
            source = TensorSource(source.data, lengths, "lengths")
        self.sources = dict.fromkeys(("train", "val", "test"), source)


def build(method: str, settings: dict[str, Any]) -> tuple[ZooModule, RaggedData]:
    """A small model whose numbers differ from example to example, and its data."""
    torch.manual_seed(0)
    small = {key: value for key, value in SMALL.items() if key in inspect.signature(METHODS[method]).parameters}
    module, shape = training.build(method, **{**small, **settings})
    data = RaggedData(shape, **training.data_of(method))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    if isinstance(module, RBM):
        module.reference = data.source("train").data[:10]  # type: ignore[attr-defined]
    return module, data


def measured(module: ZooModule, data: Any) -> dict[str, float]:
    """What validation and tests log."""
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    if isinstance(data, DataLoader):
        return {**trainer.validate(module, data, verbose=False)[0], **trainer.test(module, data, verbose=False)[0]}
    validated = trainer.validate(module, datamodule=data, verbose=False)[0]
    return {**validated, **trainer.test(module, datamodule=data, verbose=False)[0]}


@pytest.mark.parametrize(("method", "settings"), CASES)
def test_held_out_numbers_do_not_depend_on_the_batch_size(method: str, settings: dict[str, Any]) -> None:
    module, data = build(method, settings)
    data.batch_size = BATCH_SIZES[-1]
    expected = measured(module, data)
    assert any(name.startswith("val/") for name in expected)
    assert any(name.startswith("test/") for name in expected)
    for batch_size in BATCH_SIZES[:-1]:
        data.batch_size = batch_size
        found = measured(module, data)
        assert found == {name: pytest.approx(value, rel=1e-4, abs=1e-5) for name, value in expected.items()}


@pytest.mark.parametrize("method", ["VAE", "IWAE", "LadderVAE", "RBM", "EBM", "NCE", "MinimaxGAN"])
def test_a_loader_of_a_users_own_gives_the_same_numbers(method: str) -> None:
    """What is random belongs to an example's place in the data, of which there is no other sign in such a loader."""
    module, data = build(method, {})
    source: Any = data.source("test")
    expected = measured(module, data)
    loader = DataLoader(TensorDataset(source.data, source.labels), batch_size=5)
    found = measured(module, loader)
    assert found == {name: pytest.approx(value, rel=1e-4, abs=1e-5) for name, value in expected.items()}
