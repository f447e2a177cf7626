"""Every method refuses what is no number, truth value, text, list or mapping, and names it; what is one is allowed."""

import copy
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.argument_types import hints_of, problem_with
from lightning_modules import METHODS, WGANGP, ComposedGAN
from lightning_modules.parts.critic_schedules import Bursts, EveryNth
from lightning_modules.parts.schedules import changing, linear_decay, warmup_and_cosine

NO_COUNT, NO_TRUTH_VALUE = (1.5, 2.0, True, "3"), ("false", 0, None)
NO_NUMBER = ("1e-3", [1.0], True, math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("name", METHODS)
def test_every_number_and_truth_value_of_every_method_is_checked(name: str) -> None:
    hints = hints_of(METHODS[name].__init__)
    assert hints, "its constructor is annotated"
    kinds: dict[Any, tuple[Any, ...]] = {int: NO_COUNT, int | None: NO_COUNT, bool: NO_TRUTH_VALUE}
    kinds |= {str: ([], 1, None), str | None: ([], 1), str | int: ([], 1.5, None)}
    kinds |= {float: (*NO_NUMBER, None), float | None: NO_NUMBER, Sequence[float]: ([0.5, math.nan], [0.5, "x"], 0.5)}
    checked = {key: kinds[hint] for key, hint in hints.items() if hint in kinds}
    assert checked
    for key, values in checked.items():
        for value in values:
            with pytest.raises(ValueError, match=f"^{re.escape(f'{key}={value!r}')} must be "):
                METHODS[name](**{key: value})


@pytest.mark.parametrize("name", METHODS)
def test_every_count_below_zero_is_named(name: str) -> None:
    hints = hints_of(METHODS[name].__init__)
    needed: dict[str, Any] = {"num_words": 3} if name == "CaptionGAN" else {}
    with torch.device("meta"):
        for key in (key for key, hint in hints.items() if hint in (int, int | None)):
            with pytest.raises(ValueError, match=key):
                METHODS[name](**{**needed, key: -1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "lr=0.0 must be positive"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0 not negative"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1.0 must lie in \[0, 1\)"),
        ({"label_smoothing": -0.1}, "label_smoothing=-0.1"),
    ],
)
def test_a_classifier_checks_its_numbers(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        METHODS["Classifier"](**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"penalties": ["r1"]}, r"penalties=\['r1'\] must be values by name"),
        ({"penalties": "r1"}, "penalties='r1' must be values by name"),
        ({"penalties": {"r1": "a"}}, r"penalties=\{'r1': 'a'\} must be numbers by name, or null"),
        ({"penalties": {1: 1.0}}, r"penalties=\{1: 1.0\}: 1 is not one of gradient_penalty"),
        ({"augment": "translation"}, r"augment='translation' must be a list, such as \['translation'\], or null"),
        ({"augment": ["shear"]}, r"augment=\['shear'\]: shear is not one of translation"),
        ({"augment": [1]}, r"augment=\[1\]: 1 is not one of translation"),
        ({"shape": [1, 28.5, 28]}, r"shape=\[1, 28.5, 28\] must be a list of whole numbers"),
        ({"shape": 28}, "shape=28 must be a list of whole numbers"),
    ],
)
def test_lists_and_mappings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ComposedGAN(**settings)


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    for value in (3, np.int64(3), torch.tensor(3)):
        assert problem_with(value, int) is None
        assert problem_with([value], ComposedGAN.__init__.__annotations__["shape"]) is None
    for number in (3, 0.5, np.float32(0.5), np.int64(3), torch.tensor(0.5)):
        assert problem_with(number, float) is None
        assert problem_with([number], Sequence[float]) is None
    assert problem_with(10**400, float) == problem_with(torch.ones(2), float) == "a finite number"
    assert problem_with(None, int | None) is None
    assert problem_with(np.bool_(True), bool) is None
    assert problem_with(1.5, int | float) is None


def test_other_errors_are_those_of_the_constructor_and_copies_are_not_checked() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'widht'"):
        WGANGP(widht=4)  # type: ignore[call-arg]
    module = WGANGP(shape=[2], architecture="mlp", width=4, latent_dim=2)
    assert copy.deepcopy(module).hparams == module.hparams


def test_schedules_of_ones_own_count_whole_batches() -> None:
    for build in (EveryNth, Bursts):
        for steps in (0, 1.5):
            with pytest.raises(ValueError, match=f"critic_steps={steps} must be a whole number of at least 1"):
                build(critic_steps=steps)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="warm_up=3 must be at most period=2"):
        Bursts(warm_up=3, period=2)
    with pytest.raises(ValueError, match=r"decay_steps=2\.5 must be a positive whole number"):
        linear_decay(2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"noise_steps=2\.5 must be a positive whole number"):
        changing(1.0, 0.0, 2.5, name="noise_steps")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"warmup_steps=1\.5 must be a whole number"):
        warmup_and_cosine(1.5, 4)  # type: ignore[arg-type]
