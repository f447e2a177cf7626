"""Arguments of other types than the public functions of the zoo take: one sentence each, and no silence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from lightning_modules import WGANGP, NonSaturatingGAN
from tests.zoo.tiny import TinyGAN
from zoo.saving import check_saveable

pytestmark = pytest.mark.usefixtures("registered")

WRONG: dict[str, tuple[Callable[..., Any], dict[str, tuple[Any, ...]]]] = {
    "names": (zoo.names, {"pattern": (5, None, ["a"])}),
    "list_models": (
        zoo.list_models,
        {"filter": (5, None, [5], b"*"), "exclude_filters": (5, None), "method": (WGANGP, 3), "data": (3, Path("x"))},
    ),
    "card": (zoo.card, {"name": (5, None, True, b"x", ["a"])}),
    "load": (
        lambda **given: zoo.load(**({"name": "wgan_gp.ring8"} | given)),
        {
            "name": (5, None, b"x", WGANGP),
            "method": ("WGANGP", 5, int),
            "weights": (None, 5, ["ema"], "EMA"),
            "device": (None, 0.5, "nowhere", "cuda:x"),
        },
    ),
    "load_classifier": (zoo.load_classifier, {"name": (5, None)}),
    "load_extractor": (
        lambda **given: zoo.load_extractor(**({"name": "efficientnet_lite0"} | given)),
        {"name": (5, None), "device": (None, 0.5)},
    ),
    "load_features": (zoo.load_features, {"name": (5, ["vgg19"], b"x")}),
    "save": (
        lambda **given: zoo.save(**({"module": TinyGAN(), "folder": "saved"} | given)),
        {
            "folder": (None, 5),
            "name": (5, ["a"]),
            "metrics": (5, [("fid", 1)], {"fid": "low"}, {"fid": None}, {"fid": torch.ones(2)}),
            "recipe": (5, Path("x")),
            "overrides": ("--model.lr", 5, [5]),
            "training": (5, {"minutes": "3"}, {"minutes": torch.tensor(3)}),
            "notes": (5, ["a"]),
            "curve": (5, [5], [{"batches": "3"}]),
            "samples": (5, None),
            "trainer": (5, "cpu"),
            "artists": (5, "noto", [5]),
        },
    ),
}


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        (function, name, value)
        for function, (_, arguments) in WRONG.items()
        for name, values in arguments.items()
        for value in values
    ],
)
def test_arguments_of_other_types(function: str, name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(zoo.ZooError) as error:
        WRONG[function][0](**{name: value})
    message = str(error.value)
    assert name in message
    assert len(message.splitlines()) == 1
    assert len(message) < 200
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("module", [None, 5, "gan", torch.nn.Linear(1, 1)])
def test_only_methods_are_saved(module: Any, tmp_path: Path) -> None:
    with pytest.raises(zoo.ZooError, match=f"^{type(module).__name__} is not one of the zoo's methods"):
        zoo.save(module, tmp_path / "saved")


def test_what_is_right_is_taken_in_every_form(tmp_path: Path) -> None:
    assert zoo.list_models(["wgan_gp.*"]) == zoo.list_models(("wgan_gp.*",)) == zoo.names("wgan_gp.*")
    folder = tmp_path / "saved"
    zoo.save(TinyGAN(), folder, metrics={"fid": torch.tensor(2.0)})
    assert zoo.card(folder).metrics == zoo.card(str(folder)).metrics == {"fid": 2.0}
    assert zoo.load(folder, TinyGAN, device=torch.device("cpu")).device == zoo.load(str(folder), device="cpu").device
    with pytest.raises(zoo.ZooError, match="TinyGAN, not a NonSaturatingGAN"):
        zoo.load(folder, NonSaturatingGAN)


def test_a_class_of_ones_own_can_be_asked_for_before_training() -> None:
    class Own(WGANGP):
        pass

    with pytest.raises(zoo.ZooError, match="^Own is not one of the zoo's methods.*register the class"):
        check_saveable(Own(width=2))
    check_saveable(WGANGP(width=2))
