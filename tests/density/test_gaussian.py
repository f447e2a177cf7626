"""The Gaussian: gradients reach the closed form, the closed form is numpy's, the density integrates to one."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules import FashionMNIST
from datamodules.datamodule import ZooDataModule
from datamodules.loader import TensorSource
from datamodules.spec import DataSpec
from lightning_modules import Gaussian

FORMS = [("full", None), ("diagonal", None), ("low_rank", 1)]


class Points(ZooDataModule):
    """Given points, the same in all splits."""

    def __init__(self, x: Tensor, batch_size: int) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, 0
        self.spec = DataSpec("points", "points", tuple(x.shape[1:]))
        source = TensorSource(x, torch.zeros(len(x), dtype=torch.int64))
        self.sources = {"train": source, "val": source, "test": source}


class WholeBatches(Points):
    """Every batch is all of the points."""

    def train_dataloader(self) -> Any:
        source: Any = self.sources["train"]
        return DataLoader(range(1000), collate_fn=lambda _: [source.data])  # type: ignore[arg-type]


def correlated(num: int = 1000, dim: int = 3) -> Tensor:
    """Points whose dimensions differ in scale by a factor of hundreds and are nearly the same."""
    generator = torch.Generator().manual_seed(5)
    common = torch.randn(num, 1, generator=generator)
    own = torch.randn(num, dim, generator=generator)
    return (common + 0.3 * own) * torch.logspace(-2, 0.5, dim) + torch.linspace(-3, 2, dim)


def fit(module: Gaussian, data: ZooDataModule, steps: int) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, data)
    return trainer


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_gradients_reach_the_closed_form(covariance: str, rank: int | None) -> None:
    """Batches that are all alike: no noise, so the two agree, floor and all.

    Factors come as slowly as EM's: after 400 steps they are 0.006 nats short, after 5 000 slower ones 0.00004.
    """
    x = correlated(64, dim=4)
    settings: dict[str, Any] = {"covariance": covariance, "rank": rank, "covariance_floor": 1e-4}
    by_gradients, in_closed_form = (Gaussian(shape=[4], lr=0.4, decay_steps=400, **settings) for _ in range(2))
    fit(by_gradients, WholeBatches(x, len(x)), 400)
    in_closed_form.fit_closed_form([x])
    a, b = (module.log_prob(x).mean().item() for module in (by_gradients, in_closed_form))
    exact = covariance != "low_rank"
    assert a == pytest.approx(b, abs=1e-3 if exact else 0.015)
    covariances = [module.components.covariances()[0].detach() for module in (by_gradients, in_closed_form)]
    torch.testing.assert_close(covariances[0], covariances[1], rtol=0.02 if exact else 0.15, atol=1e-6)
    torch.testing.assert_close(by_gradients.components.mean, in_closed_form.components.mean, rtol=1e-3, atol=1e-4)


def test_gradients_of_small_batches_reach_it_as_the_rate_falls() -> None:
    """Within 0.02 nats; the noise of the last steps alone costs 9 parameters / (2 * examples seen lately)."""
    x = correlated()
    by_gradients, in_closed_form = (Gaussian(shape=[3], lr=0.1, decay_steps=400) for _ in range(2))
    fit(by_gradients, Points(x, 50), 400)
    in_closed_form.fit_closed_form([x])
    best = in_closed_form.log_prob(x).mean().item()
    assert best - 0.02 < by_gradients.log_prob(x).mean().item() <= best + 1e-3


def test_closed_form_is_the_sample_covariance_and_the_floor() -> None:
    x = correlated().double()
    expected = x.T.cov(correction=0)
    module = Gaussian(shape=[3], covariance_floor=0.5).double()
    module.fit_closed_form(x.split(300))
    torch.testing.assert_close(module.components.mean[0].detach(), x.mean(0))
    torch.testing.assert_close(module.components.covariances()[0].detach(), expected + 0.5 * torch.eye(3))
    diagonal = Gaussian(shape=[3], covariance="diagonal", covariance_floor=0.5).double()
    diagonal.fit_closed_form([(x, None)])
    torch.testing.assert_close(diagonal.components.covariances()[0].detach(), (expected.diagonal() + 0.5).diag())


def test_low_rank_fit_is_between_diagonal_and_full() -> None:
    x = correlated().double()
    values = []
    for covariance, rank in (("diagonal", None), ("low_rank", 1), ("full", None)):
        module = Gaussian(shape=[3], covariance=covariance, rank=rank, covariance_floor=0.0).double()
        module.fit_closed_form([x])
        values.append(module.log_prob(x).mean().item())
    assert values[0] + 1 < values[1]
    # One factor makes any covariance of three dimensions with positive correlations.
    assert values[1] == pytest.approx(values[2], abs=1e-6)


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_density_integrates_to_one(covariance: str, rank: int | None) -> None:
    """Eq. 1.14 to 1.16, by quadrature."""
    x = correlated(dim=2)
    module = Gaussian(shape=[2], covariance=covariance, rank=rank).double()
    module.fit_closed_form([x])
    mean, deviation = x.double().mean(0), x.double().std(0)
    steps = torch.linspace(-9, 9, 401, dtype=torch.float64)
    grid = mean + torch.cartesian_prod(steps, steps) * deviation
    cell = (steps[1] - steps[0]).square() * deviation.prod()
    with torch.no_grad():
        integral = sum(module.log_prob(part).exp().sum() for part in grid.split(100_000)) * cell
    assert float(integral) == pytest.approx(1, abs=1e-6)


def test_entropy_of_the_fit_is_its_likelihood() -> None:
    """At the maximum the mean of -log q over the data is the model's own entropy: log det(2 pi e Sigma) / 2."""
    x = correlated().double()
    module = Gaussian(shape=[3], covariance_floor=0.0).double()
    module.fit_closed_form([x])
    entropy = 0.5 * torch.logdet(2 * math.pi * math.e * module.components.covariances()[0])
    assert -module.log_prob(x).mean().item() == pytest.approx(entropy.item(), abs=1e-8)


