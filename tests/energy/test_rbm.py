"""The RBM against enumeration: 6 visible and 4 hidden units have 1 024 joint states."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch.nn import functional as F

from datamodules import SyntheticImages
from lightning_modules import RBM
from tests.energy.enumerated_rbms import (
    PLACES,
    QUIET,
    SHAPE,
    Patterns,
    chi_square,
    data_distribution,
    distribution,
    gibbs_operator,
    gradient,
    tiny,
)
from tests.energy.small_rbms import states

# Energies


def test_energies_chains_and_estimates_are_not_rounded_under_autocast() -> None:
    module = tiny(seed=3).float()
    v, h = states(6).float(), states(4).float()
    images = v.view(-1, *SHAPE)

    def measured() -> list[torch.Tensor]:
        seeds = [torch.Generator().manual_seed(seed) for seed in range(3)]
        return [
            module.free_energy(images),
            module.hidden_free_energy(h),
            module.joint_energy(images[:16], h),
            module.encode(images),
            module.pseudo_nll(images, torch.zeros(64, 1, dtype=torch.int64)),
            module.sample(64, generator=seeds[0], steps=20),
            torch.tensor(module.log_partition(20, num_chains=50, generator=seeds[1]).log_partition),
            module.reverse_log_likelihood(images, 20, generator=seeds[2]).log_likelihood,
            torch.tensor(module.exact_log_partition()),
        ]

    expected = measured()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(*pair) for pair in zip(measured(), expected, strict=True))


def test_free_energies_are_sums_over_the_other_layer() -> None:
    module, v, h = tiny(), states(6), states(4)
    joint = torch.stack([module.joint_energy(v.view(-1, *SHAPE), row.expand(64, -1)) for row in h], 1)
    torch.testing.assert_close(module.unchecked_energy(v), -(-joint).logsumexp(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(module.hidden_free_energy(h), -(-joint).logsumexp(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(module.free_energy(v.view(-1, *SHAPE)), module(v.view(-1, *SHAPE)), rtol=0, atol=0)
    by_hand = -(v[5] @ module.visible_bias) - (h[6] @ module.hidden_bias) - v[5] @ module.weight @ h[6]
    assert joint[5, 6].item() == pytest.approx(by_hand.item(), abs=1e-12)
    assert module.exact_log_partition() == pytest.approx((-joint).flatten().logsumexp(0).item(), abs=1e-12)


# Gradients


def test_the_gradient_of_the_likelihood_is_that_of_free_energies() -> None:
    """Eq. 1.28, against finite differences of the enumerated log-likelihood."""
    module, v, data = tiny(), states(6), data_distribution()
    energies = module.unchecked_energy(v)
    contrast = (data * energies).sum() - (distribution(module).detach() * energies).sum()
    exact = gradient(module, contrast)
    parameters, step = list(module.parameters()), 1e-5
    numeric = []
    with torch.no_grad():
        for parameter in parameters:
            for index in range(parameter.numel()):
                values = []
                for change in (step, -step):
                    parameter.view(-1)[index] += change
                    values.append(-(data * module.log_prob(v.view(-1, *SHAPE))).sum())
                    parameter.view(-1)[index] -= change
                numeric.append((values[0] - values[1]) / (2 * step))
    torch.testing.assert_close(exact, torch.stack(numeric), rtol=0, atol=1e-8)


def test_the_error_of_contrastive_divergence_falls_geometrically() -> None:
    """The expected CD-k gradient, through k powers of the Gibbs operator, errs by the second eigenvalue to the k."""
    module, v, data = tiny(scale=0.7), states(6), data_distribution()
    operator, model = gibbs_operator(module).detach(), distribution(module).detach()
    torch.testing.assert_close(model @ operator, model, rtol=0, atol=1e-15)
    rate = torch.linalg.eigvals(operator).abs().sort(descending=True).values[1].item()
    assert 0.05 < rate < 0.9
    positive = gradient(module, (data * module.unchecked_energy(v)).sum())
    exact = positive - gradient(module, (model * module.unchecked_energy(v)).sum())
    errors = []
    for k in range(1, 13):
        reached = data @ torch.linalg.matrix_power(operator, k)
        cd = positive - gradient(module, (reached * module.unchecked_energy(v)).sum())
        errors.append(((cd - exact).norm() / exact.norm()).item())
    assert all(after < before for before, after in zip(errors, errors[1:], strict=False))
    assert errors[11] / errors[10] == pytest.approx(rate, rel=0.05)
    assert errors[0] > 0.01  # CD-1 is biased


@pytest.mark.parametrize("cd_steps", [1, 3])
def test_negative_samples_of_training_follow_the_gibbs_operator(cd_steps: int) -> None:
    module, num, row = tiny(cd_steps=cd_steps, persistent=False), 50_000, 22
    x = states(6)[row].expand(num, -1)
    samples = module.negative_samples(x)
    expected = torch.linalg.matrix_power(gibbs_operator(module), cd_steps)[row]
    assert chi_square(samples.long() @ PLACES, expected.detach()) < 116  # 63 degrees of freedom: one seed in 20 000


def test_persistent_chains_continue_and_others_start_from_the_data() -> None:
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
    v, data, chain = states(6), data_distribution(), data_distribution().flip(0)

    weight, a, c = (parameter.detach().clone() for parameter in module.parameters())
    own = [weight, a + weight.sum(1) / 2, c + mu @ weight]
    for parameter in own:
        parameter.requires_grad_()
    shifted = (v - mu) @ own[0]
    centred = -(v @ own[1]) + shifted.sum(1) / 2 - F.softplus(shifted + own[2]).sum(1)
    gaps = centred - module.unchecked_energy(v).detach()
    assert gaps.std() < 1e-12  # the same model
    moved = [p - rate * g for p, g in zip(own, torch.autograd.grad(((data - chain) * centred).sum(), own), strict=True)]
    expected = [moved[0], moved[1] - moved[0].sum(1) / 2, moved[2] - mu @ moved[0]]

    ((data - chain) * module.unchecked_energy(v)).sum().backward()
    module.center_gradients()
    with torch.no_grad():
        for parameter, truth in zip(module.parameters(), expected, strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter - rate * parameter.grad, truth, rtol=0, atol=1e-12)


# Training


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


def test_grey_values_are_refused() -> None:
    x = torch.rand(8, *SHAPE)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.zeros(8)), batch_size=8)
    with pytest.raises(ValueError, match=r"RBM.*binarize"):
        Trainer(max_steps=1, **QUIET).fit(RBM(SHAPE, num_hidden=2), loader, loader)


# Sampling


@pytest.mark.parametrize("start", ["fantasies", "rates", "annealed"])
def test_samples_follow_the_distribution_of_the_model(start: str) -> None:
    module = tiny(scale=0.7)
    samples = module.sample(20_000, steps=60, start=start, generator=torch.Generator().manual_seed(2))
    assert samples.shape == (20_000, *SHAPE)
    places = samples.flatten(1).long() @ PLACES
    assert chi_square(places, distribution(module).detach()) < 116  # 63 degrees of freedom: one seed in 20 000


def test_temperature_is_that_of_the_joint_distribution() -> None:
    module, temperature = tiny(scale=0.7), 0.5
    v, h = states(6), states(4)
    joint = torch.stack([module.joint_energy(v.view(-1, *SHAPE), row.expand(64, -1)) for row in h], 1)
    expected = (-joint / temperature).logsumexp(1).softmax(0).detach()
    generator = torch.Generator().manual_seed(3)
    samples = module.sample(20_000, steps=60, temperature=temperature, start="rates", generator=generator)
    assert chi_square(samples.flatten(1).long() @ PLACES, expected) < 116
    assert (expected - distribution(module)).abs().sum() > 0.1


def test_samples_are_bits_and_means_their_probabilities() -> None:
    module = tiny()
    samples = torch.stack([module.sample(6, steps=5, generator=torch.Generator().manual_seed(s)) for s in range(3)])
    assert ((samples == 0) | (samples == 1)).all()
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
        ({"start": "data"}, "start='data'.*fantasies.*rates.*annealed"),
        ({"num_chains": 1}, "num_chains=1"),
        ({"decay_steps": 0}, "decay_steps=0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RBM(SHAPE, **settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"steps": 0}, "steps=0"), ({"temperature": 0.0}, r"temperature=0\.0"), ({"start": "noise"}, "start='noise'")],
)
def test_arguments_of_sample_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny().sample(2, **arguments)
