"""The order in which recipes are trained: each after the checkpoints that it loads or is measured with."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import zoo.paths
from zoo.errors import UnknownNameError
from zoo.paths import recipe_names
from zoo.recipe import dependencies, extractor_of, has_settings, read_recipe, training_order


def loading(name: str, function: str = "zoo.load") -> dict[str, Any]:
    """What stands in a recipe for a checkpoint of the zoo."""
    return {"class_path": function, "init_args": {"name": name}}


def recipe(extractor: str | None = None, noise: Any = None, callbacks: Any = ()) -> dict[str, Any]:
    content: dict[str, Any] = {
        "model": {"class_path": "lightning_modules.NCE", "init_args": {"noise_density": noise, "width": 2}},
        "trainer": {"callbacks": [{"class_path": "x.SampleGrid"}, *callbacks]},
    }
    return content if extractor is None else {"extractor": extractor, **content}


Write = Callable[..., None]


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """A folder of recipes in place of the zoo's own, and what writes into it."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    monkeypatch.setattr(zoo.paths, "recipes_dir", lambda: folder)

    def write(**contents: dict[str, Any]) -> None:
        read_recipe.cache_clear()
        for name, content in contents.items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    read_recipe.cache_clear()
    yield write
    read_recipe.cache_clear()


def measured(name: str) -> dict[str, Any]:
    """A callback that measures with a classifier."""
    return {"class_path": "x.ImageMetrics", "init_args": {"extractor": loading(name, "zoo.load_classifier")}}


def test_a_recipe_comes_after_those_that_it_needs_however_the_names_sort(recipes: Write) -> None:
    recipes(
        a=recipe(noise=loading("m")),  # loads a checkpoint as an argument of the model
        b=recipe(extractor="z"),  # is measured with it
        c=recipe(callbacks=[measured("z")]),  # loads it as an argument of a callback
        m=recipe(extractor="y", noise=loading("x")),
        x=recipe(),
        y=recipe(),
        z=recipe(),
    )
    order = training_order()
    assert sorted(order) == list("abcmxyz")
    place = {name: order.index(name) for name in order}
    assert place["a"] > place["m"] > max(place["x"], place["y"])
    assert place["z"] < min(place["b"], place["c"])


def test_chains_of_any_length_are_followed(recipes: Write) -> None:
    names = "abcdefgh"
    recipes(**{name: recipe(noise=loading(after)) for name, after in zip(names, names[1:], strict=False)}, h=recipe())
    assert training_order() == list(reversed(names))


def test_some_recipes_are_ordered_without_those_that_were_not_asked_for(recipes: Write) -> None:
    recipes(a=recipe(noise=loading("m")), b=recipe(), m=recipe(extractor="z"), z=recipe())
    assert sorted(training_order(["a", "b"])) == ["a", "b"]
    assert training_order(["a", "m"]) == ["m", "a"]
    assert training_order([]) == []


def test_recipes_that_need_each_other_are_refused(recipes: Write) -> None:
    recipes(a=recipe(noise=loading("b")), b=recipe(extractor="a"))
    with pytest.raises(ValueError, match=r"'a'.*'b'|'b'.*'a'"):
        training_order()


def test_dependencies_are_what_is_loaded_and_the_extractor(recipes: Write) -> None:
    recipes(
        a=recipe(extractor="z", noise=loading("m"), callbacks=[measured("z"), measured("y")]),
        b=recipe(noise={"class_path": "lightning_modules.Gaussian", "init_args": {"name": "m"}}),
        c=recipe(noise=loading("somebody/gan")),
        d=recipe(extractor="d"),  # a classifier that is measured with itself needs no other
    )
    assert dependencies("a") == {"m", "y", "z"}
    assert dependencies("b") == set(), "only a loader loads"
    assert dependencies("c") == {"somebody/gan"}
    assert dependencies("d") == set()
    assert sorted(training_order()) == list("abcd"), "what is no recipe is not trained"


def test_the_extractor_is_what_the_recipe_names(recipes: Write) -> None:
    recipes(a=recipe(extractor="z"), b=recipe(callbacks=[measured("z")]), c={**recipe(), "extractor": None})
    assert extractor_of("a") == "z"
    assert extractor_of("b") is None
    assert extractor_of("c") is None
    with pytest.raises(UnknownNameError, match="'z'"):
        extractor_of("z")


def test_the_recipes_of_the_zoo() -> None:
    order = training_order()
    assert sorted(order) == recipe_names()
    for name in order:
        assert dependencies(name) <= set(order[: order.index(name)]), name
    assert dependencies("nce.fashion_mnist") == {"gaussian_mixture.fashion_mnist", "classifier.fashion_mnist"}
    assert extractor_of("teacher_forcing.fashion_mnist_pixels") == "classifier.fashion_mnist"
    assert extractor_of("wgan_gp.ring8") is None


def test_a_run_has_the_settings_of_its_recipe_until_that_is_changed(recipes: Write, tmp_path: Path) -> None:
    """A ``config.yaml`` has defaults too, classes by their whole paths, and the precision that ``auto`` came to."""
    model = {"class_path": "lightning_modules.WGANGP", "init_args": {"lr": "1e-4", "betas": [0, 0.9], "clip": None}}
    content = {"model": model, "trainer": {"precision": "auto", "callbacks": [measured("z")]}}
    recipes(a=content)
    init_args = {"lr": 0.0001, "betas": [0.0, 0.9], "clip": None, "width": 64}
    written: Any = json.loads(json.dumps(content))
    written["model"] = {"class_path": "lightning_modules.adversarial.wgan_gp.WGANGP", "init_args": init_args}
    written["trainer"] |= {"precision": "32-true", "max_time": None}
    config = tmp_path / "config.yaml"

    def after(part: str, key: str, value: Any) -> bool:
        changed = {**written, part: {**written[part], key: value}}
        config.write_text(yaml.safe_dump(changed))
        return has_settings(config, "a")

    assert after("trainer", "max_time", None)
    assert not after("trainer", "callbacks", [])
    assert not after("model", "class_path", "lightning_modules.WGAN")
    for changed in ({"lr": 0.001}, {"betas": [0.5, 0.9]}, {"betas": [0.0]}, {"clip": 1.0}):
        assert not after("model", "init_args", {**init_args, **changed})
    config.write_text("model: [")
    assert not has_settings(config, "a")
    assert not has_settings(tmp_path / "none.yaml", "a")
