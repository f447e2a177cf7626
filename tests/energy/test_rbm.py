"""The RBM against enumeration: 6 visible and 4 hidden units have 1 024 joint states."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor
from torch.nn import functional as F

from datamodules import SyntheticImages
from datamodules.base import ZooDataModule
from datamodules.loader import TensorSource
from datamodules.spec import DataSpec
from lightning_modules import RBM
from lightning_modules.energy.partition import LowEffectiveSampleSize
from lightning_modules.parts.likelihoods import bernoulli_log_prob

SHAPE = [1, 2, 3]
PLACES = torch.tensor([32, 16, 8, 4, 2, 1])


def states(num: int) -> Tensor:
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * num)


def tiny(seed: int = 0, scale: float = 1.0, **settings: Any) -> RBM:
    """A 6 x 4 model in float64 with weights that matter."""
    module = RBM(**{"shape": SHAPE, "num_hidden": 4, **settings}).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def law(module: RBM) -> Tensor:
    """p(v) of all 64 visible states."""
    return (-module.energy(states(6))).softmax(0)


def gibbs_operator(module: RBM) -> Tensor:
    """T[v, v'] of one block Gibbs step, through all hidden states."""
    v, h = states(6), states(4)
    to_hidden = torch.stack([bernoulli_log_prob(module.hidden_input(v), row.expand(64, -1)) for row in h], 1).exp()
    to_visible = torch.stack([bernoulli_log_prob(module.visible_input(h), row.expand(16, -1)) for row in v], 1).exp()
    return to_hidden @ to_visible


def data_law() -> Tensor:
    """A law over the 64 states that is none of an RBM."""
    return (2 * torch.randn(64, generator=torch.Generator().manual_seed(9), dtype=torch.float64)).softmax(0)


def gradient(module: RBM, loss: Tensor) -> Tensor:
    """All gradients of a loss as one vector."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))])


def chi_square(places: Tensor, law: Tensor) -> float:
    counts = places.bincount(minlength=len(law)).double()
    return ((counts - len(places) * law).square() / (len(places) * law)).sum().item()


# Energies


def test_free_energies_are_sums_over_the_other_layer() -> None:
    module, v, h = tiny(), states(6), states(4)
    joint = torch.stack([module.joint_energy(v, row.expand(64, -1)) for row in h], 1)
    torch.testing.assert_close(module.energy(v), -(-joint).logsumexp(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(module.hidden_free_energy(h), -(-joint).logsumexp(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(module.free_energy(v.view(-1, *SHAPE)), module(v), rtol=0, atol=0)
    by_hand = -(v[5] @ module.visible_bias) - (h[6] @ module.hidden_bias) - v[5] @ module.weight @ h[6]
    assert joint[5, 6].item() == pytest.approx(by_hand.item(), abs=1e-12)
    assert module.exact_log_partition() == pytest.approx((-joint).flatten().logsumexp(0).item(), abs=1e-12)


def test_log_prob_is_normalised_from_either_layer() -> None:
    for num_hidden in (4, 9):  # the smaller layer is summed over: hidden, then visible
        module = tiny(num_hidden=num_hidden)
        assert module.log_prob(states(6)).exp().sum().item() == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match=r"num_units=500: up to 25 .* annealed_importance_sampling"):
        RBM().log_prob(torch.zeros(1, 1, 28, 28))


def test_pseudo_likelihood_is_the_product_of_conditionals() -> None:
    module, v = tiny(), states(6)
    log_p = law(module).log()
    expected = torch.zeros(64, dtype=torch.float64)
    for unit in range(6):
        other = (v - F.one_hot(torch.tensor(unit), 6)).abs()
        flipped = log_p[(other.long() @ PLACES)]
        expected += torch.logaddexp(log_p, flipped) - log_p
    pixels = torch.arange(6).expand(64, -1)
    torch.testing.assert_close(module.pseudo_nll(v, pixels), expected, rtol=1e-10, atol=1e-10)


# Gradients


def test_the_gradient_of_the_likelihood_is_that_of_free_energies() -> None:
    """Eq. 1.28, against finite differences of the enumerated log-likelihood."""
    module, v, data = tiny(), states(6), data_law()
    contrast = (data * module.energy(v)).sum() - (law(module).detach() * module.energy(v)).sum()
    exact = gradient(module, contrast)
    parameters, step = list(module.parameters()), 1e-5
    numeric = []
    with torch.no_grad():
        for parameter in parameters:
            for index in range(parameter.numel()):
                values = []
                for change in (step, -step):
                    parameter.view(-1)[index] += change
                    values.append(-(data * module.log_prob(v)).sum())
                    parameter.view(-1)[index] -= change
                numeric.append((values[0] - values[1]) / (2 * step))
    torch.testing.assert_close(exact, torch.stack(numeric), rtol=0, atol=1e-8)


def test_the_error_of_contrastive_divergence_falls_geometrically() -> None:
    """The expected CD-k gradient, through k powers of the Gibbs operator, errs by the second eigenvalue to the k."""
    module, v, data = tiny(scale=0.7), states(6), data_law()
    operator, model = gibbs_operator(module).detach(), law(module).detach()
    torch.testing.assert_close(model @ operator, model, rtol=0, atol=1e-15)
    rate = torch.linalg.eigvals(operator).abs().sort(descending=True).values[1].item()
    assert 0.05 < rate < 0.9
    positive = gradient(module, (data * module.energy(v)).sum())
    exact = positive - gradient(module, (model * module.energy(v)).sum())
    errors = []
    for k in range(1, 13):
        reached = data @ torch.linalg.matrix_power(operator, k)
        cd = positive - gradient(module, (reached * module.energy(v)).sum())
        errors.append(((cd - exact).norm() / exact.norm()).item())
    assert all(after < before for before, after in zip(errors, errors[1:], strict=False))
    assert errors[11] / errors[10] == pytest.approx(rate, rel=0.05)
    assert errors[0] > 0.01  # CD-1 is biased


@pytest.mark.parametrize("cd_steps", [1, 3])
def test_training_draws_its_negative_samples_by_the_gibbs_operator(cd_steps: int) -> None:
    module, num, row = tiny(cd_steps=cd_steps, persistent=False), 50_000, 22
    x = states(6)[row].expand(num, -1)
    samples = module.negative_samples(x)
    expected = torch.linalg.matrix_power(gibbs_operator(module), cd_steps)[row]
    assert chi_square(samples.long() @ PLACES, expected.detach()) < 116  # 63 degrees of freedom: one seed in 20 000


def test_persistent_chains_go_on_and_others_start_from_the_data() -> None:
    x, other = states(6)[:20], states(6)[40:60]
    for persistent in (True, False):
        module = tiny(cd_steps=1, persistent=persistent)
        module.flip = lambda logits: (logits > 0).to(logits.dtype)  # type: ignore[method-assign]
        first = module.negative_samples(x)
        second = module.negative_samples(other)
        expected = tiny(cd_steps=1)
        expected.flip = module.flip  # type: ignore[method-assign]
        torch.testing.assert_close(second, expected.negative_samples(first if persistent else other))


def test_chains_belong_to_positions_of_the_batch_whatever_its_length() -> None:
    module = tiny(cd_steps=1)
    module.flip = lambda logits: (logits > -math.inf).to(logits.dtype)  # type: ignore[method-assign]
    module.negative_samples(states(6)[:4])
    assert module.negative_samples(states(6)[:10]).shape == (10, 6)
    module.chains = torch.zeros(10, 6)
    assert module.negative_samples(states(6)[:3]).shape == (3, 6)
    assert module.chains.sum(1).tolist() == [6] * 3 + [0] * 7
    state = module.rank_state()
    again = tiny()
    again.load_rank_state(state)
    assert again.chains is not None
    assert torch.equal(again.chains, module.chains)
    assert tiny().rank_state() == {}


def test_centred_gradients_are_those_of_the_centred_parametrisation() -> None:
    """E = -(v - mu) W (h - 1/2) - a v - c h, descended in its own W, a and c and written as a plain RBM again."""
    module, rate = tiny(), 0.3
    mu = torch.rand(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    module.base_rates = mu
    v, data, chain = states(6), data_law(), data_law().flip(0)

    weight, a, c = (parameter.detach().clone() for parameter in module.parameters())
    own = [weight, a + weight.sum(1) / 2, c + mu @ weight]
    for parameter in own:
        parameter.requires_grad_()
    shifted = (v - mu) @ own[0]
    centred = -(v @ own[1]) + shifted.sum(1) / 2 - F.softplus(shifted + own[2]).sum(1)
    gaps = centred - module.energy(v).detach()
    assert gaps.std() < 1e-12  # the same model
    moved = [p - rate * g for p, g in zip(own, torch.autograd.grad(((data - chain) * centred).sum(), own), strict=True)]
    expected = [moved[0], moved[1] - moved[0].sum(1) / 2, moved[2] - mu @ moved[0]]

    ((data - chain) * module.energy(v)).sum().backward()
    module.center_gradients()
    with torch.no_grad():
        for parameter, truth in zip(module.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter - rate * parameter.grad, truth, rtol=0, atol=1e-12)


# Training


class Patterns(ZooDataModule):
    """Bars and stripes: 3 x 3 pictures whose rows or whose columns are uniform, 14 of them, all as frequent."""

    def __init__(self, batch_size: int = 70) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, 0
        self.spec = DataSpec("patterns", "image", (1, 3, 3), (0.0, 1.0))

    def setup(self, stage: str | None = None) -> None:
        bars = states(3).float()[:, :, None].expand(8, 3, 3)
        x = torch.cat([bars, bars[1:-1].transpose(1, 2)]).unsqueeze(1).repeat(10, 1, 1, 1)
        source = TensorSource(x, torch.zeros(len(x), dtype=torch.int64))
        self.sources = {"train": source, "val": source, "test": source}


QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def test_training_nears_the_entropy_of_the_data() -> None:
    """The cross-entropy is at least log 14, and reached in the limit (eq. 1.12); independent units stay at 6.24."""
    seed_everything(3, verbose=False)
    module = RBM([1, 3, 3], num_hidden=16, cd_steps=5, lr=0.3, decay_steps=1500)
    data = Patterns()
    Trainer(max_steps=1500, limit_val_batches=0, **QUIET).fit(module, data)
    x = data.sources["train"].data[:14]  # type: ignore[attr-defined]
    cross_entropy = -module.log_prob(x).mean().item()
    assert math.log(14) < cross_entropy < math.log(14) + 0.35


def test_visible_biases_start_at_the_rates_of_all_training_data() -> None:
    data = SyntheticImages(
        shape=[1, 8, 8], num_classes=2, size=200, val_size=8, test_size=8, batch_size=8, binarize=True
    )
    module = RBM([1, 8, 8], num_hidden=3, lr=1e-9)
    Trainer(max_steps=1, limit_val_batches=0, **QUIET).fit(module, data)
    bits = data.images("train")[0].flatten(1) > 127
    rates = (bits.sum(0) + 1) / (len(bits) + 2)
    torch.testing.assert_close(module.visible_bias.detach().sigmoid(), rates, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module.base_rates, rates)

    with torch.no_grad():
        module.visible_bias.zero_()
    Trainer(max_steps=1, limit_val_batches=0, **QUIET).fit(module, data)  # trained further, it keeps its biases
    assert module.visible_bias.abs().max() < 1e-6


def test_without_a_datamodule_the_first_batch_gives_the_rates() -> None:
    x = (torch.rand(40, *SHAPE) < 0.2).float()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.zeros(40)), batch_size=20)
    module = RBM(SHAPE, num_hidden=3, lr=1e-9)
    Trainer(max_steps=1, **QUIET).fit(module, loader, loader)
    rates = (x[:20].flatten(1).sum(0) + 1) / 22
    torch.testing.assert_close(module.base_rates, rates)


def test_validation_compares_held_out_with_training_pictures() -> None:
    data = Patterns()
    module = RBM([1, 3, 3], num_hidden=4, lr=0.05, cd_steps=1)
    trainer = Trainer(max_steps=4, **QUIET)
    trainer.fit(module, data)
    metrics = trainer.callback_metrics
    x = data.sources["val"].data  # type: ignore[attr-defined]
    assert module.reference is not None
    gap = module.energy(x).mean() - module.energy(module.reference).mean()
    assert metrics["val/free_energy_gap"].item() == pytest.approx(gap.item(), abs=1e-4)
    reconstruction = -bernoulli_log_prob(module.visible_input(module.encode(x)), x.flatten(1)).mean()
    assert metrics["val/reconstruction_cross_entropy"].item() == pytest.approx(reconstruction.item(), rel=1e-4)
    exact = module.pseudo_nll(x, torch.arange(9).expand(len(x), -1)).mean()
    assert metrics["val/pseudo_nll"].item() == pytest.approx(exact.item(), rel=0.2)  # from 9 pixels, with replacement


# Testing


def measured(module: RBM, **settings: Any) -> dict[str, float]:
    data = SyntheticImages(
        shape=[1, 8, 8], num_classes=2, size=64, val_size=8, test_size=300, binarize=True, **settings
    )
    return {**Trainer(**QUIET).test(module, data, verbose=False)[0], "data": data}


def test_held_out_likelihood_by_three_roads() -> None:
    seed_everything(0, verbose=False)
    module = RBM([1, 8, 8], num_hidden=8, schedule=400, num_reversed=260)
    with torch.no_grad():
        module.weight.mul_(20)
        module.visible_bias.normal_()
        module.hidden_bias.normal_()
    first = measured(module, batch_size=32)
    data = first.pop("data")
    x = data.images("test")[0].gt(127).float()
    nll = -module.log_prob(x)
    assert first["test/nll-exact"] == pytest.approx(nll.mean().item(), rel=1e-6)
    error = first["test/ais_standard_error"]
    assert error < 0.05
    assert abs(first["test/nll-ais"] - first["test/nll-exact"]) < 5 * error
    assert first["test/ais_log_partition"] == pytest.approx(module.exact_log_partition(), abs=5 * error)
    assert 50 < first["test/ais_ess"] <= 100
    assert first["test/ais_chains"] == 100
    assert first["test/ais_temperatures"] == 400
    assert abs(first["test/nll-raise-260"] - nll[:260].mean().item()) < 0.5
    assert first["test/nll_standard_error-raise-260"] > 0
    bits = first["test/nll-raise-260"] / 64 / math.log(2)
    assert first["test/bits_per_dim-raise-260"] == pytest.approx(bits, rel=1e-6)

    second = measured(module, batch_size=50)
    for name, value in first.items():
        assert second[name] == pytest.approx(value, rel=1e-6), name  # whatever the batch size


def test_an_untrustworthy_estimate_is_warned_of_where_it_is_made() -> None:
    module = tiny(scale=8.0)
    with pytest.warns(LowEffectiveSampleSize, match="not to be trusted"):
        module.log_partition(3, num_chains=20, generator=torch.Generator().manual_seed(1))


def test_grey_values_are_refused() -> None:
    x = torch.rand(8, *SHAPE)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.zeros(8)), batch_size=8)
    with pytest.raises(ValueError, match=r"RBM: a Bernoulli likelihood .* binarize=True"):
        Trainer(max_steps=1, **QUIET).fit(RBM(SHAPE, num_hidden=2), loader, loader)


# Sampling


@pytest.mark.parametrize("start", ["fantasies", "rates", "annealed"])
def test_samples_follow_the_law_of_the_model(start: str) -> None:
    module = tiny(scale=0.7)
    samples = module.sample(20_000, steps=60, start=start, generator=torch.Generator().manual_seed(2))
    assert samples.shape == (20_000, *SHAPE)
    places = samples.flatten(1).long() @ PLACES
    assert chi_square(places, law(module).detach()) < 116  # 63 degrees of freedom: one seed in 20 000


def test_temperature_is_that_of_the_joint_law() -> None:
    module, temperature = tiny(scale=0.7), 0.5
    v, h = states(6), states(4)
    joint = torch.stack([module.joint_energy(v, row.expand(64, -1)) for row in h], 1)
    expected = (-joint / temperature).logsumexp(1).softmax(0).detach()
    generator = torch.Generator().manual_seed(3)
    samples = module.sample(20_000, steps=60, temperature=temperature, start="rates", generator=generator)
    assert chi_square(samples.flatten(1).long() @ PLACES, expected) < 116
    assert (expected - law(module)).abs().sum() > 0.1


def test_draws_are_bits_and_means_their_probabilities() -> None:
    module = tiny()
    draws = torch.stack([module.sample(6, steps=5, generator=torch.Generator().manual_seed(s)) for s in range(3)])
    assert ((draws == 0) | (draws == 1)).all()
    means = module.sample(6, steps=5, mean=True, generator=torch.Generator().manual_seed(0))
    assert ((means > 0) & (means < 1)).all()


def test_fantasies_are_the_chains_of_training() -> None:
    module = RBM([1, 3, 3], num_hidden=4, num_fantasies=100, cd_steps=2)
    Trainer(max_steps=3, limit_val_batches=0, **QUIET).fit(module, Patterns())
    assert module.chains is not None
    assert torch.equal(module.fantasies[:70].flatten(1), module.chains.to(torch.uint8))
    assert torch.equal(module.fantasies[70:], module.fantasies[:30])  # a batch has 70 positions
    particles = module.fantasy_particles()
    assert particles.shape == (100, 1, 3, 3)
    assert ((particles > 0) & (particles < 1)).all()
    filters = module.filters()
    assert filters.shape == (4, 1, 3, 3)
    torch.testing.assert_close(filters.flatten(1).abs().amax(1), torch.ones(4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_hidden": 0}, "num_hidden=0"),
        ({"cd_steps": 0}, "cd_steps=0"),
        ({"lr": 0.0}, r"lr=0\.0"),
        ({"momentum": 1.0}, r"momentum=1\.0"),
        ({"schedule": "cosine"}, "schedule='cosine'"),
        ({"start": "data"}, "start='data' must be one of fantasies, rates, annealed"),
        ({"num_chains": 1}, "num_chains=1"),
        ({"decay_steps": 0}, "decay_steps=0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RBM(SHAPE, **settings)


def test_arguments_of_sample_are_checked() -> None:
    module = tiny()
    for bad in ({"steps": 0}, {"temperature": 0.0}, {"start": "noise"}):
        with pytest.raises(ValueError, match="steps=0|temperature=0|start='noise'"):
            module.sample(2, **bad)  # type: ignore[arg-type]
