"""Measuring checkpoints: what is measured of which kind of module, with which classifier, and the command."""

import json
import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

import zoo
import zoo.evaluation
import zoo.evaluation_request
import zoo.image_evaluation
import zoo.paths
import zoo.saving
from datamodules import DataSpec, MarkovSource, Ring, TwoMoons
from datamodules.sequences.pixel_sequence import PixelSequence
from lightning_modules import (
    ALI,
    NCE,
    RBM,
    SNGAN,
    VAE,
    WGANGP,
    Classifier,
    CreativeAdversarialNetwork,
    Gaussian,
    GibbsNet,
    TeacherForcing,
    ZooModule,
)
from lightning_modules.metrics.reference_statistics import compute_statistics, real_statistics
from lightning_modules.metrics.sample_evaluation import evaluate_samples, train_fid
from tests.zoo.conftest import Named
from tests.zoo.running import fails, run
from zoo.__main__ import main
from zoo.evaluation import EVALUATIONS, evaluate, run_test
from zoo.evaluation_request import default_extractor
from zoo.image_evaluation import Means
from zoo.recipe import read_recipe

IMAGES = DataSpec("synthetic", "image", (1, 28, 28), value_range=(-1.0, 1.0), num_classes=4)
UNIT = replace(IMAGES, value_range=(0.0, 1.0))
BITS = replace(UNIT, preprocessing="binarized")
PIXELS = DataSpec(PixelSequence.name, "tokens", (784,), vocabulary=("0", "1"), preprocessing="binarized")
SONGS = DataSpec("songs", "piano_roll", (24, 88), value_range=(0.0, 1.0))

# The table of what is measured


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: Classifier.for_data(IMAGES, width=2), ["held_out", "references"]),
        (lambda: WGANGP.for_data(IMAGES, width=2), ["images", "conditioning"]),
        (lambda: SNGAN.for_data(IMAGES, width=2, num_classes=4), ["images", "classes", "conditioning"]),
        (lambda: CreativeAdversarialNetwork.for_data(IMAGES, width=2), ["images", "styles", "conditioning"]),
        (lambda: CreativeAdversarialNetwork.for_data(TwoMoons().spec, width=2), ["styles"]),
        (lambda: VAE.for_data(BITS, hidden=4), ["held_out", "reconstructions", "images"]),
        (lambda: VAE.for_data(IMAGES, width=2), ["held_out", "reconstructions", "images", "means"]),
        (lambda: RBM.for_data(BITS, num_hidden=4), ["held_out", "reconstructions", "images"]),
        (lambda: ALI.for_data(IMAGES, width=2), ["reconstructions", "images", "conditioning"]),
        (lambda: GibbsNet.for_data(Ring().spec, width=2), ["reconstructions", "points"]),
        (lambda: NCE.for_data(IMAGES, width=2), ["held_out", "images"]),
        (lambda: WGANGP.for_data(Ring().spec, width=2), ["points"]),
        (lambda: Gaussian.for_data(Ring().spec), ["held_out", "points"]),
        (lambda: Gaussian.for_data(TwoMoons().spec), ["held_out"]),
        (lambda: WGANGP.for_data(TwoMoons().spec, width=2), []),
        (lambda: TeacherForcing.for_data(MarkovSource().spec, width=2), ["held_out", "sequences"]),
        (lambda: TeacherForcing.for_data(SONGS, width=2), ["held_out", "sequences"]),
        (lambda: TeacherForcing.for_data(PIXELS, width=2), ["held_out", "sequences", "images"]),
    ],
)
def test_each_kind_of_module_has_its_metrics(build: Callable[[], ZooModule], expected: list[str]) -> None:
    module = build()
    assert [name for name, evaluation in EVALUATIONS.items() if evaluation.applies(module)] == expected


