"""The measuring callbacks: the same number whoever draws the pictures, and nothing else disturbed."""

import json
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from datamodules.spec import DataSpec
from lightning_modules.callbacks import (
    EMA,
    FrechetInceptionDistance,
    InceptionScore,
    KernelInceptionDistance,
    PrecisionRecall,
    evaluate_samples,
    ship_statistics,
    train_fid,
)
from lightning_modules.callbacks.generation_measure import GenerationMeasure, metric_name
from lightning_modules.callbacks.judged_blocks import block_generator, judge_images, judge_samples, sample_blocks
from lightning_modules.callbacks.real_statistics import compute_statistics
from lightning_modules.parts.metrics import frechet_distance, moments
from tests.callbacks.standins import SHAPE, SPEC, StandInData, StandInExtractor, StandInModel

ROOT = Path(__file__).parents[2]
MEASURES = (FrechetInceptionDistance, InceptionScore, KernelInceptionDistance, PrecisionRecall)


def measures(**settings: object) -> list[GenerationMeasure]:
    """One of each, every one with an extractor of its own, as a recipe would build them."""
    settings = {"num_samples": 600, "num_test_samples": 300, "cache_dir": "cache", **settings}
    return [measure(StandInExtractor(), **settings) for measure in MEASURES]


def trainer(callbacks: list, **settings: object) -> Trainer:
    settings = {
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "log_every_n_steps": 1,
        **settings,
    }
    return Trainer(callbacks=callbacks, **settings)


def numbers(run: Trainer) -> dict[str, float]:
    return {name: value.item() for name, value in run.callback_metrics.items()}


def test_all_measures_are_logged_from_one_pass_per_validation() -> None:
    callbacks, model = measures(), StandInModel()
    run = trainer(callbacks, max_epochs=2)
    run.fit(model, StandInData())
    assert set(numbers(run)) == {
        f"val/{name}-stand_in_judge-600"
        for name in ("fid", "inception_score", "inception_score_std", "kid", "kid_std", "precision", "recall")
    }
    assert model.calls == [250] * 3 * 2  # two validations, and none in the sanity check
    passes = [sum(callback.extractor.seen) for callback in callbacks]
    assert passes == [600 + 2 * 750, 0, 0, 0]  # the first looks at the real pictures once and twice at the model's


def test_a_measure_agrees_with_its_definition() -> None:
    model, data = StandInModel(), StandInData()
    run = trainer(measures()[:1])
    run.validate(model, data, verbose=False)
    extractor = StandInExtractor().eval()
    model.eval()
    with torch.no_grad():
        samples = torch.cat([model.sample(250, generator=block_generator(0, block)) for block in range(3)])[:600]
    fake, _ = extractor.extract(((samples + 1) * 127.5).round().to(torch.uint8))
    real, _ = extractor.extract(data.images("val")[0])
    expected = frechet_distance(*moments(real), *moments(fake))
    assert expected > 0.1
    assert numbers(run)["val/fid-stand_in_judge-600"] == pytest.approx(expected, rel=1e-6)


def test_in_trainer_test_the_test_split_is_compared_with() -> None:
    model, data = StandInModel(), StandInData()
    run = trainer(measures())
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
    assert "test/fid-stand_in_judge-300" in outside


@pytest.mark.parametrize("batch_size", [3, 40])
def test_the_batch_size_of_training_does_not_matter(batch_size: int) -> None:
    results = []
    for size in (20, batch_size):
        run = trainer(measures())
        run.validate(StandInModel(), StandInData(batch_size=size), verbose=False)
        results.append(numbers(run))
    assert results[0] == results[1]


def test_fewer_samples_are_a_prefix_of_more() -> None:
    model, extractor = StandInModel(), StandInExtractor()
    more, fewer = (judge_samples(model, extractor, size, SPEC) for size in (600, 310))
    assert len(fewer) == 310
    assert torch.equal(more.features[:310], fewer.features)
    assert not torch.equal(more.features[:250], more.features[250:500])
    assert not torch.equal(fewer.features, judge_samples(model, extractor, 310, SPEC, seed=1).features)


