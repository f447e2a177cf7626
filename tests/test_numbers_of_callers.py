"""Numbers that are given to samplers, bounds and estimates of every method."""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules import EBM, RBM, VAE, TeacherForcing
from lightning_modules.metrics.modes import evaluate_points
from lightning_modules.parts.capabilities import SupportsInterpolation, SupportsSampling
from lightning_modules.parts.checks import TEMPERATURES
from tests.test_contract import build, cases, sampled, tiny_data
from tests.test_public_calls import module_and_data

SAMPLERS = [case for case in cases() if case.values[0] != "Classifier"]
BAD_TEMPERATURES = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-38, 1e38, None, True)


@pytest.mark.parametrize(("name", "kind"), SAMPLERS)
def test_numbers_of_samples_may_be_of_any_whole_type(name: str, kind: str) -> None:
    module: Any = build(name, tiny_data(kind, name))
    assert isinstance(module, SupportsSampling)
    expected = sampled(module, 3)
    for num in (np.int64(3), torch.tensor(3)):
        assert torch.equal(sampled(module, num), expected)  # type: ignore[arg-type]
    for bad in (True, 3.0, np.float64(3), torch.tensor(3.0), torch.tensor([3]), "3", None, 0, np.int64(-1)):
        with pytest.raises(ValueError, match="num_samples="):
            module.sample(bad)
        if isinstance(module, SupportsInterpolation):
            with pytest.raises(ValueError, match="num_samples="):
                module.sample_latent(bad)


@pytest.mark.parametrize(("name", "kind"), SAMPLERS)
def test_temperatures_of_no_sense_are_refused_wherever_there_is_one(name: str, kind: str) -> None:
    module, x = module_and_data(name, kind)
    calls: dict[str, Callable[..., Tensor]] = {"sample": module.sample}
    if hasattr(module, "complete"):
        calls["complete"] = lambda num, **settings: module.complete(x, 14, **settings)
    if hasattr(module, "continue_sequence"):
        calls["continue_sequence"] = lambda num, **settings: module.continue_sequence(x, num, **settings)
    if "temperature" not in inspect.signature(module.sample).parameters:
        return
    for call in calls.values():
        for bad in BAD_TEMPERATURES:
            with pytest.raises(ValueError, match=re.escape(f"temperature={bad}")):
                call(1, temperature=bad)
    for extreme in TEMPERATURES:
        assert module.sample(2, temperature=extreme).isfinite().all()
    for extreme in (TEMPERATURES[0], 100.0):  # codes of a higher temperature leave the range of half precision
        assert module.half().sample(2, temperature=extreme).isfinite().all()


def test_choices_among_tokens_are_counts_and_shares() -> None:
    module = TeacherForcing(width=4, vocabulary_size=5, length=3)
    for settings in ({"top_k": np.int64(2)}, {"top_k": torch.tensor(2)}, {"top_p": np.float32(0.5)}, {"top_p": 1}):
        assert module.sample(2, **settings).shape == (2, 3)  # type: ignore[arg-type]
    wrong: dict[str, tuple[Any, ...]] = {
        "top_k": (0, -1, 2.0, True, math.nan, "2"),
        "top_p": (0.0, -0.5, 1.5, math.nan, math.inf, True, "1"),
        "length": (0, -3, 2.0, True, math.nan, "4", torch.tensor([2])),
    }
    for key, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=f"{key}="):
                module.sample(2, **{key: value})
    for value in wrong["length"]:
        with pytest.raises(ValueError, match="length="):
            module.continue_sequence(torch.zeros(1, 2, dtype=torch.int64), value)
    assert module.continue_sequence(torch.zeros(1, 2, dtype=torch.int64), np.int64(2)).shape == (1, 4)  # type: ignore[arg-type]


def test_other_counts_may_be_of_any_whole_type_too() -> None:
    vae, x = VAE(latent_dim=2, hidden=4), torch.zeros(2, 1, 28, 28)
    z = torch.ones(1, 2)
    assert vae.elbo(x, np.int64(2)).shape == (2,)  # type: ignore[arg-type]
    assert vae.log_prob_bound(x, torch.tensor(2)).shape == (2,)  # type: ignore[arg-type]
    assert vae.interpolate(z, -z, np.int64(3)).shape == (1, 3, 1, 28, 28)  # type: ignore[arg-type]
    assert vae.traverse(z, torch.tensor(1), torch.zeros(2)).shape == (1, 2, 1, 28, 28)  # type: ignore[arg-type]
    refused: list[tuple[Callable[[Any], Any], str]] = [
        (lambda bad: vae.elbo(x, bad), "num_samples"),
        (lambda bad: vae.log_prob_bound(x, bad), "num_samples"),
        (lambda bad: vae.interpolate(z, -z, bad), "steps"),
        (lambda bad: vae.traverse(z, bad, torch.zeros(2)), "dimension"),
        (lambda bad: RBM(shape=[1, 2, 3], num_hidden=2).sample(2, steps=bad), "steps"),
        (lambda bad: EBM(shape=[2], architecture="mlp", width=2).sample(2, steps=bad), "steps"),
        (lambda bad: RBM(shape=[1, 2, 3], num_hidden=2).log_partition(3, num_chains=bad), "num_chains"),
    ]
    for call, name in refused:
        for bad in (2.5, True, math.nan, "2", -1):
            with pytest.raises(ValueError, match=f"{name}="):
                call(bad)


def test_evaluations_take_them_too() -> None:
    data = tiny_data("points", "WGAN")
    module = build("WGAN", data)
    found = evaluate_points(module, spec=data.spec, num_samples=np.int64(50))  # type: ignore[arg-type]
    assert found.keys() == evaluate_points(module, spec=data.spec, num_samples=50).keys()