def test_the_likelihood_and_all_that_is_compared_step_by_step_needs_the_data() -> None:
    assert [name for name, evaluation in EVALUATIONS.items() if evaluation.needs_data] == [
        "held_out", "reconstructions", "references", "sequences", "counterfactuals",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("build", "samples_only", "expected"),
    [
        (lambda: VAE.for_data(BITS, hidden=4), False, ["held_out", "reconstructions", "images"]),
        (lambda: VAE.for_data(BITS, hidden=4), True, ["images"]),
        (lambda: Gaussian.for_data(Ring().spec), True, ["points"]),
        (lambda: Classifier.for_data(IMAGES, width=2), True, []),
        (lambda: TeacherForcing.for_data(SONGS, width=2), True, []),
    ],
)
def test_all_that_applies_is_measured_in_the_order_of_the_table(
    build: Callable[[], ZooModule], samples_only: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo.save(build(), "saved", samples=False)
    called: list[str] = []
    for name, evaluation in list(EVALUATIONS.items()):

        def measure(request: zoo.evaluation.Request, name: str = name) -> dict[str, float]:
            called.append(name)
            assert (request.num_samples, request.seed, request.extractor) == (7, 3, "x")
            return {name: float(len(called))}

        monkeypatch.setitem(EVALUATIONS, name, evaluation._replace(measure=measure))
    values = evaluate(zoo.card("./saved"), num_samples=7, seed=3, extractor="x", samples_only=samples_only)
    assert called == expected
    assert values == {name: float(i + 1) for i, name in enumerate(expected)}


@pytest.mark.filterwarnings("ignore:FID of", "ignore:.*samples")
def test_means_are_measured_beside_samples_under_names_of_their_own(classifier: Path, named: type[Named]) -> None:
    """Each name's values are those of these images themselves."""
    torch.manual_seed(0)
    module = VAE.for_data(named().spec, width=2, hidden=4, latent_dim=2)
    zoo.save(module, "vae", samples=False)
    values = evaluate(zoo.card("./vae"), extractor=str(classifier), num_samples=50, samples_only=True)
    extractor, module = zoo.load_classifier(str(classifier)), zoo.load("./vae", VAE)
    for name, sampled in (("fid", module), ("fid_of_means", Means(module))):
        found = evaluate_samples(sampled, extractor, spec=module.data_spec, num_samples=50, metrics=["fid"])
        assert values[f"test/{name}-synthetic-50"] == pytest.approx(found["test/fid-synthetic-50"], rel=1e-6)
    assert values["test/fid-synthetic-50"] != values["test/fid_of_means-synthetic-50"]
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    means = module.sample(3, generator=generators[0], mean=True)
    assert torch.equal(Means(module).sample(3, generator=generators[1]), means)


def test_the_ambiguity_of_style_is_of_samples_to_the_models_own_discriminator() -> None:
    torch.manual_seed(0)
    module = CreativeAdversarialNetwork.for_data(TwoMoons().spec, width=2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    zoo.save(module, "saved", samples=False)
    (found,) = evaluate(zoo.card("./saved"), num_samples=500).items()
    posterior = module.style_posterior(module.sample(500, generator=torch.Generator().manual_seed(1)))
    expected = -torch.xlogy(posterior, posterior).sum(1) / math.log(2)  # of two styles
    error = expected.std().item() * (2 / 500) ** 0.5  # of the difference of two means of 500 samples
    assert 0 < error < 0.05
    assert found == ("test/style_ambiguity-500", pytest.approx(expected.mean().item(), abs=4 * error))


@pytest.mark.parametrize(("kind", "length"), [("text", 400), ("strokes", None), ("ring", None)])
def test_seconds_per_sample_are_the_shortest_of_three_runs(
    kind: str, length: int | None, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 30.0, 100.0, 116.0, 200.0, 220.0])
    monkeypatch.setattr(zoo.evaluation, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    module, card = zoo.load(str(saved / kind)), zoo.card(saved / kind)
    calls: list[tuple[int, int | None]] = []
    sample = module.sample

    def counted(num: int, *, generator: torch.Generator, **settings: Any) -> torch.Tensor:
        calls.append((num, settings.get("length")))
        return sample(num, generator=generator, **settings)

    monkeypatch.setattr(module, "sample", counted)
    values = zoo.evaluation.sampling_speed(zoo.evaluation.Request(card, module))
    assert values == {"test/seconds_per_sample-cpu-64": 16 / 64}
    assert calls == [(64, length)] * 3


def test_speed_is_measured_on_request_and_of_what_samples(saved: Path, classified: Path) -> None:
    key = "test/seconds_per_sample-cpu-64"
    assert 0 < evaluate(zoo.card(saved / "ring"), num_samples=50, speed=True)[key] < 1
    assert key not in evaluate(zoo.card(saved / "ring"), num_samples=50)
    assert evaluate(zoo.card(classified), samples_only=True, speed=True) == {}


def test_a_checkpoint_without_recorded_data_is_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save(WGANGP(width=2), "plain")
    assert "plain" in fails(["evaluate", "plain"], capsys)


def test_the_command_says_that_nothing_can_be_measured_without_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save(TeacherForcing.for_data(SONGS, width=2), "songs", samples=False)
    assert "--samples-only" in fails(["evaluate", "songs", "--samples-only"], capsys)


# The classifier that images are measured with


@pytest.fixture
def shelf(classified: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classifiers in place of the zoo's checkpoints, of which the second in the alphabet has the data."""
    folder = tmp_path / "shelf"
    for name, data in (("a", "others"), ("m", "synthetic"), ("z", "others_still")):
        copied = Path(shutil.copytree(classified, folder / name))
        config = json.loads((copied / "config.json").read_text())
        config["data_spec"]["name"] = data
        (copied / "config.json").write_text(json.dumps(config))
    zoo.save(WGANGP.for_data(IMAGES, width=2), folder / "b", samples=False)
    for module in (zoo.paths, zoo.hub):
        monkeypatch.setattr(module, "checkpoints_dir", lambda: folder)
    return folder


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Recipes of which one names its extractor."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    own, other = ({"class_path": f"datamodules.{name}"} for name in ("SyntheticImages", "FashionMNIST"))
    contents: dict[str, Any] = {
        "named": {"extractor": "z", "data": own},
        "silent": {"data": own},
        "null": {"extractor": None, "data": own},
        "elsewhere": {"extractor": "z", "data": other},  # an override has chosen the data of the checkpoint
    }
    for name, content in contents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"model": {}, **content}))
    read_recipe.cache_clear()
    monkeypatch.setattr(zoo.paths, "recipes_dir", lambda: folder)
    yield folder
    read_recipe.cache_clear()


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        *(("named", "z"), ("silent", "m"), ("null", "m"), ("elsewhere", "m")),
        *((None, "m"), ("gone", "m"), ("../x", "m")),
    ],
)
def test_the_recipe_names_the_extractor_and_otherwise_the_data_do(
    recipe: str | None, expected: str, shelf: Path, recipes: Path
) -> None:
    card = replace(zoo.card("b"), recipe=recipe)
    assert default_extractor(card, IMAGES) == expected