def test_the_number_is_the_same_on_one_and_two_processes() -> None:
    script = ROOT / "tests" / "callbacks" / "measure_on_processes.py"
    results = {}
    for processes in (1, 2):
        out = Path(f"numbers-{processes}").resolve()
        command = [sys.executable, str(script), str(processes), str(out)]
        done = subprocess.run(command, cwd=ROOT, timeout=150, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        results[processes] = [json.loads(Path(f"{out}-{rank}.json").read_text()) for rank in range(processes)]
        assert [path.name for path in Path(f"{out}-logs/samples").iterdir()] == ["step-00000000.png"]
    grids = [Path(f"numbers-{processes}-logs/samples/step-00000000.png").read_bytes() for processes in (1, 2)]
    assert grids[0] == grids[1]
    # NaN on the second process alone is an error on both, and keeps nobody waiting
    messages = {result["message"] for result in results[1] + results[2]}
    assert len(messages) == 1
    assert "block 1 (and 0 more of 3) are NaN" in messages.pop()
    one, first, second = (result["numbers"] for result in results[1] + results[2])
    assert one["val/fid-stand_in_judge-600"] > 0.1
    assert len(one) == 7 + 7
    assert first == second
    assert first == pytest.approx(one, rel=1e-6)


def test_random_states_modes_and_weights_are_left_alone() -> None:
    model = StandInModel()
    model.generator[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = []
    for callbacks in ([], measures()):
        torch.manual_seed(3)
        trainer(callbacks).validate(model, StandInData(), verbose=False)
        states.append((torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()))
    assert states[0] == states[1]
    assert all(callback.extractor.training for callback in callbacks)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_modes_are_given_back_layer_by_layer() -> None:
    model = StandInModel()
    model.generator[0].eval()
    judge_samples(model, StandInExtractor(), 10, SPEC)
    assert model.generator[1].training
    assert not model.generator[0].training


def test_a_sampler_may_take_gradients_and_may_not_reach_the_global_random_state() -> None:
    class Langevin(StandInModel):
        def sample(self, num_samples, *, labels=None, generator=None):
            torch.rand(7)
            x = torch.randn(num_samples, *SHAPE, generator=generator)
            with torch.enable_grad():
                x.requires_grad_()
                (gradient,) = torch.autograd.grad((self.generator[0].weight[0, 0] * x).square().sum(), x)
            return (x - 0.1 * gradient).detach()

    states = []
    for callbacks in ([], measures()):
        torch.manual_seed(3)
        trainer(callbacks).validate(Langevin(), StandInData(), verbose=False)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_the_judge_is_in_no_checkpoint() -> None:
    model = StandInModel()
    names = set(model.state_dict())
    callbacks = measures()
    run = trainer(callbacks)
    run.fit(model, StandInData())
    assert set(model.state_dict()) == names
    assert not any(isinstance(module, StandInExtractor) for module in model.modules())
    run.save_checkpoint("last.ckpt")
    assert "classes" not in str(torch.load("last.ckpt", weights_only=True))


def test_averaged_weights_are_measured() -> None:
    model, data = StandInModel(), StandInData()
    ema = EMA(half_life_images=1e12, rampup=None)  # the average stays what the weights were at the start
    raw, averaged = measures()[:1], [ema, *measures()[:1]]
    start = trainer(measures()[:1])
    start.validate(StandInModel(), data, verbose=False)
    trained = trainer(averaged)
    trained.fit(model, data)
    unaveraged = trainer(raw)
    unaveraged.fit(StandInModel(), data)
    key = "val/fid-stand_in_judge-600"
    # batch norm's running statistics are copied, not averaged, so start and averaged are close but not equal
    assert numbers(trained)[key] != numbers(unaveraged)[key]
    with ema.average_parameters(model):
        statistics = compute_statistics(StandInExtractor(), data.images("val")[0])
        expected = evaluate_samples(
            model, StandInExtractor(), spec=SPEC, num_samples=600, statistics=statistics, progress=False
        )
    assert numbers(trained)[key] == pytest.approx(expected["test/fid-stand_in_judge-600"], rel=1e-6)


def test_different_protocols_do_not_share_pictures() -> None:
    callbacks = [*measures()[:1], *measures(num_samples=300)[1:2], *measures(seed=5)[1:2]]
    model = StandInModel()
    trainer(callbacks).validate(model, StandInData(), verbose=False)
    assert len(model.calls) == 3 + 2 + 3


def test_a_trained_model_is_never_measured_by_old_pictures() -> None:
    values = []

    callbacks = measures()[:1]
    run = trainer(callbacks)
    for scale in (1.0, 0.1):
        run.validate(StandInModel(scale=scale), StandInData(), verbose=False)
        values.append(numbers(run)["val/fid-stand_in_judge-600"])
    assert values[0] != values[1]


def test_samples_that_are_not_finite_name_the_block() -> None:
    class Diverged(StandInModel):
        def sample(self, num_samples, *, labels=None, generator=None):
            x = super().sample(num_samples, labels=labels, generator=generator)
            return torch.full_like(x, torch.nan) if len(self.calls) == 2 else x

    with pytest.raises(ValueError, match="block 1 .* NaN or infinite"):
        judge_samples(Diverged(), StandInExtractor(), 600, SPEC)
    with pytest.raises(ValueError, match="NaN or infinite"):
        sample_blocks(Diverged(), 600, SHAPE)


def test_samples_of_a_wrong_shape_are_refused() -> None:
    class Wide(StandInModel):
        def sample(self, num_samples, *, labels=None, generator=None):
            return torch.zeros(num_samples, 1, 6, 7)

    with pytest.raises(ValueError, match=r"\(250, 1, 6, 7\).*\(1, 6, 6\)"):
        judge_samples(Wide(), StandInExtractor(), 10, SPEC)


def test_binarised_samples_become_black_and_white() -> None:
    class Binary(StandInModel):
        def sample(self, num_samples, *, labels=None, generator=None):
            return torch.bernoulli(torch.full((num_samples, *SHAPE), 0.5), generator=generator)

    extractor = StandInExtractor()
    spec = DataSpec(name="s", kind="image", shape=SHAPE, value_range=(0.0, 1.0), preprocessing="binarized")
    judge_samples(Binary(), extractor, 10, spec)
    assert extractor.received[0].unique().tolist() == [0, 255]


def test_bad_requests_are_refused_before_training() -> None:
    points = DataSpec(name="ring", kind="points", shape=(2,))
    for number in (1, 0, -5, True, 2.5):
        with pytest.raises(ValueError, match="num_samples"):
            FrechetInceptionDistance(StandInExtractor(), num_samples=number)
        with pytest.raises(ValueError, match="num_samples"):
            evaluate_samples(StandInModel(), StandInExtractor(), spec=SPEC, num_samples=number)
    with pytest.raises(ValueError, match="Linear cannot judge"):
        InceptionScore(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="kind='points'"):
        evaluate_samples(StandInModel(), StandInExtractor(), spec=points)
    with pytest.raises(ValueError, match="split='validation' is not one of train, val, test"):
        evaluate_samples(StandInModel(), StandInExtractor(), spec=SPEC, split="validation")
    with pytest.raises(ValueError, match="Unknown measures fd; there are fid"):
        evaluate_samples(StandInModel(), StandInExtractor(), spec=SPEC, measures=("fd",))
    data = StandInData()
    data.spec = points
    with pytest.raises(ValueError, match="kind='points'"):
        trainer(measures()).fit(StandInModel(), data)


def test_autocast_does_not_reach_the_judge() -> None:
    plain = judge_samples(StandInModel(), StandInExtractor(), 250, SPEC)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        mixed = judge_samples(StandInModel(), StandInExtractor(), 250, SPEC)
    assert torch.equal(plain.features, mixed.features)
    assert not mixed.features.is_inference()


def test_without_a_datamodule_the_judges_own_statistics_are_used() -> None:
    data, callback = StandInData(), measures()[0]
    with pytest.raises(ValueError, match="Pass the datamodule"):
        trainer([callback]).validate(StandInModel(), data.val_dataloader(), verbose=False)
    callback.extractor.statistics_dir = "shipped"
    ship_statistics(callback.extractor, data, "val", "shipped")
    results = [trainer([callback]), trainer(measures()[:1])]
    results[0].validate(StandInModel(), data.val_dataloader(), verbose=False)
    results[1].validate(StandInModel(), data, verbose=False)
    assert numbers(results[0]) == numbers(results[1])


def test_the_inception_score_needs_no_real_pictures() -> None:
    values = evaluate_samples(
        StandInModel(), StandInExtractor(), spec=SPEC, num_samples=20, measures=("inception_score",), progress=False
    )
    assert set(values) == {f"test/{name}-stand_in_judge-20" for name in ("inception_score", "inception_score_std")}
    assert 1 <= values["test/inception_score-stand_in_judge-20"] <= 5


def test_few_samples_give_a_warning() -> None:
    with pytest.warns(UserWarning, match="15 samples with 8 features"):
        FrechetInceptionDistance(StandInExtractor(), num_samples=15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FrechetInceptionDistance(StandInExtractor(), num_samples=16)


def test_names_carry_the_protocol() -> None:
    judge = StandInExtractor()
    names = [metric_name("test", "fid", judge, number) for number in (10_000, 5000, 2000, 2500, 64)]
    assert [name.rsplit("-", 1)[1] for name in names] == ["10k", "5k", "2k", "2500", "64"]
    assert names[0] == "test/fid-stand_in_judge-10k"


def test_fid_grows_with_corruption() -> None:
    images = StandInData(size=2000).images("train")[0]
    real = compute_statistics(StandInExtractor(), images)
    noise = torch.randint(0, 256, images.shape, generator=torch.Generator().manual_seed(0)).float()
    order = torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
    for corrupt in (
        lambda level: (1 - level) * images.float() + level * noise,
        lambda level: torch.where(order < level, noise, images.float()),
        lambda level: torch.cat([noise[: int(level * 2000)], images[int(level * 2000) :].float()]),
    ):
        values = []
        for level in (0.0, 0.25, 0.5, 0.75):
            judged = judge_images(StandInExtractor(), corrupt(level).to(torch.uint8))
            values.append(frechet_distance(real.mu, real.sigma, *moments(judged.features)))
        assert values[0] == pytest.approx(0, abs=1e-9)
        assert all(low < high for low, high in zip(values, values[1:], strict=False)), values


def test_train_fid_is_small_and_that_of_a_model_is_not() -> None:
    data = StandInData(size=2000)
    floor = train_fid(StandInExtractor(), data, num_samples=1500, progress=False)
    statistics = compute_statistics(StandInExtractor(), data.images("test")[0])
    values = evaluate_samples(
        StandInModel(), StandInExtractor(), spec=SPEC, num_samples=1500, statistics=statistics, progress=False
    )
    assert 0 < floor < 0.1 * values["test/fid-stand_in_judge-1500"]
    with pytest.raises(ValueError, match="2000 training pictures"):
        train_fid(StandInExtractor(), data, num_samples=2001)


def test_the_callback_can_be_written_in_yaml() -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_subclass_arguments(GenerationMeasure, "measure")
    config = {
        "class_path": "lightning_modules.callbacks.FrechetInceptionDistance",
        "init_args": {
            "extractor": {"class_path": "tests.callbacks.standins.load_extractor", "init_args": {"name": "x"}},
            "num_samples": 500,
        },
    }
    callback = parser.instantiate_classes(parser.parse_object({"measure": config})).measure
    assert isinstance(callback.extractor, StandInExtractor)
    assert callback.num_samples == 500


def test_other_data_are_never_compared_with_old_statistics() -> None:
    class Inverted(StandInData):
        def images(self, split):
            images, labels = super().images(split)
            return 255 - images, labels

    callbacks = measures()[:1]
    run = trainer(callbacks)
    values = []
    for data in (StandInData(), Inverted()):
        run.validate(StandInModel(), data, verbose=False)
        values.append(numbers(run)["val/fid-stand_in_judge-600"])
    assert values[0] != pytest.approx(values[1], rel=1e-3)
