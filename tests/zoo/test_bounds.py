"""No number in a config can make loading slow or large, whichever hyperparameter it is."""

import inspect
import json
import re
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import zoo
from lightning_modules import METHODS
from tests.compatibility.test_fixtures import FIXTURES, SAVED
from tests.zoo.damage import edit_config, edit_hyperparameters, refuses
from zoo.bounds import COUNTS_BATCHES, LARGEST, LARGEST_COUNT, LONGEST
from zoo.errors import ZooError
from zoo.loading import build

TOO_LARGE = (2**31, 2 * 10**10, 10**18, 10**300, -(2**31))
SECONDS, BYTES = 3.0, 100 << 20
"""What one refusal may cost; it takes milliseconds, and the rest is for a busy machine."""


def numbers(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of every number in hyperparameters, and of those that are ``None``."""
    if isinstance(values, (Mapping, list, tuple)):
        for key, child in values.items() if isinstance(values, Mapping) else enumerate(values):
            yield from numbers(child, (*path, key))
    elif not isinstance(values, (bool, str)):
        yield path


def changed(values: Any, path: tuple[Any, ...], number: float) -> Any:
    if not path:
        return number
    copy = dict(values) if isinstance(values, Mapping) else list(values)
    copy[path[0]] = changed(copy[path[0]], path[1:], number)
    return copy


def hyperparameters(name: str) -> tuple[str, dict[str, Any]]:
    """Returns the method of a checkpoint and all of its hyperparameters, defaults included."""
    config = json.loads((FIXTURES / "zoo" / name / "config.json").read_text())
    method = METHODS[config["method"]]
    defaults = {p.name: p.default for p in inspect.signature(method).parameters.values() if p.default is not p.empty}
    return config["method"], defaults | method.current_names(config["hyperparameters"])


def attempt(method: str, values: Mapping[str, Any], num_tensors: int) -> str:
    """Builds a module within the bounds of time and memory; returns why it cannot be built, if it cannot."""
    tracemalloc.start()
    start = time.process_time()
    try:
        build(method, values, device="meta", max_tensors=num_tensors)
        return ""
    except zoo.ZooError as error:
        return str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert time.process_time() - start < SECONDS  # of this process, whatever else the machine does
        assert peak < BYTES


@pytest.mark.parametrize("name", SAVED)
def test_no_number_is_too_large_to_be_refused_at_once(name: str) -> None:
    method, values = hyperparameters(name)
    paths = list(numbers(values))
    assert len(paths) >= 3
    num_tensors = len(build(method, values, device="meta").state_dict())
    for path in paths:
        for number in TOO_LARGE[-3:] if path[-1] in COUNTS_BATCHES else TOO_LARGE:
            message = attempt(method, changed(values, path, number), num_tensors)
            if abs(number) > LARGEST_COUNT or path[-1] not in COUNTS_BATCHES:
                assert f"{number}" in message, path
                assert str(path[-1]) in message, path


@pytest.mark.parametrize("name", ["VAE", "IWAE", "PixelCNNPlusPlus", "TeacherForcing", "WGANGP"])
def test_the_largest_numbers_are_refused_or_built_within_bounds(name: str) -> None:
    method, values = hyperparameters(name)
    num_tensors = len(build(method, values, device="meta").state_dict())
    for path in numbers(values):
        attempt(method, changed(values, path, LARGEST), num_tensors)
        attempt(method, changed(values, path, 1e308), num_tensors)


def test_long_lists_are_refused() -> None:
    method, values = hyperparameters("WGANGP")
    message = attempt(method, values | {"shape": [1] * (LONGEST + 1)}, 40)
    assert "shape" in message
    assert str(LONGEST) in message


def test_a_decay_may_be_longer_than_any_network_is_wide() -> None:
    method, values = hyperparameters("WGANGP")
    assert attempt(method, values | {"decay_steps": 10**9}, 40) == ""


@pytest.mark.parametrize(("method", "name"), [("GibbsNet", "steps"), ("EBM", "steps"), ("RBM", "cd_steps")])
def test_a_loop_that_would_take_hours_is_refused(method: str, name: str) -> None:
    for steps in (10**5, 2 * 10**6):
        assert re.search(rf"{name}={steps}\b.*10000 at most", attempt(method, {name: steps}, 100))
    assert attempt(method, {name: 1000}, 100) == ""


def test_the_depth_of_a_stack_is_compared_before_it_is_halved() -> None:
    with pytest.raises(ValueError, match=r"num_scales=20000000000\b"):
        METHODS["PixelCNNPlusPlus"](num_scales=2 * 10**10)


def test_loading_refuses_them(checkpoint: Path) -> None:
    edit_hyperparameters(checkpoint, depth=500_000_000)
    refuses(checkpoint, r"TinyGAN.*depth=500000000\b")
    edit_hyperparameters(checkpoint, depth=1)
    spec = {"name": "x", "kind": "image", "shape": [1, 8, 8]}
    edit_config(checkpoint, data_spec=spec | {"num_classes": 10**12})
    refuses(checkpoint, r"num_classes=1000000000000\b")
    edit_config(checkpoint, data_spec=spec | {"shape": [1, 8, 10**12]})
    refuses(checkpoint, r"shape\[2\]=1000000000000\b")


@pytest.mark.parametrize("name", SAVED)
def test_a_value_of_another_type_is_named(name: str) -> None:
    """Not by torch, in words about its own arguments."""
    method, values = hyperparameters(name)
    hints = get_type_hints(METHODS[method].__init__)
    tried = 0
    for key in values:
        kinds = {hints[key], *get_args(hints[key])} - {type(None)}
        wrong: list[Any] = [{}] if kinds <= {int, float, bool, str} else []
        wrong += ["x", True] if kinds <= {int, float} else []
        wrong += [1.5] if kinds == {int} else []
        for value in wrong:
            tried += 1
            with pytest.raises(ZooError, match=f"{method} is not built with {key}="):
                build(method, {**values, key: value}, device="meta", max_tensors=1000)
    assert tried > 4


def test_entries_of_a_mapping_are_compared_too() -> None:
    with pytest.raises(ZooError, match=r"penalties=.*values by name, each a number"):
        build("ComposedGAN", {"penalties": {"r1": "much"}}, device="meta", max_tensors=1000)
    with pytest.raises(ZooError, match=r"penalties\.r1=1e\+300"):
        build("ComposedGAN", {"penalties": {"r1": 1e300}}, device="meta", max_tensors=1000)


def test_entries_of_a_list_are_compared_too() -> None:
    method, values = hyperparameters("WGANGP")
    with pytest.raises(ZooError, match=r"shape=\[1.5\].*list.*whole number"):
        build(method, {**values, "shape": [1.5]}, device="meta", max_tensors=1000)