def test_images_are_clipped_and_points_are_not() -> None:
    images = Gaussian(shape=[1, 4, 4]).sample(1000, generator=torch.Generator().manual_seed(0))
    assert images.shape == (1000, 1, 4, 4)
    assert images.abs().max() == 1
    points = Gaussian(shape=[2]).sample(1000, generator=torch.Generator().manual_seed(0))
    assert points.abs().max() > 2


def test_density_is_computed_in_full_precision_under_autocast() -> None:
    module = Gaussian(shape=[3])
    module.fit_closed_form([correlated()])
    x = correlated()[:10]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module.log_prob(x), module.log_prob(x).float())
        inside = module.log_prob(x)
    torch.testing.assert_close(inside, module.log_prob(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"covariance_floor": -1.0}, "covariance_floor=-1"),
        ({"covariance_floor": float("nan")}, "covariance_floor=nan"),
        ({"lr": 0.0}, "lr=0"),
        ({"lr": 1.5}, "lr=1.5"),
        ({"decay_steps": 0}, "decay_steps=0"),
        ({"covariance": "low_rank", "rank": 2}, r"rank=2\b.*1\.\.1"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Gaussian(shape=[2], **settings)


def test_bad_data_are_named() -> None:
    module = Gaussian(shape=[2], covariance_floor=0.0)
    with pytest.raises(ValueError, match="examples"):
        module.fit_closed_form([])
    with pytest.raises(ValueError, match="NaN"):
        module.fit_closed_form([torch.tensor([[0.0, float("inf")]])])
    with pytest.raises(ValueError, match=r"\[2\].*\[3\]"):
        module.fit_closed_form([torch.zeros(4, 3)])
    with pytest.raises(ValueError, match="covariance_floor"):
        module.fit_closed_form([torch.ones(4, 2)])


def test_bits_that_were_binarized_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Gaussian.*\[-1\.0, 1\.0\].*\[0\.0, 1\.0\].*binarize"):
        Gaussian.for_data(FashionMNIST(binarize=True).spec)


@pytest.mark.slow
@pytest.mark.usefixtures("fashion_mnist")
def test_fashion_mnist_has_its_known_bits() -> None:
    """A full covariance on dequantised images: 6.458 bits/dim on the test split (measured apart, with numpy)."""
    data = FashionMNIST(dequantize=True, batch_size=1000)
    module = Gaussian.for_data(data.spec)
    module.fit_closed_form(data)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    (values,) = trainer.test(module, data, verbose=False)
    assert values["test/bits_per_dim-exact"] == pytest.approx(6.458, abs=0.01)
