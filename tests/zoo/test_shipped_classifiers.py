"""The classifiers that ship: how well they name real images, and the statistics of these that come with them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from lightning.pytorch import LightningDataModule

import zoo
from datamodules import DataSpec
from lightning_modules.metrics.protocol import extract_images
from lightning_modules.metrics.reference_statistics import real_statistics
from tests.zoo.recorded import disagreements, forgotten
from zoo.cards import Card
from zoo.counterfactual_figures import attributes_named
from zoo.data import datamodule_of
from zoo.evaluation import evaluate
from zoo.paths import checkpoints_dir

CLASSIFIERS = [name for name in zoo.names() if zoo.card(name).method == "Classifier"]
MEGABYTE = 2**20
SHIPPED = {
    "classifier.emoji": [["all", "noto-twemoji-resized-32-composition"]],
    "classifier.fashion_mnist": [["test", "binarized"], ["test", "plain"], ["val", "plain"]],
}
"""Splits and preprocessing of the statistics that ship with each classifier."""
LEAST_NAMED = {"tone": 0.95, "person": 0.85, "role": 0.75, "style": 0.98}
"""Shares of held-out emoji whose attributes the classifier must name."""


def spec_of(card: Card) -> DataSpec:
    assert card.data_spec is not None
    return DataSpec.from_json(card.data_spec)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_are_as_good_as_recorded(name: str, on_disk: Callable[[LightningDataModule], None]) -> None:
    card = zoo.card(name)
    datamodule = datamodule_of(card)
    on_disk(datamodule)
    images, labels = datamodule.images("test")
    extracted = extract_images(zoo.load_classifier(name), images[:2500])
    accuracy = (extracted.logits.argmax(1) == labels[:2500]).double().mean().item()
    assert card.metrics["test/accuracy"] >= 0.935
    assert accuracy == pytest.approx(card.metrics["test/accuracy"], abs=0.025)  # 5 s.e. of 2 500 images


def test_the_attributes_of_emoji_that_it_never_saw_are_named(on_disk: Callable[[LightningDataModule], None]) -> None:
    card, classifier = zoo.card("classifier.emoji"), zoo.load_classifier("classifier.emoji")
    datamodule = datamodule_of(card)
    on_disk(datamodule)
    extracted = extract_images(classifier, datamodule.images("test")[0])
    found = attributes_named(classifier, extracted, datamodule.attributes("test"))
    assert set(found) == {"category", *LEAST_NAMED}
    for name, least in LEAST_NAMED.items():
        named = found[name]
        assert named[~named.isnan()].mean() > least
        assert card.metrics[f"test/accuracy_{name}"] > least


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_all_metrics_of_classifiers_are_as_recorded(name: str, on_disk: Callable[[LightningDataModule], None]) -> None:
    card = zoo.card(name)
    on_disk(datamodule_of(card))
    measured = evaluate(card)
    assert disagreements(card, measured) == {}
    assert forgotten(card, measured) == []


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_statistics_of_real_images_ship_with_the_classifier(name: str) -> None:
    folder = checkpoints_dir() / name / "statistics"
    assert sorted(path.name.split(".")[1:3] for path in folder.glob("*.safetensors")) == SHIPPED[name]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8 * MEGABYTE


def test_shipped_statistics_of_all_emoji_are_found_without_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", "empty")
    card, classifier = zoo.card("classifier.emoji"), zoo.load_classifier("classifier.emoji")
    found = real_statistics(classifier, spec_of(card), "all")
    assert found.num_samples == 7572
    recorded = card.metrics["test/inception_score_of_real_pictures-emoji-all"]
    assert found.inception_score.mean == pytest.approx(recorded, rel=1e-4)


def test_shipped_statistics_are_found_without_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of the files carry the digest that the classifier in the zoo has."""
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", "empty")
    name = "classifier.fashion_mnist"
    card, classifier = zoo.card(name), zoo.load_classifier(name)
    spec = spec_of(card)
    assert real_statistics(classifier, spec, "val").num_samples == 5000
    plain, bits = (real_statistics(classifier, of, "test") for of in (spec, replace(spec, preprocessing="binarized")))
    assert plain.num_samples == bits.num_samples == 10_000
    recorded = card.metrics["test/inception_score_of_real_pictures-fashion_mnist"]
    assert plain.inception_score.mean == pytest.approx(recorded, rel=1e-4)
    assert bits.inception_score.mean < recorded - 1, "bits alone are harder to name"
