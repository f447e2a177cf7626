"""The image metrics of a run: one pass for all, the same numbers on any machine, and nothing else disturbed."""

import inspect
import random
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Generator, Tensor, nn

from datamodules.spec import DataSpec
from lightning_modules import METHODS, Classifier, GenerativeModule
from lightning_modules.callbacks import (
    EMA,
    FrechetInceptionDistance,
    ImageMetrics,
    InceptionScore,
    KernelInceptionDistance,
    PrecisionRecall,
    averaged_weights,
    evaluate_samples,
    ship_statistics,
)
from lightning_modules.metrics.feature_metrics import IMAGE_METRICS
from lightning_modules.metrics.image import frechet_distance, moments
from lightning_modules.metrics.protocol import block_generator
from lightning_modules.metrics.reference_statistics import compute_statistics
from lightning_modules.parts.capabilities import SupportsAveraging
from lightning_modules.parts.quantization import to_uint8
from tests import training
from tests.callbacks.measure_on_processes import numbers_on
from tests.processes import on_two
from tests.standins import SHAPE, SPEC, StandInData, StandInExtractor, StandInModel, quiet_trainer

THIN = (FrechetInceptionDistance, InceptionScore, KernelInceptionDistance, PrecisionRecall)
NAMES = ("fid", "inception_score", "inception_score_std", "kid", "kid_std", "precision", "recall")
SETTINGS: dict[str, Any] = {"num_samples": 600, "num_test_samples": 300, "cache_dir": "cache"}
FID = "val/fid-stand_in_extractor-600"


def all_metrics(**settings: Any) -> ImageMetrics:
    return ImageMetrics(StandInExtractor(), **{**SETTINGS, **settings})


def fid_alone(**settings: Any) -> FrechetInceptionDistance:
    return FrechetInceptionDistance(StandInExtractor(), **{**SETTINGS, **settings})


def extractor_of(callback: ImageMetrics) -> StandInExtractor:
    assert isinstance(callback.extractor, StandInExtractor)
    return callback.extractor


def numbers(run: Trainer) -> dict[str, float]:
    return {name: value.item() for name, value in run.callback_metrics.items()}


def validated(callbacks: Sequence[Callback], model: LightningModule, data: StandInData) -> dict[str, float]:
    run = quiet_trainer(callbacks)
    run.validate(model, data, verbose=False)
    return numbers(run)


def test_all_metrics_are_logged_from_one_pass_per_validation() -> None:
    """Samples are drawn and features extracted once for all four: blocks of 250, of which 600 samples need three."""
    callback, model = all_metrics(), StandInModel()
    run = quiet_trainer([callback], max_epochs=2)
    run.fit(model, StandInData())
    assert set(numbers(run)) == {f"val/{name}-stand_in_extractor-600" for name in NAMES}
    assert model.calls == [250] * 3 * 2  # two validations, and none in the sanity check
    # One image, to see whether it fits; the real images once, before the training; and the samples twice.
    assert extractor_of(callback).seen == [1] + [250, 250, 100] + [250] * 3 * 2


def test_the_progress_bar_shows_the_last_fid(capsys: pytest.CaptureFixture[str]) -> None:
    run = quiet_trainer([all_metrics()], max_epochs=2, enable_progress_bar=True)
    run.fit(StandInModel(), StandInData())
    assert run.progress_bar_metrics == {FID: pytest.approx(numbers(run)[FID])}
    assert FID in capsys.readouterr().out


def test_one_pass_logs_exactly_what_the_four_thin_callbacks_log() -> None:
    model, data = StandInModel(), StandInData()
    logged = []
    for callbacks in ([all_metrics()], [thin(StandInExtractor(), **SETTINGS) for thin in THIN]):
        run = quiet_trainer(callbacks)
        run.validate(model, data, verbose=False)
        val = numbers(run)
        run.test(model, data, verbose=False)
        logged.append(val | numbers(run))
    assert len(logged[0]) == 2 * len(NAMES)
    assert logged[0] == logged[1]


