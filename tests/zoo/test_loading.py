"""``zoo.load`` and ``zoo.load_classifier`` return the class that is asked for, or name the one that lies there."""

from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from torch import nn

import zoo
from lightning_modules import VAE, WGANGP, Classifier, GenerativeModule
from lightning_modules.metrics.reference_statistics import extractor_digest
from tests.zoo.tiny import TinyGAN


@pytest.fixture
def classifier(tmp_path: Path) -> str:
    """The folder of a classifier."""
    folder = tmp_path / "classifier"
    zoo.save(Classifier(shape=(1, 8, 8), width=2), folder)
    return str(folder)


@pytest.mark.parametrize("method", [TinyGAN, GenerativeModule])
def test_load_returns_the_class_that_is_asked_for(method: type[GenerativeModule], checkpoint: Path) -> None:
    module = zoo.load(str(checkpoint), method)
    assert type(module) is TinyGAN
    expected = zoo.load(str(checkpoint)).state_dict()
    for key, value in module.state_dict().items():
        assert torch.equal(value, expected[key])


def test_a_class_goes_with_weights_and_device(module: TinyGAN, averaging: Trainer, tmp_path: Path) -> None:
    zoo.save(module, tmp_path / "tiny", trainer=averaging)
    raw = zoo.load(str(tmp_path / "tiny"), TinyGAN, weights="raw", device="cpu").state_dict()
    averaged = zoo.load(str(tmp_path / "tiny"), TinyGAN).state_dict()
    assert torch.equal(raw["generator.0.weight"], module.state_dict()["generator.0.weight"])
    assert not torch.equal(averaged["generator.0.weight"], raw["generator.0.weight"])


def test_load_names_both_classes_where_another_lies_there(checkpoint: Path, classifier: str) -> None:
    for name, found, asked in (
        (str(checkpoint), "TinyGAN", Classifier),
        (classifier, "Classifier", TinyGAN),
        (classifier, "Classifier", GenerativeModule),
    ):
        with pytest.raises(zoo.ZooError) as caught:
            zoo.load(name, asked)
        assert found in str(caught.value)
        assert asked.__name__ in str(caught.value)


def test_a_checkpoint_of_the_zoo_is_checked_against_the_class_too() -> None:
    assert type(zoo.load("wgan_gp.ring8", WGANGP)) is WGANGP
    with pytest.raises(zoo.ZooError, match=r"wgan_gp\.ring8.*WGANGP.*VAE"):
        zoo.load("wgan_gp.ring8", VAE)


def test_a_classifier_is_loaded_with_the_digest_of_its_card(classifier: str) -> None:
    module = zoo.load_classifier(classifier)
    assert type(module) is Classifier
    assert not module.training
    assert zoo.card(classifier).sha256.startswith(extractor_digest(module))
    assert zoo.load_classifier(classifier, device="cpu").device == torch.device("cpu")


def test_a_generative_model_is_no_classifier(checkpoint: Path) -> None:
    with pytest.raises(zoo.ZooError, match="TinyGAN.*Classifier"):
        zoo.load_classifier(str(checkpoint))


def test_a_classifier_can_still_be_named_by_load(classifier: str) -> None:
    """Configs of former versions do so."""
    loaded = zoo.load(classifier)
    assert isinstance(loaded, Classifier)
    for key, value in zoo.load_classifier(classifier).state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])


class Measuring:
    """Takes a module as the callbacks that measure do."""

    def __init__(self, extractor: nn.Module) -> None:
        self.extractor = extractor


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        ("zoo.load", {"weights": "raw"}, TinyGAN),
        ("zoo.load", {}, Classifier),
        ("zoo.load_classifier", {}, Classifier),
    ],
)
def test_both_are_arguments_that_a_recipe_can_name(
    function: str, arguments: dict[str, str], expected: type[nn.Module], checkpoint: Path, classifier: str
) -> None:
    """``class_path: zoo.load`` builds what an argument of type ``nn.Module`` asks for."""
    name = classifier if expected is Classifier else str(checkpoint)
    extractor = {"class_path": function, "init_args": {"name": name, **arguments}}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--measuring", type=Measuring)
    config = parser.parse_object(
        {"measuring": {"class_path": f"{__name__}.Measuring", "init_args": {"extractor": extractor}}}
    )
    again = parser.parse_string(parser.dump(config))
    assert type(parser.instantiate_classes(again).measuring.extractor) is expected
