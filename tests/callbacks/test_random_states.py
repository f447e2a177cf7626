"""Every random state goes through a file that holds no code, and comes back to the same draws."""

import random

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_modules.callbacks import RandomStates


def draws() -> list[float]:
    """Draws from every global generator; normals too, whose generators keep half a pair back."""
    return [
        torch.rand(()).item(),
        torch.randn(3).sum().item(),
        float(np.random.standard_normal()),
        float(np.random.rand()),
        random.gauss(0, 1),
        random.random(),
    ]


def through_a_file(state: dict[str, object]) -> dict[str, object]:
    torch.save(state, "states.pt")
    return torch.load("states.pt", weights_only=True)


def trainer() -> Trainer:
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)


def test_restored_states_repeat_the_draws() -> None:
    draws()
    saved = through_a_file(RandomStates().state_dict())
    expected = [draws() for _ in range(3)]

    callback = RandomStates()
    callback.load_state_dict(saved)
    callback.on_fit_start(trainer(), LightningModule())
    draws()
    callback.on_train_start(trainer(), LightningModule())
    assert [draws() for _ in range(3)] == expected
    assert draws() != expected[0]


def test_one_process_keeps_the_stream_that_the_seed_gave() -> None:
    expected = draws()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    RandomStates().on_train_start(trainer(), LightningModule())
    assert draws() == expected


def test_states_are_restored_once() -> None:
    callback = RandomStates()
    callback.load_state_dict(through_a_file(callback.state_dict()))
    callback.on_train_start(trainer(), LightningModule())
    first = draws()
    callback.on_train_start(trainer(), LightningModule())
    assert draws() != first


def test_another_number_of_processes_is_refused() -> None:
    callback = RandomStates()
    state = callback.state_dict()
    callback.load_state_dict({"processes": state["processes"] * 2})
    with pytest.raises(ValueError, match=r"written by 2 process\(es\) and 1 run\(s\) now.* = 2"):
        callback.on_fit_start(trainer(), LightningModule())

    # An evaluation may run on any number: it does not need them, and leaves nothing to a fit that follows.
    callback.teardown(trainer(), LightningModule(), "validate")
    callback.on_fit_start(trainer(), LightningModule())
