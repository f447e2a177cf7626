"""Every random state passes through a file that holds no code, and yields the same random numbers again."""

import random

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_modules.runtime.random_states import RandomStates


def numbers() -> list[float]:
    """Random numbers of every global generator; normals too, whose generators keep half a pair back."""
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


def test_restored_states_repeat_the_random_numbers() -> None:
    numbers()
    saved = through_a_file(RandomStates().state_dict())
    expected = [numbers() for _ in range(3)]

    callback = RandomStates()
    callback.load_state_dict(saved)
    callback.on_fit_start(trainer(), LightningModule())
    numbers()
    callback.on_train_start(trainer(), LightningModule())
    assert [numbers() for _ in range(3)] == expected
    assert numbers() != expected[0]


def test_one_process_keeps_the_stream_that_the_seed_gave() -> None:
    expected = numbers()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    RandomStates().on_train_start(trainer(), LightningModule())
    assert numbers() == expected


def test_states_are_restored_once() -> None:
    callback = RandomStates()
    callback.load_state_dict(through_a_file(callback.state_dict()))
    callback.on_train_start(trainer(), LightningModule())
    first = numbers()
    callback.on_train_start(trainer(), LightningModule())
    assert numbers() != first


def test_another_number_of_processes_is_refused() -> None:
    callback = RandomStates()
    state = callback.state_dict()
    callback.load_state_dict({"processes": state["processes"] * 2})
    with pytest.raises(ValueError, match=r" 2 .* 1 .*num_nodes = 2"):
        callback.on_fit_start(trainer(), LightningModule())

    # An evaluation may run on any number: it does not need them, and leaves nothing to a fit that follows.
    callback.teardown(trainer(), LightningModule(), "validate")
    callback.on_fit_start(trainer(), LightningModule())