@pytest.mark.parametrize(
    ("thin", "names"),
    [(THIN[0], NAMES[:1]), (THIN[1], NAMES[1:3]), (THIN[2], NAMES[3:5]), (THIN[3], NAMES[5:])],
)
def test_a_thin_callback_logs_its_own_metric_alone(thin: type[Any], names: tuple[str, ...]) -> None:
    callback = thin(StandInExtractor(), 20, 30, 5, "cache")
    assert validated([callback], StandInModel(), StandInData()).keys() == {
        f"val/{name}-stand_in_extractor-20" for name in names
    }
    assert (callback.num_samples, callback.num_test_samples, callback.seed, callback.cache_dir) == (20, 30, 5, "cache")


def test_metrics_can_be_chosen() -> None:
    model, chosen = StandInModel(), ("kid", "inception_score")
    values = validated([all_metrics(metrics=chosen)], model, StandInData())
    everything = validated([all_metrics()], model, StandInData())
    assert values == {name: value for name, value in everything.items() if "kid" in name or "score" in name}
    assert len(values) == 4


def test_a_metric_agrees_with_its_definition() -> None:
    model, data = StandInModel(), StandInData()
    logged = validated([fid_alone()], model, data)[FID]
    extractor = StandInExtractor().eval()
    model.eval()
    with torch.no_grad():
        samples = torch.cat([model.sample(250, generator=block_generator(0, block)) for block in range(3)])[:600]
    fake, _ = extractor.extract(((samples + 1) * 127.5).round().to(torch.uint8))
    real, _ = extractor.extract(data.images("val")[0])
    expected = frechet_distance(*moments(real), *moments(fake))
    assert expected > 0.1
    assert logged == pytest.approx(expected, rel=1e-6)


def test_in_trainer_test_the_test_split_is_compared_with() -> None:
    model, data = StandInModel(), StandInData()
    run = quiet_trainer([all_metrics()])
    run.test(model, data, verbose=False)
    outside = evaluate_samples(
        model,
        StandInExtractor(),
        spec=SPEC,
        num_samples=300,
        statistics=compute_statistics(StandInExtractor(), data.images("test")[0]),
        progress=False,
    )
    assert numbers(run) == pytest.approx(outside, rel=1e-6)
    assert set(outside) == {f"test/{name}-stand_in_extractor-300" for name in NAMES}


@pytest.mark.parametrize("batch_size", [3, 40])
def test_the_batch_size_of_training_does_not_matter(batch_size: int) -> None:
    results = [validated([all_metrics()], StandInModel(), StandInData(batch_size=size)) for size in (20, batch_size)]
    assert results[0] == results[1]


def test_the_number_is_the_same_on_one_and_two_processes() -> None:
    results = {1: [numbers_on(1, "numbers-1")], 2: on_two(numbers_on, 2, "numbers-2")}
    for processes in results:
        assert [path.name for path in Path(f"numbers-{processes}-logs/samples").iterdir()] == ["step-00000000.png"]
    grids = [Path(f"numbers-{processes}-logs/samples/step-00000000.png").read_bytes() for processes in (1, 2)]
    assert grids[0] == grids[1]
    # NaN on the second process alone is an error on both, and keeps nobody waiting
    messages = {result["message"] for result in results[1] + results[2]}
    assert len(messages) == 1
    assert re.search(r"block 1 .*\b0\b.*\b3\b", messages.pop())
    one, first, second = (result["numbers"] for result in results[1] + results[2])
    assert one[FID] > 0.1
    assert len(one) == 7 + 7
    assert first == second
    assert first == pytest.approx(one, rel=1e-6)
    for result in results[1] + results[2]:
        assert result["one pass"] == result["numbers"]