def test_a_generative_model_of_the_same_data_is_no_extractor(shelf: Path, recipes: Path) -> None:
    shutil.rmtree(shelf / "m")
    with pytest.raises(zoo.ZooError, match="'synthetic'.*--extractor"):
        default_extractor(zoo.card("b"), IMAGES)


def test_the_extractor_that_was_asked_for_goes_first(shelf: Path, recipes: Path) -> None:
    request = zoo.evaluation.Request(replace(zoo.card("b"), recipe="named"), zoo.load("b"))
    assert zoo.card("z").path.name in str(request.feature_extractor.statistics_dir)
    assert zoo.card("a").path.name in str(replace(request, extractor="a").feature_extractor.statistics_dir)


@pytest.mark.parametrize(
    ("data", "recipe"),
    [
        *((data, None) for data in ("synthetic", "../synthetic", "someone/synthetic", "/synthetic", "synthetic\x00")),
        *(("synthetic", recipe) for recipe in ("../tiny", "tiny.yaml", "/etc/passwd", "classifier.synthetic")),
    ],
)
def test_no_config_chooses_the_classifier(
    data: str,
    recipe: str | None,
    trained: Path,
    classified: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(classified, "classifier.synthetic")
    Path("classifier.").mkdir()
    shutil.copytree(trained / "runs/tiny/zoo", "tiny")
    Path("tiny.yaml").write_text("extractor: classifier.synthetic\n")
    config = json.loads(Path("tiny/config.json").read_text())
    config["data_spec"]["name"], config["recipe"] = data, recipe
    Path("tiny/config.json").write_text(json.dumps(config))
    monkeypatch.setattr(
        zoo.evaluation_request, "load_extractor", lambda *_, **__: pytest.fail("a classifier was loaded")
    )
    assert "--extractor" in fails(["evaluate", "tiny"], capsys)


def test_evaluate_without_a_classifier_names_the_data(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    assert "'synthetic'" in fails(["evaluate", "runs/tiny/zoo"], capsys)


def test_a_generative_model_cannot_be_asked_for_as_the_extractor(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    error = fails(["evaluate", "runs/tiny/zoo", "--extractor", "runs/tiny/zoo"], capsys)
    assert "WGANGP" in error
    assert "Classifier" in error


# The command


@pytest.mark.filterwarnings("ignore:.*samples")
@pytest.mark.parametrize("option", ["--extractor", "--judge"])
def test_evaluate_and_write(option: str, trained: Path, classified: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained / "runs/tiny/zoo", tmp_path / "tiny"))
    done = run(tmp_path, "evaluate", "tiny", option, str(classified), "--num-samples", "64", "--write")
    metrics = zoo.card(folder).metrics
    assert {"test/fid-synthetic-64", "test/inception_score-synthetic-64"} <= set(metrics)
    assert metrics["test/fid-synthetic-64"] > 0
    assert f"{metrics['test/fid-synthetic-64']:.5g}" in done.stdout
    assert "test/fid-synthetic-64" in (folder / "README.md").read_text()
    zoo.load(str(folder))


@pytest.mark.filterwarnings("ignore:FID of")
@pytest.mark.parametrize(("source", "samples_only"), [("card", True), ("data", False), ("data", True)])
def test_fid_is_stated_over_that_of_as_many_training_images(
    source: str, samples_only: bool, classifier: Path, named: type[Named], tmp_path: Path
) -> None:
    """The reference is in the classifier's card, or computed from the data unless those are not asked for."""
    of_real = "test/fid_of_training_pictures-synthetic-50"
    extractor = zoo.load_classifier(str(classifier))
    statistics = real_statistics(extractor, named().spec, "test")
    reference = train_fid(extractor, named(), num_samples=50, statistics=statistics)
    if source == "card":
        reference = 2 * reference  # as another machine measured it
        zoo.saving.update_metrics(classifier, {of_real: reference})
    zoo.save(WGANGP.for_data(named().spec, width=2), tmp_path / "gan", samples=False)
    values = evaluate(zoo.card("./gan"), extractor=str(classifier), num_samples=50, samples_only=samples_only)
    if source == "data" and samples_only:
        assert "test/fid_over_real-synthetic-50" not in values
    else:
        expected = values["test/fid-synthetic-50"] / reference
        assert values["test/fid_over_real-synthetic-50"] == pytest.approx(expected)
    more = evaluate(zoo.card("./gan"), extractor=str(classifier), num_samples=70, samples_only=samples_only)
    assert "test/fid_over_real-synthetic-70" not in more, "there are 64 training images"


@pytest.mark.filterwarnings("ignore:FID of")
def test_an_extractor_of_another_shape_is_refused_before_anything_is_sampled(
    classified: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(IMAGES, shape=(1, 8, 8))
    zoo.save(WGANGP.for_data(spec, width=2), "small", samples=False)
    monkeypatch.setattr(WGANGP, "sample", lambda *_, **__: pytest.fail("it was sampled"))
    error = fails(["evaluate", "./small", "--extractor", str(classified)], capsys)
    assert "[1, 8, 8]" in error
    assert "[1, 28, 28]" in error


def test_a_card_that_cannot_be_written_is_refused_before_it_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zoo.checkpoint_folder.os.access", lambda path, mode: False)
    monkeypatch.setattr(zoo.evaluation, "evaluate", lambda *_, **__: pytest.fail("it was measured"))
    assert "is not writable: measure without --write" in fails(["evaluate", "wgan_gp.ring8", "--write"], capsys)


def test_evaluate_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save(WGANGP.for_data(Ring().spec, width=8), tmp_path / "ring")
    assert main(["evaluate", "ring", "--num-samples", "500", "--write"]) == 0
    assert 0 <= zoo.card("ring").metrics["test/modes-500"] <= 8
    assert main(["evaluate", "ring"]) == 0
    assert "test/modes-2500" in capsys.readouterr().out


@pytest.mark.parametrize(("method", "num_classes"), [(ALI, None), (VAE, None), (VAE, 4)])
def test_evaluate_reconstructions(method: Any, num_classes: int | None, named: type[Named], tmp_path: Path) -> None:
    """The error of all test images, by the encoder's own calls; a class-conditional model gets the true classes."""
    classes = {} if num_classes is None else {"num_classes": num_classes}
    module = method.for_data(named().spec, width=2, **classes)
    zoo.save(module, tmp_path / "saved", samples=False)
    loaded = zoo.load("./saved", method)
    data = named()
    data.batch_size = 50
    (batch,) = data.test_dataloader()
    labels = {} if num_classes is None else {"labels": batch.labels}
    expected = (loaded.reconstruct(batch.x, **labels) - batch.x).square().mean().item()
    request = zoo.evaluation.Request(zoo.card("./saved"), loaded)
    assert EVALUATIONS["reconstructions"].measure(request) == {"test/reconstruction_mse": pytest.approx(expected)}


def test_evaluate_a_classifier(
    classifier: Path, named: type[Named], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    log.addHandler(caplog.handler)
    try:
        assert main(["evaluate", str(classifier), "--write"]) == 0
    finally:
        log.removeHandler(caplog.handler)
    metrics = zoo.card(classifier).metrics
    accuracy = metrics["test/accuracy"]
    assert accuracy == pytest.approx(round(accuracy * 50) / 50), "a share of the 50 test images"
    assert "available" not in caplog.text
    assert log.isEnabledFor(logging.INFO), "only for this command"
    assert "Testing" not in "".join(capfd.readouterr()), "no progress bar where nobody watches"
    real = compute_statistics(zoo.load_classifier(str(classifier)), named().images("test")[0])
    assert metrics["test/inception_score_of_real_pictures-synthetic"] == pytest.approx(real.inception_score.mean)
    assert "test/inception_score_of_real_pictures-synthetic_binarized" in metrics
    assert not any("fid_of_training_pictures" in name for name in metrics), "there are 64, not 10 000"


def test_evaluate_a_classifier_with_enough_training_images(
    classifier: Path, named: type[Named], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo.image_evaluation, "NUM_IMAGES", 40)
    measured = evaluate(zoo.card(classifier))
    expected = train_fid(zoo.load_classifier(str(classifier)), named(), num_samples=40)
    assert measured["test/fid_of_training_pictures-synthetic-40"] == pytest.approx(expected)
    assert expected > 0


@pytest.mark.parametrize(
    ("device", "accelerator", "devices"), [("cpu", "cpu", 1), ("cuda", "cuda", 1), ("cuda:1", "cuda", [1])]
)
def test_the_test_runs_on_the_device_that_was_asked_for(
    device: str, accelerator: str, devices: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: dict[str, object] = {}

    class Recorded:
        def __init__(self, **settings: object) -> None:
            chosen.update(settings)

        def test(self, *_: object, **__: object) -> list[dict[str, torch.Tensor]]:
            return [{"test/accuracy": torch.tensor(0.5)}]

    monkeypatch.setattr(zoo.evaluation, "Trainer", Recorded)
    assert run_test(Classifier(width=2), Named(), device) == {"test/accuracy": 0.5}
    assert (chosen["accelerator"], chosen["devices"]) == (accelerator, devices)
