"""The mixture: scikit-learn's likelihood, EM that never falls, gradients that get as far, good starts."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from sklearn.mixture import GaussianMixture as SklearnMixture  # type: ignore[import-untyped]
from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky  # type: ignore[import-untyped]
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules import FashionMNIST, Grid, Ring
from datamodules.loader import TensorSource, TrainingLoader
from lightning_modules import GaussianMixture
from lightning_modules.metrics.modes import mode_coverage
from tests.density.test_gaussian import Points
from tests.standins import quiet_trainer

FORMS = [("full", None), ("diagonal", None), ("low_rank", 1)]


def three_clusters(num: int = 300) -> Tensor:
    """Correlated, of different sizes, not far from one another."""
    generator = torch.Generator().manual_seed(2)
    parts = []
    for share, centre, mixing in (
        (0.5, (0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.8, 0.3, 0.0), (0.0, 0.0, 0.1))),
        (0.3, (3.0, 1.0, 0.0), ((0.2, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, -0.9, 0.2))),
        (0.2, (0.0, 3.0, 1.0), ((0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5))),
    ):
        z = torch.randn(round(share * num), 3, generator=generator)
        parts.append(torch.tensor(centre) + z @ torch.tensor(mixing).T)
    return torch.cat(parts)


def mixture(covariance: str, rank: int | None, **settings: Any) -> GaussianMixture:
    return GaussianMixture(shape=[3], num_components=3, covariance=covariance, rank=rank, **settings)


def fit(module: GaussianMixture, data: Any, steps: int) -> Trainer:
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


def as_sklearn(module: GaussianMixture) -> SklearnMixture:
    """The same parameters in scikit-learn's class."""
    other = SklearnMixture(module.components.num, covariance_type="full")
    other.weights_ = module.weights.detach().numpy()
    other.means_ = module.components.mean.detach().numpy()
    other.covariances_ = module.components.covariances().detach().numpy()
    other.precisions_cholesky_ = _compute_precision_cholesky(other.covariances_, "full")
    return other


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_likelihood_and_posterior_are_those_of_scikit_learn(covariance: str, rank: int | None) -> None:
    x = three_clusters().double()
    module = mixture(covariance, rank).double()
    module.start([x])
    other = as_sklearn(module)
    torch.testing.assert_close(module.log_prob(x), torch.from_numpy(other.score_samples(x.numpy())))
    torch.testing.assert_close(module.posterior(x), torch.from_numpy(other.predict_proba(x.numpy())))
    assert module.posterior(x).sum(1).sub(1).abs().max() < 1e-12


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_em_never_falls(covariance: str, rank: int | None) -> None:
    """A generous floor, so that what is checked is the objective and not the likelihood alone."""
    x = three_clusters().double()
    module = mixture(covariance, rank, covariance_floor=0.05).double()
    history = module.fit_em(x.split(64), iterations=40, tolerance=-1.0)
    steps = torch.tensor(history, dtype=torch.float64).diff()
    assert len(steps) == 40
    assert steps.min() > -1e-9
    assert history[-1] > history[0] + 0.01
    with torch.no_grad():
        final = module.log_prob(x).mean() - 0.05 * module.components.shrinkage().mean()
    assert history[-1] == pytest.approx(final.item(), abs=1e-9)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_em_goes_as_far_as_that_of_scikit_learn(covariance: str) -> None:
    x = three_clusters().double()
    module = mixture(covariance, None, covariance_floor=0.0).double()
    module.start([x])
    kind = {"full": "full", "diagonal": "diag"}[covariance]
    other = SklearnMixture(
        3,
        covariance_type=kind,
        tol=1e-9,
        max_iter=1000,
        reg_covar=0.0,
        weights_init=module.weights.detach().numpy(),
        means_init=module.components.mean.detach().numpy(),
        precisions_init=torch.linalg.inv(module.components.covariances()).detach().numpy()
        if kind == "full"
        else (-2 * module.components.log_scale).exp().detach().numpy(),
    ).fit(x.numpy())
    module.fit_em([x], iterations=1000, tolerance=1e-9)
    assert module.log_prob(x).mean().item() == pytest.approx(other.score(x.numpy()), abs=1e-5)


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_gradients_get_as_far_as_em(covariance: str, rank: int | None) -> None:
    """The same objective; a quarter of the data at a time, with a falling rate."""
    x = three_clusters()
    by_gradients, by_em = (mixture(covariance, rank, lr=0.3, decay_steps=300) for _ in range(2))
    fit(by_gradients, Points(x, 75), 300)
    by_em.fit_em([x], iterations=300, tolerance=1e-6)
    assert by_gradients.log_prob(x).mean().item() == pytest.approx(by_em.log_prob(x).mean().item(), abs=0.02)
    # Another order of the data may start with the clusters in another order.
    torch.testing.assert_close(by_gradients.weights.sort().values, by_em.weights.sort().values, atol=0.05, rtol=0)


