"""Clipped and accumulated gradients of the adversarial loop, and flags of the Trainer that stand for neither."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lightning_modules import METHODS, SNGAN, WGANGP, NonSaturatingGAN
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.penalties import WeightedTerm, r1
from tests.adversarial.tiny_loop import BATCH, SIDE, Images, Watch, build, fit, sgd, weights
from tests.captioned import needed


@pytest.mark.parametrize("clip_norm", [None, 1e-3])
def test_the_gradient_of_each_player_is_clipped(clip_norm: float | None) -> None:
    """Under plain gradient descent a step has the length of the learning rate times the gradient's norm."""
    module = build(optimizer=sgd, clip_norm=clip_norm)
    before = [weights(network) for network in (module.discriminator, module.generator)]
    fit(module, 1)
    after = [weights(network) for network in (module.discriminator, module.generator)]
    lengths = [(b - a).norm().item() for a, b in zip(before, after, strict=True)]
    if clip_norm is None:
        assert min(lengths) > 1e-3
    else:
        assert lengths == [pytest.approx(0.1 * clip_norm, rel=1e-3)] * 2


class FixedCodes(Noise):
    """Codes that are a function of what has been drawn: the same for four batches of 4 as for one of 16."""

    def __init__(self) -> None:
        self.pool, self.at = torch.randn(400, 2, generator=torch.Generator().manual_seed(2)), 0

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        found = self.pool[self.at : self.at + shape[0]]
        self.at += shape[0]
        return found


def test_accumulated_gradients_are_those_of_one_large_batch() -> None:
    large = build(optimizer=sgd)
    large.noise = FixedCodes()
    fit(large, 2, batch_size=4 * BATCH)
    small = build(optimizer=sgd, accumulate_batches=4)
    small.noise = FixedCodes()
    watch = Watch(lambda _, module: weights(module).clone())
    fit(small, 8, watch)
    torch.testing.assert_close(weights(small), weights(large))
    moves = [not torch.equal(a, b) for a, b in zip(watch.seen, watch.seen[1:], strict=False)]
    assert moves == [False, False, True, False, False, False, True]


@pytest.mark.parametrize("stopped_after", [1, 3, 4, 5])
def test_accumulation_resumes_exactly_within_a_window(stopped_after: int, tmp_path: Path) -> None:
    def accumulating() -> AdversarialModule:
        return build(accumulate_batches=3, penalties={"r1": WeightedTerm(1.0, r1, every=2)})

    whole = fit(accumulating(), 8)
    saved = ModelCheckpoint(tmp_path, filename="stopped", every_n_train_steps=1)
    fit(accumulating(), stopped_after, saved)
    resumed = fit(accumulating(), 8, saved, ckpt_path=str(tmp_path / "stopped.ckpt"))
    assert torch.equal(weights(resumed), weights(whole))


GANS = [name for name, method in METHODS.items() if issubclass(method, AdversarialModule)]


@pytest.mark.parametrize("name", GANS)
@pytest.mark.parametrize(
    ("flag", "value", "own"),
    [("gradient_clip_val", 0.5, "clip_norm"), ("accumulate_grad_batches", 2, "accumulate_batches")],
)
def test_the_trainers_flags_are_refused_with_ours(name: str, flag: str, value: Any, own: str) -> None:
    module = METHODS[name](shape=[1, SIDE, SIDE], latent_dim=2, width=2, **needed(name))
    trainer = Trainer(accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, **{flag: value})
    with pytest.raises(ValueError, match=rf"{flag}={value}.*{own}={value}"):
        trainer.fit(module, Images())


@pytest.mark.parametrize("method", [NonSaturatingGAN, WGANGP, SNGAN])
def test_clipping_and_accumulation_are_hyperparameters(method: Any) -> None:
    module = method(
        shape=[1, SIDE, SIDE], architecture="mlp", latent_dim=2, width=2, clip_norm=0.25, accumulate_batches=2
    )
    assert (module.hparams["clip_norm"], module.clip_norm) == (0.25, 0.25)
    assert (module.hparams["accumulate_batches"], module.accumulate_batches) == (2, 2)
    fit(module, 4)


@pytest.mark.parametrize("settings", [{"clip_norm": 0.0}, {"clip_norm": -1.0}, {"accumulate_batches": 0}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        build(**settings)
