"""Every checkpoint that ships: it loads, samples and measures as its card says."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, Trainer

import zoo
from datamodules import DataSpec
from lightning_modules import METHODS, ZooModule
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.metrics.names import metric_name
from lightning_modules.metrics.sample_evaluation import evaluate_classes
from lightning_modules.parts.capabilities import SupportsSampling
from lightning_modules.parts.quantization import to_uint8
from lightning_modules.rendering.renderers import SEQUENCES as SEQUENCE_KINDS
from tests.zoo.recorded import as_recorded, chosen_hyperparameters, disagreements, forgotten
from zoo.cards import Card
from zoo.data import compared_with, datamodule_of
from zoo.evaluation import EVALUATIONS, evaluate
from zoo.evaluation_request import default_extractor
from zoo.paths import recipe_names, recipe_path
from zoo.recipe import read_recipe

NAMES = zoo.names()
CLASSIFIERS = [name for name in NAMES if zoo.card(name).method == "Classifier"]
SEQUENCES = [name for name in NAMES if (zoo.card(name).data_spec or {}).get("kind") in SEQUENCE_KINDS]
IMAGES = [name for name in NAMES if name not in CLASSIFIERS and (zoo.card(name).data_spec or {}).get("kind") == "image"]
MEGABYTE = 2**20


def spec_of(card: Card) -> DataSpec:
    assert card.data_spec is not None
    return DataSpec.from_json(card.data_spec)


def classifier_of(card: Card) -> Card:
    """The classifier that samples of a checkpoint are measured with."""
    return zoo.card(default_extractor(card, spec_of(card)))


def names_of(card: Card, num_samples: int) -> tuple[str, str]:
    """The names of FID and Inception Score; those of binarized images have names of their own."""
    fid, score = (
        metric_name(compared_with(card), metric, spec_of(classifier_of(card)).name, num_samples, spec_of(card))
        for metric in ("fid", "inception_score")
    )
    return fid, score


def test_the_zoo_is_not_empty_and_stays_small() -> None:
    assert NAMES
    sizes = {name: sum(p.stat().st_size for p in zoo.card(name).path.rglob("*") if p.is_file()) for name in NAMES}
    assert max(sizes.values()) < 20 * MEGABYTE, sizes
    assert sum(sizes.values()) < 200 * MEGABYTE


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_and_samples_reproducibly(name: str) -> None:
    module: ZooModule = zoo.load_classifier(name) if name in CLASSIFIERS else zoo.load(name)
    assert not module.training
    assert all(torch.isfinite(value).all() for value in module.state_dict().values() if value.is_floating_point())
    assert isinstance(module, SupportsSampling) == (name not in CLASSIFIERS)
    if not isinstance(module, SupportsSampling):
        return
    first, second = (module.sample(4, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape[0] == 4
    if name not in SEQUENCES:  # those may be longer than a training example is
        assert first.shape[1:] == module.data_spec.shape
    assert first.float().std(0).mean() > 0.01  # not one image four times


@pytest.mark.parametrize("name", NAMES)
def test_its_card_agrees_with_the_file_and_the_recipe(name: str) -> None:
    card = zoo.card(name)
    module = zoo.load(name)
    networks = {key: sum(p.numel() for p in child.parameters()) for key, child in module.named_children()}
    own = sum(p.numel() for p in module.parameters(recurse=False))
    assert dict(card.networks) == {key: count for key, count in (networks | {"module": own}).items() if count}
    assert card.parameters <= 5_000_000
    assert card.recipe == name
    assert card.metrics
    assert card.curve
    assert card.training["examples"] > 0
    assert (card.path / "README.md").is_file()
    recipe = read_recipe(name)
    assert recipe["model"]["class_path"].rpartition(".")[2] == card.method
    chosen = recipe["model"]["init_args"]
    assert chosen_hyperparameters(card, chosen) == as_recorded(chosen)
    assert card.batches == recipe["trainer"]["max_steps"]


FIRST_BLOCK = {
    "rbm.fashion_mnist": ((1.86, 0.15), (2.22, 0.055)),
    "ebm.fashion_mnist": ((7.27, 0.20), (3.95, 0.11)),
}
"""FID and Inception Score of 250 samples of long chains, over five seeds: mean and standard deviation."""


@pytest.mark.filterwarnings("ignore:FID of 250 samples")
@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST_BLOCK)
def test_one_block_of_long_chains_measures_as_it_did(name: str) -> None:
    """Within four standard deviations: a false alarm in ten thousand, as another machine has other samples."""
    card = zoo.card(name)
    measured = evaluate(card, num_samples=250, samples_only=True)
    for key, (mean, deviation) in zip(names_of(card, 250), FIRST_BLOCK[name], strict=True):
        assert measured[key] == pytest.approx(mean, abs=4 * deviation)


MEASURED_BY_DEFAULT = {
    "gaussian.fashion_mnist", "gaussian_mixture.fashion_mnist", "iwae.fashion_mnist_binary", "nce.fashion_mnist",
    "r3gan.fashion_mnist", "vae.fashion_mnist",
}  # fmt: skip
"""One of each kind that samples in seconds. ``test_outputs_are_those_of_before`` runs the networks of all."""


def assert_samples_measure_as_recorded(name: str, num_samples: int) -> None:
    card = zoo.card(name)
    measured = evaluate(card, num_samples=num_samples, samples_only=True)
    assert {*names_of(card, num_samples)} <= measured.keys()
    assert disagreements(card, measured) == {}


FLOWS_BY_DEFAULT = {"flow_matching.fashion_mnist", "flow_matching.fashion_mnist.likelihood"}
"""Those of captions and of classes take a minute; the share of right classes has the latter in the default suite."""


@pytest.mark.filterwarnings("ignore:FID of 250 samples")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FLOWS_BY_DEFAULT else pytest.mark.slow)
        for name in IMAGES
        if zoo.card(name).method == "FlowMatching"
    ],
)
def test_a_block_of_flows_measures_as_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the share of right classes, which has 2 000 samples."""
    monkeypatch.delitem(EVALUATIONS, "classes")
    assert_samples_measure_as_recorded(name, 250)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in MEASURED_BY_DEFAULT else pytest.mark.slow) for name in IMAGES]
)
def test_a_thousand_samples_measure_as_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the Jacobians of generators, whose number does not depend on that of samples: four times their time."""
    monkeypatch.delitem(EVALUATIONS, "conditioning")
    assert_samples_measure_as_recorded(name, 1000)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", IMAGES)
def test_all_samples_and_likelihoods_measure_as_recorded(name: str, fashion_mnist: None) -> None:
    card = zoo.card(name)
    measured = evaluate(card)
    assert names_of(card, zoo.load(name).num_evaluated)[0] in measured
    assert disagreements(card, measured) == {}
    assert forgotten(card, measured) == []


@pytest.mark.parametrize(
    "name", [name for name in IMAGES if issubclass(METHODS[zoo.card(name).method], LikelihoodModule)]
)
def test_cards_say_whether_a_likelihood_is_exact_a_bound_or_an_estimate(name: str) -> None:
    metrics = zoo.card(name).metrics
    if zoo.card(name).method == "EBM":  # its sampler's temperature is not 1: it has no nats to give
        assert metrics["test/energy_gap"] > 0
        assert metrics["test/ess"] > 0
        return
    kinds = [key.removeprefix("test/nll-") for key in metrics if key.startswith("test/nll-")]
    assert kinds
    for kind in kinds:
        assert metrics[f"test/nll_standard_error-{kind}"] > 0
        assert f"test/bits_per_dim-{kind}" in metrics


@pytest.mark.parametrize("name", SEQUENCES)
def test_cards_hold_nats_per_step_and_samples_to_read_or_hear(name: str) -> None:
    card = zoo.card(name)
    assert [key for key in card.metrics if key.startswith("test/nats_per_step-exact")]
    extension = {"piano_roll": "mid", "strokes": "svg", "video": "gif"}.get(spec_of(card).kind, "txt")
    if len(spec_of(card).vocabulary) != 2:  # bits are pixels, and make images
        assert (card.path / f"samples.{extension}").stat().st_size > 100


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.filterwarnings("ignore")
def test_held_out_sequences_measure_as_recorded(name: str, on_disk: Callable[[LightningDataModule], None]) -> None:
    """Within 1 %, as a text that is read in streams begins without context in each; a part of long sets within 5 %."""
    module, datamodule = zoo.load(name), datamodule_of(zoo.card(name))
    on_disk(datamodule)
    long = len(datamodule.spec.vocabulary) == 2 or datamodule.spec.kind in ("video", "strokes")
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_test_batches=4 if long else 1.0,
    )
    (measured,) = trainer.test(module, datamodule, verbose=False)
    for key, value in measured.items():
        if key.startswith("test/nats_per_step"):
            assert value == pytest.approx(zoo.card(name).metrics[key], rel=0.05 if long else 0.01)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name.endswith("chorales") else pytest.mark.slow) for name in SEQUENCES],
)
def test_all_metrics_of_sequences_are_as_recorded(name: str, on_disk: Callable[[LightningDataModule], None]) -> None:
    card = zoo.card(name)
    on_disk(datamodule_of(card))
    measured = evaluate(card)
    assert [key for key in measured if key.startswith("test/nats_per_step-exact")]
    assert disagreements(card, measured) == {}
    assert forgotten(card, measured) == []


@pytest.mark.parametrize(
    ("key", "stale"),
    [
        ("test/copied_melody_8grams-77", 0.005972),
        ("test/copied_melody_8grams_of_real", 0.41376),
        ("test/nats_per_step-exact", 4.83),
        ("test/repeated_frames-77", 0.08),
        ("test/hidden_frechet-prefix8-steps24to32-34", 0.08),
    ],
)
def test_a_stale_number_would_be_seen(key: str, stale: float) -> None:
    card = zoo.card("teacher_forcing.jsb_chorales_nade")
    assert disagreements(card, card.metrics) == {}
    measured = dict(card.metrics)
    old = replace(card, metrics={**measured, key: stale})
    assert disagreements(old, measured) == {key: (measured[key], stale)}
    assert disagreements(replace(card, metrics={}), {key: stale}) == {key: (stale, None)}
    del measured[key]
    assert forgotten(card, measured) == [key]


@pytest.mark.parametrize("name", [name for name in NAMES if "modes" in " ".join(zoo.card(name).metrics)])
def test_points_cover_the_modes_as_recorded(name: str) -> None:
    card = zoo.card(name)
    measured = evaluate(card)
    assert measured["test/modes-2500"] == len(spec_of(card).modes)
    assert disagreements(card, measured) == {}
    assert forgotten(card, measured) == []
    assert measured["test/kl-2500"] < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_every_fid_is_stated_relative_to_that_of_real_images(name: str) -> None:
    card = zoo.card(name)
    text = (card.path / "README.md").read_text(encoding="utf-8")
    fids = {key.removeprefix("test/fid-"): value for key, value in card.metrics.items() if key.startswith("test/fid-")}
    judge = classifier_of(card) if name in IMAGES else zoo.card("classifier.fashion_mnist")  # pixels as tokens
    real = judge.metrics
    assert fids or name not in IMAGES
    for protocol, fid in fids.items():
        if protocol.endswith(("-all", "-250")) and f"test/fid_of_training_pictures-{protocol}" not in real:
            continue  # there are fewer training images, or it is the block of a flow that is measured by default
        ratio = card.metrics[f"test/fid_over_real-{protocol}"]
        assert ratio == pytest.approx(fid / real[f"test/fid_of_training_pictures-{protocol}"], rel=1e-9)
        assert f"{ratio:.3g} ({protocol})" in text


@pytest.mark.parametrize("name", NAMES)
def test_no_card_publishes_a_metric_of_our_classifier_as_one_with_inception(name: str) -> None:
    card = zoo.card(name)
    front_matter = yaml.safe_load((card.path / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    types = {metric["name"]: metric["type"] for metric in front_matter["model-index"][0]["results"][0]["metrics"]}
    assert types.keys() == card.metrics.keys()
    assert not {"fid", "kid", "inception_score", "precision", "recall"} & set(types.values())
    for key in [key for key in types if "/fid-" in key]:
        of_classifier = f"fid_{spec_of(classifier_of(zoo.card(name))).name}_classifier"
        assert types[key] == ("fid_efficientnet_lite0" if "-efficientnet_lite0-" in key else of_classifier)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".fashion_mnist.conditional")])
def test_the_classifier_names_the_class_that_was_asked_for(name: str) -> None:
    module, classifier = zoo.load(name), zoo.load_classifier(classifier_of(zoo.card(name)).name)
    spec, flows = module.data_spec, zoo.card(name).method == "FlowMatching"
    num_samples = 50 if flows else 500
    if flows:  # the evaluation's blocks of 250 take a minute
        labels = torch.arange(num_samples) % 10
        images = module.sample(num_samples, labels=labels, generator=torch.Generator().manual_seed(0))
        _, logits = classifier.extract(to_uint8(images, spec.value_range))
        share = (logits.argmax(1) == labels).float().mean().item()
    else:
        (share,) = evaluate_classes(module, classifier, spec=spec, num_samples=num_samples).values()
    recorded = zoo.card(name).metrics["test/class_accuracy-fashion_mnist-2k"]
    assert recorded > 0.9  # of the real test images it names 93.7 % rightly
    assert share == pytest.approx(recorded, abs=5 * math.sqrt(0.9 * 0.1 / num_samples))


NOT_YET_TRAINED = {
    "ladder_vae.fashion_mnist",
}
"""Recipes whose first line says that they have not been trained; a name leaves when its checkpoint is there."""


def test_every_recipe_has_its_checkpoint() -> None:
    assert sorted(recipe_names()) == sorted({*NAMES, *NOT_YET_TRAINED})
    untrained = {
        name for name in recipe_names() if "Not yet trained" in recipe_path(name).read_text().partition("\n")[0]
    }
    assert untrained == NOT_YET_TRAINED
