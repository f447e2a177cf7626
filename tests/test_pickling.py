"""Every method can be pickled and copied, also after training: torch.save, deepcopy, processes that are spawned."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

import zoo
from lightning_modules import METHODS
from lightning_modules.callbacks import EMA
from lightning_modules.parts.capabilities import SupportsAveraging, SupportsSampling
from tests.processes import CONTEXT
from tests.standins import quiet_trainer
from tests.training import GLOBAL_BATCH, TinyData, build, data_of

COMPOSED: dict[str, Any] = {"spectral_norm": True, "penalties": {"r1": 1.0}, "decay_steps": 9, "compile": True}
CASES = [*((name, {}) for name in METHODS), ("ComposedGAN", COMPOSED), ("WGAN", {"bursts": True})]


def through_torch(module: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def through_pickle(module: nn.Module) -> Any:
    return pickle.loads(pickle.dumps(module))


def trained(module: Any, shape: tuple[int, ...]) -> None:
    callbacks = [EMA(half_life_images=40)] if isinstance(module, SupportsAveraging) else []
    trainer = quiet_trainer(callbacks, max_epochs=-1, max_steps=2, limit_val_batches=0)
    trainer.fit(module, TinyData(shape, GLOBAL_BATCH, **data_of(type(module).__name__)))


def state_of(module: Any) -> list[Any]:
    """Returns weights, and samples of a fixed seed."""
    state = list(module.state_dict().values())
    if isinstance(module, SupportsSampling):
        state.append(module.sample(2, generator=torch.Generator().manual_seed(1)))
    return state


@pytest.mark.parametrize(("method", "overrides"), CASES)
def test_copies_are_equal_and_independent_and_train(method: str, overrides: dict[str, Any]) -> None:
    module, shape = build(method, **{key: value for key, value in overrides.items() if key != "compile"})
    trained(module, shape)
    ways: list[Callable[[nn.Module], Any]] = [through_torch, through_pickle, copy.deepcopy]
    for made in [way(module) for way in ways] + [through_pickle(copy.deepcopy(module))]:
        assert list(made.state_dict()) == list(module.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(state_of(made), state_of(module), strict=True))
        assert dict(made.hparams) == dict(module.hparams)
    before = [value.clone() for value in module.state_dict().values()]
    trained(made.train(), shape)
    assert all(torch.equal(a, b) for a, b in zip(before, module.state_dict().values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before, made.state_dict().values(), strict=True))


def test_a_compiled_game_is_pickled() -> None:
    pickle.dumps(build("ComposedGAN", **COMPOSED)[0])


def test_it_is_sent_to_processes_that_are_started_anew() -> None:
    """As ``ddp_spawn`` does, with a start that does not import everything again."""
    assert CONTEXT.get_start_method() == "forkserver"
    module, shape = build("SNGAN")
    before = [value.clone() for value in module.parameters()]
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(start_method="forkserver"),
        max_steps=2,
        callbacks=[average := EMA(half_life_images=40)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, TinyData(shape, GLOBAL_BATCH // 2))
    assert any(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert state_of(module)
    # The averages stay in those processes: the weights of the last step are not taken for them.
    assert not average.is_started
    assert not zoo.save(module, "saved", samples=False).averaged