def test_density_integrates_to_one() -> None:
    """Eq. 1.14, 1.15 and 1.17, by quadrature."""
    module = GaussianMixture(shape=[2], num_components=8).double()
    module.fit_em(Ring(batch_size=2000, train_size=2000), iterations=3)
    steps = torch.linspace(-1.6, 1.6, 641, dtype=torch.float64)
    with torch.no_grad():
        integral = module.log_prob(torch.cartesian_prod(steps, steps)).exp().sum() * (steps[1] - steps[0]) ** 2
    assert integral.item() == pytest.approx(1, abs=1e-6)


def test_the_likelihood_of_a_data_set_is_a_product_of_sums_over_the_latent_component() -> None:
    """Eq. 1.29 and 1.30 with k as z: sums of p(x, k), multiplied and then in logarithms, against scikit-learn's."""
    module = mixture("full", None).double()
    module.fit_em([three_clusters(40).double()], iterations=3)
    x = three_clusters(10).double()
    joint = module.joint_log_prob(x).detach().exp()
    product = joint.sum(1).prod()
    total = as_sklearn(module).score_samples(x.numpy()).sum()
    assert product.log().item() == pytest.approx(total, abs=1e-9)
    assert joint.sum(1).log().sum().item() == pytest.approx(total, abs=1e-9)
    # A mean of log p(x, k) over sampled k is another, lower number: the text's warning.
    biased = (joint / module.weights.detach()).log() @ module.weights.detach()
    assert biased.sum().item() < total - 5


