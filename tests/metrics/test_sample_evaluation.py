"""Measuring without a trainer: FID, Inception Score and class accuracy of models whose answers are known."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from datamodules import DataSpec
from lightning_modules.callbacks import evaluate_classes, evaluate_samples, train_fid
from lightning_modules.metrics.feature_metrics import IMAGE_METRICS
from lightning_modules.metrics.image import frechet_distance, moments
from lightning_modules.metrics.protocol import extract_images
from lightning_modules.metrics.reference_statistics import compute_statistics
from tests.standins import SPEC, StandInData, StandInExtractor, StandInModel

LEVELS = DataSpec(name="levels", kind="image", shape=(1, 2, 2), value_range=(-1.0, 1.0), num_classes=4)


class Levels(nn.Module):
    """Class k is an image of one grey level; a class in ``wrong`` comes out as the next one."""

    def __init__(self, wrong: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.wrong = torch.tensor(wrong, dtype=torch.long)

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        assert labels is not None
        shown = torch.where(torch.isin(labels, self.wrong), (labels + 1) % 4, labels)
        return (shown / 3 * 2 - 1).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


class Reader(nn.Module):
    """Reads the class off the grey level."""

    extractor_name, num_features = "reader", 1

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        level = images.float().mean((1, 2, 3))
        return level[:, None], -(level[:, None] - torch.arange(4) * 85.0).abs()


@pytest.mark.parametrize(("wrong", "expected"), [((), 1.0), ((2,), 0.75), ((0, 1, 2, 3), 0.0)])
def test_class_accuracy_is_the_share_of_images_whose_class_was_named(wrong: tuple[int, ...], expected: float) -> None:
    values = evaluate_classes(Levels(wrong), Reader(), spec=LEVELS, num_samples=1000)
    assert values == {"test/class_accuracy-reader-1k": pytest.approx(expected, abs=0.01)}


def test_classes_that_have_no_captions_are_not_asked_for() -> None:
    model: Any = Levels(wrong=(1, 2))
    model.num_words, model.has_data_spec = 1, True
    model.data_spec = replace(LEVELS, vocabulary=("level",), captions=("level", "level"), caption_classes=(3, 0))
    values = evaluate_classes(model, Reader(), spec=LEVELS, num_samples=1000)
    assert values == {"test/class_accuracy-reader-1k": 1.0}


def test_data_without_classes_are_refused() -> None:
    spec = DataSpec(name="plain", kind="image", shape=(1, 2, 2), value_range=(-1.0, 1.0))
    with pytest.raises(ValueError, match="plain"):
        evaluate_classes(Levels(), Reader(), spec=spec)
    with pytest.raises(ValueError, match="num_samples=1"):
        evaluate_classes(Levels(), Reader(), spec=LEVELS, num_samples=1)


def test_the_inception_score_needs_no_real_images() -> None:
    values = evaluate_samples(
        StandInModel(), StandInExtractor(), spec=SPEC, num_samples=20, metrics=("inception_score",), progress=False
    )
    assert set(values) == {f"test/{name}-stand_in_extractor-20" for name in ("inception_score", "inception_score_std")}
    assert 1 <= values["test/inception_score-stand_in_extractor-20"] <= 5


def test_samples_are_drawn_and_extracted_once_for_all_metrics() -> None:
    model, extractor = StandInModel(), StandInExtractor()
    statistics = compute_statistics(StandInExtractor(), StandInData().images("test")[0])
    values = evaluate_samples(
        model, extractor, spec=SPEC, num_samples=300, split="val", statistics=statistics, progress=False
    )
    assert model.calls == [250, 250]
    assert extractor.seen == [1, 250, 250]  # one image, to see whether it fits, and the samples once
    assert len(values) == 7
    assert all(name.startswith("val/") and name.endswith("-stand_in_extractor-300") for name in values)


def test_bad_requests_are_refused() -> None:
    for number in (1, 0, -5, True, 2.5):
        with pytest.raises(ValueError, match=f"num_samples={number}"):
            evaluate_samples(StandInModel(), StandInExtractor(), spec=SPEC, num_samples=number)  # type: ignore[arg-type]
    points = DataSpec(name="ring", kind="points", shape=(2,))
    for metrics in (("fid",), ("inception_score",)):
        with pytest.raises(ValueError, match="kind='points'"):
            evaluate_samples(StandInModel(), StandInExtractor(), spec=points, metrics=metrics)
    with pytest.raises(ValueError, match="split='validation'.*train, val, test"):
        evaluate_samples(StandInModel(), StandInExtractor(), spec=SPEC, split="validation")
    with pytest.raises(ValueError, match=f"fd.*{', '.join(IMAGE_METRICS)}"):
        evaluate_samples(StandInModel(), StandInExtractor(), spec=SPEC, metrics=("fd",))


def test_few_samples_give_a_warning() -> None:
    statistics = compute_statistics(StandInExtractor(), StandInData().images("test")[0])
    with pytest.warns(UserWarning, match="FID.* 15 .* 8 "):
        evaluate_samples(StandInModel(), StandInExtractor(), spec=SPEC, num_samples=15, statistics=statistics)


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
            extracted = extract_images(StandInExtractor(), corrupt(level).to(torch.uint8))
            values.append(frechet_distance(real.mu, real.sigma, *moments(extracted.features)))
        assert values[0] == pytest.approx(0, abs=1e-9)
        assert all(low < high for low, high in zip(values, values[1:], strict=False)), values


def test_train_fid_is_small_and_that_of_a_model_is_not() -> None:
    data = StandInData(size=2000)
    floor = train_fid(StandInExtractor(), data, num_samples=1500, progress=False)
    statistics = compute_statistics(StandInExtractor(), data.images("test")[0])
    values = evaluate_samples(
        StandInModel(), StandInExtractor(), spec=SPEC, num_samples=1500, statistics=statistics, progress=False
    )
    assert 0 < floor < 0.1 * values["test/fid-stand_in_extractor-1500"]
    with pytest.raises(ValueError, match="num_samples=2001.* 2000 "):
        train_fid(StandInExtractor(), data, num_samples=2001)
