"""The four metrics of extracted features: those of the pure functions, without a random number."""

import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from lightning_modules.metrics.feature_metrics import (
    IMAGE_METRICS,
    FrechetMetric,
    PassedFeatures,
    check_metrics,
)
from lightning_modules.metrics.image import (
    frechet_distance,
    inception_score,
    kernel_distance,
    moments,
    precision_recall,
)
from lightning_modules.metrics.protocol import Extracted
from lightning_modules.metrics.reference_statistics import RealStatistics


def of(num_real: int, num_generated: int) -> tuple[Extracted, RealStatistics]:
    """Features of generated images and statistics of real ones."""
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(num_real, 8, generator=generator), 1.3 * torch.randn(num_generated, 8, generator=generator)
    logits = torch.randn(num_generated, 5, generator=generator)
    mu, sigma = moments(real)
    return Extracted(fake, logits), RealStatistics(mu, sigma, num_real, real, inception_score(logits))


def test_the_metric_continues_from_moments_as_if_it_had_seen_the_features() -> None:
    real, fake = torch.randn(300, 16) + 3, torch.randn(500, 16) * 1.3
    ours = FrechetMetric(16)
    ours.set_real(*moments(real), len(real))
    for part in fake.split(128):
        ours.update(part, real=False)
    theirs = FrechetInceptionDistance(feature=PassedFeatures(16))
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert ours.compute().item() == pytest.approx(theirs.compute().item(), rel=1e-6)


@pytest.mark.parametrize(("num_real", "num_generated"), [(1500, 2100), (40, 30)])
def test_metrics_are_those_of_the_pure_functions(num_real: int, num_generated: int) -> None:
    """Of 2 100 images FID is summed in parts, and KID is of two subsets of 1 000; of 30 it is of one of all 30."""
    generated, real = of(num_real, num_generated)
    subset = 1000 if num_generated > 1000 else 30
    score, distance = inception_score(generated.logits), kernel_distance(real.features, generated.features, subset)
    expected = {
        "fid": {"fid": frechet_distance(real.mu, real.sigma, *moments(generated.features))},
        "inception_score": {"inception_score": score.mean, "inception_score_std": score.std},
        "kid": {"kid": distance.mean, "kid_std": distance.std},
        "precision_recall": precision_recall(real.features, generated.features)._asdict(),
    }
    assert set(IMAGE_METRICS) == set(expected)
    for name, metric in IMAGE_METRICS.items():
        assert metric.measure(generated, real) == pytest.approx(expected[name], rel=1e-9), name


def test_metrics_draw_no_random_number_and_do_not_depend_on_any() -> None:
    generated, real = of(200, 150)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append({name: metric.measure(generated, real) for name, metric in IMAGE_METRICS.items()})
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]


def test_only_the_inception_score_needs_no_real_images() -> None:
    assert [name for name, metric in IMAGE_METRICS.items() if not metric.needs_real] == ["inception_score"]
    generated, _ = of(20, 30)
    assert 1 <= IMAGE_METRICS["inception_score"].measure(generated, None)["inception_score"] <= 5


def test_unknown_metrics_are_named_beside_those_that_there_are() -> None:
    check_metrics(tuple(IMAGE_METRICS))
    with pytest.raises(ValueError, match=f"fd, fid2.*{', '.join(IMAGE_METRICS)}"):
        check_metrics(("fid2", "kid", "fd"))
    with pytest.raises(ValueError, match=", ".join(IMAGE_METRICS)):
        check_metrics(())
