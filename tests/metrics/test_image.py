"""Distances and scores against closed forms, other libraries and a slow second route."""

import math
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_statistics_to_metric  # type: ignore[import-untyped]
from torch_fidelity.metric_prc import calculate_precision_recall_full  # type: ignore[import-untyped]
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.inception import InceptionScore as TorchmetricsInceptionScore
from torchmetrics.image.kid import poly_mmd

from lightning_modules.metrics.feature_metrics import PassedFeatures
from lightning_modules.metrics.image import (
    frechet_distance,
    inception_score,
    kernel_distance,
    moments,
    precision_recall,
)


def random_moments(size: int, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(rank, size, generator=generator, dtype=torch.float64) * torch.logspace(0, -2, size).double()
    return torch.randn(size, generator=generator, dtype=torch.float64), factor.T @ factor / rank


def test_frechet_distance_of_commuting_gaussians_is_its_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    mu1, mu2 = torch.randn(2, 30, generator=generator, dtype=torch.float64)
    var1, var2 = torch.rand(2, 30, generator=generator, dtype=torch.float64)
    expected = (mu1 - mu2).square().sum() + (var1.sqrt() - var2.sqrt()).square().sum()
    assert frechet_distance(mu1, var1.diag(), mu2, var2.diag()) == pytest.approx(expected.item(), rel=1e-12)
    rotation = torch.linalg.qr(torch.randn(30, 30, generator=generator, dtype=torch.float64)).Q
    rotated = (rotation @ mu1, rotation @ var1.diag() @ rotation.T, rotation @ mu2, rotation @ var2.diag() @ rotation.T)
    assert frechet_distance(*rotated) == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("rank", [200, 20], ids=["full rank", "singular"])
def test_frechet_distance_agrees_with_three_other_routes(rank: int) -> None:
    """Eq. 1.47."""
    one, two = random_moments(64, rank, 1), random_moments(64, rank, 2)
    ours = frechet_distance(*one, *two)
    # the general routes lose the square root of the precision where an eigenvalue is 0
    tolerance = 1e-9 if rank > 64 else 1e-6
    assert _compute_fid(*one, *two).item() == pytest.approx(ours, rel=tolerance)
    statistics = [{"mu": mu.numpy(), "sigma": sigma.numpy()} for mu, sigma in (one, two)]
    fidelity = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert fidelity == pytest.approx(ours, rel=tolerance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a singular matrix
        root = scipy.linalg.sqrtm((one[1] @ two[1]).numpy())
    trace = (one[1] + two[1]).trace().item() - 2 * np.trace(root).real
    assert (one[0] - two[0]).square().sum().item() + trace == pytest.approx(ours, rel=tolerance)


def test_frechet_distance_is_symmetric_zero_on_itself_and_never_negative() -> None:
    one, two = random_moments(40, 10, 3), random_moments(40, 100, 4)
    assert frechet_distance(*one, *two) == pytest.approx(frechet_distance(*two, *one), rel=1e-9)
    for each in (one, two):
        assert 0 <= frechet_distance(*each, *each) < 1e-9
    with pytest.raises(ValueError, match=r"\(40,\), \(40, 40\), \(39,\), \(40, 40\)"):
        frechet_distance(*one, two[0][:39], two[1])


def test_frechet_distance_is_biased_by_about_c_over_n() -> None:
    # the same distribution on both sides: N x FID is constant
    generator = torch.Generator().manual_seed(5)
    scaled = []
    for number in (500, 2000, 8000):
        sides = [moments(torch.randn(number, 32, generator=generator)) for _ in range(2)]
        scaled.append(number * frechet_distance(*sides[0], *sides[1]))
    assert max(scaled) / min(scaled) < 1.3


def test_moments_are_those_of_numpy() -> None:
    features = torch.randn(100, 7) + 50
    mean, covariance = moments(features)
    np.testing.assert_allclose(mean, features.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(features.double().numpy(), rowvar=False), rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match=r"\(1, 7\)"):
        moments(features[:1])


def test_inception_score_is_1_for_a_constant_classifier_and_k_for_one_hot_classes() -> None:
    constant = torch.randn(1, 10).expand(500, 10)
    assert inception_score(constant).mean == pytest.approx(1, rel=1e-12)
    one_hot = 1000 * torch.nn.functional.one_hot(torch.arange(500) % 10, 10)
    assert inception_score(one_hot) == pytest.approx((10, 0), rel=1e-12)
    half = 1000 * torch.nn.functional.one_hot(torch.arange(500) % 5, 10)  # classes that never occur
    assert inception_score(half).mean == pytest.approx(5, rel=1e-12)


def test_inception_score_is_exploited_by_one_image_per_class_and_frechet_distance_is_not() -> None:
    # Barratt and Sharma (2018): K repeated images score K
    generator = torch.Generator().manual_seed(6)
    weights = torch.randn(16, 10, generator=generator)
    real = torch.randn(2000, 16, generator=generator)
    ten = 3 * torch.linalg.pinv(weights)[torch.arange(10)] * 10  # class k is certain of image k
    exploit = ten.repeat(200, 1)
    assert inception_score(exploit @ weights).mean > 9.9 > inception_score(real @ weights).mean
    honest = frechet_distance(*moments(real), *moments(torch.randn(2000, 16, generator=generator)))
    assert frechet_distance(*moments(real), *moments(exploit)) > 20 * honest


def test_inception_score_agrees_with_torchmetrics_on_one_split() -> None:
    """Eq. 1.46."""
    logits = torch.randn(700, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = TorchmetricsInceptionScore(feature=PassedFeatures(12), splits=1)
        theirs.update(logits)
        mean = theirs.compute()[0].item()
    assert inception_score(logits, splits=1) == pytest.approx((mean, 0), rel=1e-5)
    parts = [inception_score(part, splits=1).mean for part in logits.chunk(10)]
    assert inception_score(logits) == pytest.approx((np.mean(parts), np.std(parts, ddof=1)), rel=1e-12)
    with pytest.raises(ValueError, match="splits=701"):
        inception_score(logits, splits=701)


def test_kernel_distance_is_the_mean_of_torchmetrics_mmd_over_consecutive_rows() -> None:
    real, fake = torch.randn(60, 8).double(), (torch.randn(100, 8) + 0.5).double()
    pairs = [(real[0:20], fake[0:20]), (real[20:40], fake[20:40]), (real[40:60], fake[40:60])]
    pairs += [(real[0:20], fake[60:80]), (real[20:40], fake[80:100])]
    values = [poly_mmd(*pair).item() for pair in pairs]
    assert kernel_distance(real, fake, 20) == pytest.approx((np.mean(values), np.std(values)), rel=1e-9)
    with pytest.raises(ValueError, match="61.* 60 .* 100 "):
        kernel_distance(real, fake, 61)


def test_kernel_distance_is_unbiased() -> None:
    # 400 independent values of mean 0: |mean| < 4 standard errors fails by chance once in 16 000 seeds
    generator = torch.Generator().manual_seed(7)
    pairs = (torch.randn(2, 20, 4, generator=generator) for _ in range(400))
    values = [kernel_distance(real, fake, 20).mean for real, fake in pairs]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(400)


@pytest.mark.parametrize("chunk", [7, 1000])
def test_precision_and_recall_agree_with_torch_fidelity(chunk: int) -> None:
    real, fake = torch.randn(80, 5), torch.randn(130, 5) * 1.5
    precision, recall = calculate_precision_recall_full(fake.double(), real.double())
    assert 0.05 < precision < recall
    assert precision_recall(real, fake, chunk=chunk) == pytest.approx((precision, recall), abs=1e-6)


def test_precision_and_recall_of_what_they_are_made_for() -> None:
    generator = torch.Generator().manual_seed(8)
    two_modes = torch.randn(400, 2, generator=generator) + torch.tensor([10.0, 0.0]).mul(torch.arange(400)[:, None] % 2)
    one_mode = torch.randn(400, 2, generator=generator)
    far = one_mode + 100
    assert precision_recall(two_modes, two_modes) == (1, 1)
    assert precision_recall(two_modes, far) == (0, 0)
    collapsed = precision_recall(two_modes, one_mode)
    assert collapsed.precision > 0.9
    assert 0.4 < collapsed.recall < 0.52
    with pytest.raises(ValueError, match="3.* 3 .* 400 "):
        precision_recall(two_modes[:3], two_modes)
