"""Every precision of the Trainer with every method: trained and saved in float32, or refused in a sentence."""

from typing import Any

import pytest
import torch

import zoo
from lightning_modules import METHODS
from lightning_modules.callbacks import EMA
from lightning_modules.parts.capabilities import SupportsAveraging
from tests.standins import quiet_trainer
from tests.test_contract import build, cases, tiny_data

LIKELIHOODS = {
    "Gaussian", "Bernoulli", "Categorical", "GaussianMixture", "RBM", "EBM", "NCE", "PixelCNNPlusPlus", "VAE", "IWAE",
    "LadderVAE", "FlowMatching",
}  # fmt: skip
PENALISED = {"WGANGP", "GibbsNet", "RothGAN", "JacobianClampingGAN", "ProgressiveGAN", "R3GAN"}


def train(name: str, kind: str, precision: Any) -> Any:
    """Trains for two batches and validates."""
    data = tiny_data(kind, name)
    module = build(name, data)
    callbacks = [EMA(half_life_images=40)] if isinstance(module, SupportsAveraging) else []
    quiet_trainer(callbacks, precision=precision, max_epochs=-1, max_steps=2, limit_val_batches=1).fit(module, data)
    return module


def check_saved(module: Any) -> None:
    """Checks that a file of float32 holds what the module has learned."""
    card = zoo.save(module, "saved", samples=False)
    assert card.averaged == isinstance(module, SupportsAveraging)
    loaded = zoo.load("saved", weights="raw")
    fresh = METHODS[card.method](**card.hyperparameters)
    for key, value in loaded.state_dict().items():
        assert value.dtype == fresh.state_dict()[key].dtype
        torch.testing.assert_close(value, module.state_dict()[key].to(value.dtype), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "kind"), cases())
@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_weights_of_another_type_are_trained_and_saved_or_refused(name: str, kind: str, precision: str) -> None:
    half = precision == "bf16-true"
    if half and (name in LIKELIHOODS | PENALISED or kind == "video"):
        with pytest.raises(ValueError, match=f"precision='{precision}'.*bf16-mixed"):
            train(name, kind, precision)
        return
    module = train(name, kind, precision)
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16 if half else torch.float64}
    check_saved(module)


def test_half_precision_is_refused_like_bfloat16() -> None:
    with pytest.raises(ValueError, match="precision='16-true'.*bf16-mixed"):
        train("Gaussian", "points", "16-true")
    check_saved(train("TeacherForcing", "tokens", "16-true"))


@pytest.mark.parametrize(("name", "kind"), [(name, METHODS[name].kinds[0]) for name in METHODS])
def test_mixed_precision_keeps_weights_in_float32(name: str, kind: str) -> None:
    module = train(name, kind, "bf16-mixed")
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    check_saved(module)