def test_random_states_modes_and_weights_are_left_alone() -> None:
    model, callback = StandInModel(), all_metrics()
    model.generator[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = []
    for callbacks in ([], [callback]):
        torch.manual_seed(3)
        validated(callbacks, model, StandInData())
        numpy_state: Any = np.random.get_state()
        states.append((torch.get_rng_state().tolist(), numpy_state[1].tolist(), random.getstate()))
    assert states[0] == states[1]
    assert callback.extractor.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_sampler_may_take_gradients_and_may_not_reach_the_global_random_state() -> None:
    class Langevin(StandInModel):
        def sample(
            self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None
        ) -> Tensor:
            torch.rand(7)
            (weight,) = (parameter for parameter in self.generator.parameters() if parameter.ndim == 2)
            x = torch.randn(num_samples, *SHAPE, generator=generator)
            with torch.enable_grad():
                x.requires_grad_()
                (gradient,) = torch.autograd.grad((weight[0, 0] * x).square().sum(), x)
            return (x - 0.1 * gradient).detach()

    states = []
    for callbacks in ([], [all_metrics()]):
        torch.manual_seed(3)
        validated(callbacks, Langevin(), StandInData())
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_the_extractor_is_in_no_checkpoint() -> None:
    model = StandInModel()
    names = set(model.state_dict())
    run = quiet_trainer([all_metrics()])
    run.fit(model, StandInData())
    assert set(model.state_dict()) == names
    assert not any(isinstance(module, StandInExtractor) for module in model.modules())
    run.save_checkpoint("last.ckpt")
    assert "classes" not in str(torch.load("last.ckpt", weights_only=True))


def test_averaged_weights_are_measured() -> None:
    model, data = StandInModel(), StandInData()
    ema = EMA(half_life_images=1e12, rampup=None)  # the average stays what the weights were at the start
    averaged, raw = quiet_trainer([ema, fid_alone()]), quiet_trainer([fid_alone()])
    averaged.fit(model, data)
    raw.fit(StandInModel(), data)
    assert numbers(averaged)[FID] != numbers(raw)[FID]
    with ema.average_parameters(model):
        statistics = compute_statistics(StandInExtractor(), data.images("val")[0])
        expected = evaluate_samples(
            model, StandInExtractor(), spec=SPEC, num_samples=600, statistics=statistics, progress=False
        )
    assert numbers(averaged)[FID] == pytest.approx(expected["test/fid-stand_in_extractor-600"], rel=1e-6)


def test_callbacks_of_different_protocols_have_samples_of_their_own() -> None:
    """The one with another seed measures other samples; that of fewer samples measures the first of the same."""
    model = StandInModel()
    score, key = ("inception_score",), "val/inception_score-stand_in_extractor-{}"
    values = [
        validated([all_metrics(metrics=score, **settings)], model, StandInData())
        for settings in ({}, {"num_samples": 300}, {"seed": 5})
    ]
    assert model.calls == [250] * (3 + 2 + 3)
    assert values[0].keys() == values[2].keys() != values[1].keys()
    assert values[0][key.format(600)] != values[2][key.format(600)]
    both = validated([fid_alone(), all_metrics(metrics=score, num_samples=300)], model, StandInData())
    assert both[key.format(300)] == values[1][key.format(300)]


def test_a_trained_model_is_never_measured_by_old_samples() -> None:
    run, values = quiet_trainer([fid_alone()]), []
    for scale in (1.0, 0.1):
        run.validate(StandInModel(scale=scale), StandInData(), verbose=False)
        values.append(numbers(run)[FID])
    assert values[0] != values[1]


def test_other_data_are_never_compared_with_old_statistics() -> None:
    class Inverted(StandInData):
        def images(self, split: str) -> tuple[Tensor, Tensor]:
            images, labels = super().images(split)
            return 255 - images, labels

    run, values = quiet_trainer([fid_alone()]), []
    for data in (StandInData(), Inverted()):
        run.validate(StandInModel(), data, verbose=False)
        values.append(numbers(run)[FID])
    assert values[0] != pytest.approx(values[1], rel=1e-3)


def test_bad_requests_are_refused_before_training() -> None:
    for number in (1, 0, -5, True, 2.5):
        for name in ("num_samples", "num_test_samples"):
            with pytest.raises(ValueError, match=f"{name}={number}"):
                fid_alone(**{name: number})
    with pytest.raises(ValueError, match="Linear"):
        InceptionScore(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=f"fd.*{', '.join(IMAGE_METRICS)}"):
        all_metrics(metrics=["fid", "fd"])
    data = StandInData()
    data.spec = DataSpec(name="ring", kind="points", shape=(2,))
    with pytest.raises(ValueError, match="kind='points'"):
        quiet_trainer([all_metrics()]).fit(StandInModel(), data)
    with pytest.raises(TypeError, match="LightningModule"):
        all_metrics().setup(quiet_trainer(), LightningModule(), "fit")


def test_data_that_nothing_describes_are_named_with_the_remedy() -> None:
    model = StandInModel()
    del model.data_spec
    with pytest.raises(ValueError, match="StandInModel.for_data"):
        quiet_trainer([all_metrics()]).validate(model, StandInData().val_dataloader(), verbose=False)


def test_without_a_datamodule_the_extractors_own_statistics_are_used() -> None:
    data, callback = StandInData(), fid_alone()
    with pytest.raises(ValueError, match="'stand_in'.*val.*'stand_in_extractor'"):
        quiet_trainer([callback]).validate(StandInModel(), data.val_dataloader(), verbose=False)
    extractor_of(callback).statistics_dir = "shipped"
    ship_statistics(callback.extractor, data, "val", "shipped")
    alone = quiet_trainer([callback])
    alone.validate(StandInModel(), data.val_dataloader(), verbose=False)
    assert numbers(alone) == validated([fid_alone()], StandInModel(), data)


class Steps(Callback):
    """Counts the batches of a training that must not begin."""

    num = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.num += 1


class Raising(StandInExtractor):
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


class WrongWidth(StandInExtractor):
    num_features = 9


class Damaged(StandInExtractor):
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = super().extract(images)
        return features * torch.nan, logits


class Colour(StandInExtractor):
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return super().extract(images.view(-1, 3, 6, 6))


def of_shape(*shape: int) -> Classifier:
    return Classifier(shape=shape, num_classes=3, extractor_name="other", width=2)


class Few(StandInData):
    def images(self, split: str) -> tuple[Tensor, Tensor]:
        images, labels = super().images(split)
        return images[:3], labels[:3]


class OwnData(LightningDataModule):
    """A user's own datamodule, which has a spec and loaders, but no ``images``."""

    spec = SPEC

    def train_dataloader(self) -> Any:
        return StandInData().train_dataloader()

    def val_dataloader(self) -> Any:
        return StandInData().val_dataloader()


@pytest.mark.parametrize("stage", ["fit", "validate"])
@pytest.mark.parametrize(
    ("extractor", "data", "named"),
    [
        (of_shape(1, 8, 8), StandInData, r"'other'.*\[1, 6, 6\].*stand_in.*\[1, 8, 8\]"),
        (of_shape(3, 6, 6), StandInData, r"'other'.*\[1, 6, 6\].*\[3, 6, 6\]"),
        (Colour(), StandInData, r"'stand_in_extractor'.*\[1, 6, 6\]"),
        (Raising(), StandInData, r"'stand_in_extractor'.*\[1, 6, 6\].*cannot be multiplied"),
        (WrongWidth(), StandInData, r"'stand_in_extractor'.*\(N, 9\).*\(1, 8\)"),
        (Damaged(), StandInData, "'stand_in_extractor'.*NaN"),
        (StandInExtractor(), OwnData, r"'stand_in' \(val\).*images\(split\)"),
        (StandInExtractor(), Few, r"real images \(val\)=3.*precision_recall.*4"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_first_step(
    stage: str, extractor: Any, data: Any, named: str
) -> None:
    steps, model = Steps(), StandInModel()
    run = quiet_trainer([ImageMetrics(extractor, **SETTINGS), steps], num_sanity_val_steps=0)
    with pytest.raises(ValueError, match=named):
        getattr(run, stage)(model, datamodule=data())
    assert steps.num == 0
    assert model.calls == []


def test_too_few_samples_for_a_metric_are_refused() -> None:
    for name in ("num_samples", "num_test_samples"):
        with pytest.raises(ValueError, match=f"{name}=3.*precision_recall.*4"):
            all_metrics(**{name: 3})
    assert all_metrics(metrics=["kid"], num_samples=3).num_samples == 3


def test_a_run_that_measures_nothing_computes_nothing_and_says_so() -> None:
    callback, data = all_metrics(), OwnData()
    with pytest.warns(UserWarning, match="ImageMetrics.*no.*log nothing"):
        quiet_trainer([callback], limit_val_batches=0).fit(StandInModel(), data)
    assert extractor_of(callback).seen == []


IMAGES = [name for name, method in METHODS.items() if "image" in method.kinds and issubclass(method, GenerativeModule)]


class Cropping(StandInExtractor):
    """Takes larger images, of which it looks at a corner."""

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return super().extract(images[:, :, :6, :6])


class TinyImages(training.TinyData):
    def images(self, split: str) -> tuple[Tensor, Tensor]:
        source: Any = self.source(split)
        return to_uint8(source.data, self.spec.value_range or (-1.0, 1.0)), source.labels


@pytest.mark.parametrize("name", IMAGES)
def test_every_method_is_measured_by_trainer_test_without_a_training(name: str) -> None:
    """The number is that of ``evaluate_samples``, and it is in what ``trainer.test`` returns."""
    small = {"width": 2, "hidden": 4, "num_hidden": 4, "num_components": 2, "steps": 2, "schedule": 10}
    known = inspect.signature(METHODS[name]).parameters
    module, shape = training.build(name, (1, 8, 8), **{key: value for key, value in small.items() if key in known})
    data = TinyImages(shape, **training.data_of(name))
    fid = FrechetInceptionDistance(Cropping(), num_test_samples=250, cache_dir="cache")
    callbacks = [fid, *([EMA()] if isinstance(module, SupportsAveraging) else [])]
    (logged,) = quiet_trainer(callbacks, limit_test_batches=1).test(module, data, verbose=False)
    outside = evaluate_samples(
        module,
        Cropping(),
        spec=data.spec,
        num_samples=250,
        statistics=compute_statistics(Cropping(), data.images("test")[0]),
        metrics=["fid"],
        progress=False,
    )
    assert outside.keys() == {"test/fid-stand_in_extractor-250"}
    assert logged["test/fid-stand_in_extractor-250"] == pytest.approx(*outside.values(), rel=1e-6)


def test_a_checkpoint_is_tested_with_the_averages_in_it() -> None:
    data = StandInData()
    trained = quiet_trainer([EMA(half_life_images=1e12, rampup=None)])
    model = StandInModel()
    trained.fit(model, data)
    trained.save_checkpoint("run.ckpt")
    run = quiet_trainer([EMA(), fid_alone()])
    run.test(StandInModel(), data, ckpt_path="run.ckpt", weights_only=True, verbose=False)
    statistics = compute_statistics(StandInExtractor(), data.images("test")[0])
    with averaged_weights(trained, model):
        expected = evaluate_samples(
            model, StandInExtractor(), spec=SPEC, num_samples=300, statistics=statistics, metrics=["fid"]
        )
    assert numbers(run) == pytest.approx(expected, rel=1e-6)


def test_few_samples_give_a_warning() -> None:
    with pytest.warns(UserWarning, match="FID.* 15 .* 8 "):
        FrechetInceptionDistance(StandInExtractor(), num_samples=15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FrechetInceptionDistance(StandInExtractor(), num_samples=16)
        all_metrics(metrics=("kid",), num_samples=15)


@pytest.mark.parametrize("name", ["ImageMetrics", "FrechetInceptionDistance"])
def test_callbacks_can_be_written_in_yaml(name: str) -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_subclass_arguments(ImageMetrics, "metrics")
    config = {
        "class_path": f"lightning_modules.callbacks.{name}",
        "init_args": {
            "extractor": {"class_path": "tests.standins.load_extractor", "init_args": {"name": "x"}},
            "num_samples": 500,
        },
    }
    if name == "ImageMetrics":
        config["init_args"]["metrics"] = ["kid", "fid"]  # type: ignore[index]
    callback = parser.instantiate_classes(parser.parse_object({"metrics": config})).metrics
    assert isinstance(callback.extractor, StandInExtractor)
    assert callback.num_samples == 500
    assert callback.metrics == (("kid", "fid") if name == "ImageMetrics" else ("fid",))