def test_start_finds_all_modes_and_does_not_depend_on_batches() -> None:
    grid = Grid(batch_size=250)
    x = grid.points("train")[0][:10_000]
    module, again = (GaussianMixture(shape=[2], num_components=25) for _ in range(2))
    module.start([x])
    again.start(list(x.split(130)))
    for one, other in zip(module.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    distances = torch.cdist(torch.tensor(grid.spec.modes), module.components.mean.detach())
    assert distances.min(1).values.max() < 0.01
    assert len(set(distances.argmin(1).tolist())) == 25


def test_grid_by_gradients_is_as_likely_as_the_truth() -> None:
    """The entropy of the grid is known: log 25 + log(2 pi e) + 2 log(scale), up to overlaps of 20 deviations.

    The test split's own mean under the truth differs from it by chance, and the model's by 150 parameters less.
    """
    grid = Grid(batch_size=256, fresh=True)
    module = GaussianMixture.for_data(grid.spec, num_components=25, lr=0.1, decay_steps=300)
    fit(module, grid, 300)
    x = grid.points("test")[0]
    truth = GaussianMixture.for_data(grid.spec, num_components=25)
    with torch.no_grad():
        truth.components.mean.copy_(torch.tensor(grid.spec.modes))
        truth.components.log_scale.fill_(math.log(grid.spec.mode_scale or 1))
    entropy = math.log(25) + math.log(2 * math.pi * math.e) + 2 * math.log(grid.spec.mode_scale or 1)
    excess = (truth.log_prob(x) - module.log_prob(x)).mean().item()
    assert -0.002 < excess < 0.02
    assert -truth.log_prob(x).mean().item() == pytest.approx(entropy, abs=5 / math.sqrt(len(x)))
    samples = module.sample(2500, generator=torch.Generator().manual_seed(0))
    coverage = mode_coverage(samples, torch.tensor(grid.spec.modes), grid.spec.mode_scale or 1)
    assert coverage.modes == coverage.modes_hit == 25
    assert coverage.kl < 0.02


def test_a_second_fit_continues_instead_of_starting_over() -> None:
    ring = Ring(batch_size=200, train_size=2000)
    module = GaussianMixture(shape=[2], num_components=8, lr=1e-6)
    module.start(ring)
    before = module.components.mean.detach().clone()
    with torch.no_grad():
        module.components.mean.add_(0.5)
    fit(module, ring, 1)
    torch.testing.assert_close(module.components.mean.detach(), before + 0.5, atol=1e-4, rtol=0)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="num_components=0"):
        GaussianMixture(num_components=0)
    with pytest.raises(ValueError, match="start_examples=5.*num_components=10"):
        GaussianMixture(start_examples=5)
    module = GaussianMixture(shape=[2], num_components=5)
    with pytest.raises(ValueError, match=r"num_components=5\b.*\b3\b"):
        module.fit_em([torch.randn(3, 2)])
    with pytest.raises(ValueError, match=r"\b5\b.*\b2\b"):
        module.start([torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(10, 1)])
    with pytest.raises(ValueError, match="NaN"):
        module.start([torch.full((9, 2), float("nan"))])
    with pytest.raises(ValueError, match="examples"):
        module.start([])
    module.start([torch.randn(50, 2)])
    with pytest.raises(ValueError, match="examples"):
        module.fit_em(iter([]))
    with pytest.raises(ValueError, match=r"num_components=5\b.*\b3\b"):
        module.fit_em([torch.randn(3, 2)])
    unstarted = GaussianMixture(shape=[2], num_components=5)
    unstarted.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match=r"Trainer\.fit"):
        unstarted.on_fit_start()


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no:UserWarning")
@pytest.mark.parametrize("kind", ["of the library", "of the user's own"])
def test_a_passed_loader_initialises_as_its_datamodule_does(kind: str) -> None:
    """And training still begins with the loader's first batch."""
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    source, seen = TensorSource(x, torch.zeros(64, dtype=torch.int64)), []

    class Watched(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, index: int) -> None:
            seen.append(batch.x)

    loader: Any = TrainingLoader(source, 16) if kind == "of the library" else DataLoader(TensorDataset(x.double()), 16)
    passed, started = (GaussianMixture(shape=[2], num_components=3, lr=1e-9) for _ in range(2))
    trainer = quiet_trainer([Watched()], max_steps=1)
    trainer.fit(passed, loader)
    started.start(list(TrainingLoader(source, 16)) if kind == "of the library" else [x])
    torch.testing.assert_close(passed.components.mean, started.components.mean, atol=1e-5, rtol=1e-5)
    first = next(iter(TrainingLoader(source, 16))).x if kind == "of the library" else x[:16]
    assert torch.equal(seen[0], first)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("fashion_mnist")
def test_ten_full_covariances_on_fashion_mnist() -> None:
    """Three steps of EM are under 5.23 bits/dim on the test split of dequantised images, floor 1e-6."""
    data = FashionMNIST(dequantize=True, batch_size=1000)
    module = GaussianMixture.for_data(data.spec, num_components=10, covariance="full", covariance_floor=1e-6)
    history = module.fit_em(data, iterations=3)
    assert history == sorted(history)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    (values,) = trainer.test(module, data, verbose=False)
    assert values["test/bits_per_dim-exact"] <= 5.23
