"""GibbsNet: the chain of two states, where its stationary distribution is enumerated, and how the chain is drawn."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import ALI, GibbsNet
from lightning_modules.adversarial.joint_game import JointModule
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.penalties import r1
from lightning_modules.parts.schedules import linear_decay
from tests.adversarial.joint_games import SMALL, Bilinear, TwoStates, adam, fit
from tests.standins import quiet_trainer

UP = 0.8
"""Share of the data that are 1; the others are -1."""
PLAIN: dict[str, Any] = {"normalise_codes": False, "penalty_weight": 0.0}
"""The game of the paper, without what is ours."""
BATCHES = 300


def transitions(module: JointModule) -> Tensor:
    """Returns P[x, x'] = sum_z q(z|x) p(x'|z) for x, z, x' in (-1, 1), (2, 2)."""
    states = torch.tensor([[-1.0], [1.0]])
    up = [torch.sigmoid(network(states)).detach().double() for network in (module.encoder, module.generator)]
    from_x, from_z = (torch.cat([1 - share, share], 1) for share in up)
    return from_x @ from_z


def stationary(matrix: Tensor) -> Tensor:
    """Returns the left eigenvector of the eigenvalue 1, with the sum 1."""
    values, vectors = torch.linalg.eig(matrix.T)
    vector = vectors[:, (values - 1).abs().argmin()].real
    return vector / vector.sum()


def two_states() -> JointModule:
    generator, encoder = nn.Linear(1, 1), nn.Linear(1, 1)
    for network, slope, offset in ((generator, 1.0, -0.8), (encoder, 0.8, 0.0)):
        network.weight.data.fill_(slope)
        network.bias.data.fill_(offset)
    return JointModule(
        generator,
        encoder,
        Bilinear(),
        latent_dim=1,
        steps=3,
        likelihood=TwoStates(),
        posterior=TwoStates(),
        player_optimizer=adam(2e-2),
        discriminator_optimizer=adam(5e-2),
        lr_schedule=linear_decay(BATCHES),
    )


def test_the_chain_of_two_states_settles_at_the_distribution_of_the_data() -> None:
    """Over four seeds the total variation is at most 0.011; an untrained chain is 0.48 away."""
    module, data = two_states(), torch.tensor([1 - UP, UP], dtype=torch.float64)
    assert total_variation(stationary(transitions(module)), data) > 0.4
    uniform = torch.rand(BATCHES, 512, 1, generator=torch.Generator().manual_seed(0))
    fit(module, (uniform < UP).float() * 2 - 1)
    found = stationary(transitions(module))
    assert total_variation(found, data) < 0.05
    # A chain that ignores its state would do, too; this one depends on it, and x tells something about z.
    samples = module.sample(20_000, generator=torch.Generator().manual_seed(0), steps=20)
    assert set(samples.unique().tolist()) == {-1.0, 1.0}
    assert (samples > 0).float().mean().item() == pytest.approx(found[1].item(), abs=0.02)  # 7 standard errors


def total_variation(first: Tensor, second: Tensor) -> float:
    return 0.5 * (first - second).abs().sum().item()


def test_without_steps_it_has_the_pairs_of_ali_and_learns_the_same() -> None:
    x = torch.randn(4, 16, 2, generator=torch.Generator().manual_seed(0))
    modules: list[JointModule] = []
    for method, settings in (
        (ALI, {}),
        (GibbsNet, {"steps": 0, **PLAIN}),
        (GibbsNet, {"steps": 1, **PLAIN}),
    ):
        torch.manual_seed(0)
        modules.append(method(**SMALL, lr=1e-2, **settings))
    pairs = []
    for module in modules:
        torch.manual_seed(1)
        (data, codes), (examples, unclamped) = module.pairs(x[0], Noise())
        pairs.append(torch.cat([data, codes, examples, unclamped], 1))
        fit(module, x)
    ali, without, with_one = modules
    assert torch.equal(pairs[0], pairs[1])
    assert not torch.equal(pairs[0], pairs[2])
    assert all(torch.equal(value, without.state_dict()[key]) for key, value in ali.state_dict().items())
    assert any(not torch.equal(value, with_one.state_dict()[key]) for key, value in ali.state_dict().items())


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_samples_are_those_of_a_chain_by_hand(steps: int) -> None:
    module = GibbsNet(**SMALL, steps=2, normalise_codes=False)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        z = torch.randn(5, 3, generator=generator)
        for _ in range(steps):
            mean, log_scale = module.encoder(module.generator(z)).chunk(2, 1)
            z = mean + log_scale.exp() * torch.randn(5, 3, generator=generator)
        expected = module.generator(z)
    again = {"generator": torch.Generator().manual_seed(4), "steps": steps}
    torch.testing.assert_close(module.sample(5, **again), expected)
    again["generator"] = torch.Generator().manual_seed(4)
    torch.testing.assert_close(module.sample_latent(5, **again), z)


def test_samples_take_the_steps_of_training_unless_told() -> None:
    module = GibbsNet(**SMALL, steps=2)
    samples = {
        steps: module.sample(5, generator=torch.Generator().manual_seed(0), steps=steps) for steps in (None, 2, 0)
    }
    assert torch.equal(samples[None], samples[2])
    assert not torch.equal(samples[None], samples[0])
    for bad in (-1, 1.5, True):
        with pytest.raises(ValueError, match=f"steps={bad}.*integer"):
            module.sample(5, steps=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"steps=-1\b.*integer"):
        GibbsNet(**SMALL, steps=-1)


def test_codes_keep_their_spread_where_all_examples_are_nearly_the_same() -> None:
    near = torch.full((64, 2), 0.3) + 0.1 * torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    spread = {}
    for normalise in (True, False):
        torch.manual_seed(0)
        mean = GibbsNet(**SMALL, normalise_codes=normalise).encoder(near).chunk(2, dim=1)[0]
        spread[normalise] = mean.std(0, unbiased=False)
    torch.testing.assert_close(spread[True], torch.ones(3), atol=0.01, rtol=0)
    assert spread[False].max() < 0.1


def test_codes_of_one_example_are_normalised_by_running_averages() -> None:
    encoder = GibbsNet(**SMALL).encoder
    x = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))
    for _ in range(200):  # the first running average, 1, has then the weight 1e-9
        encoder(x)
    in_evaluation = GibbsNet(**SMALL).encoder.eval()
    in_evaluation.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encoder(x[:1]), in_evaluation(x[:1]))
    torch.testing.assert_close(encoder(x), in_evaluation(x), atol=0, rtol=0.05)


def test_gradients_flow_through_the_last_step_only() -> None:
    module = GibbsNet(**SMALL, steps=3)
    outputs: list[tuple[str, bool]] = []
    for name in ("generator", "encoder"):
        network: nn.Module = getattr(module, name)
        network.register_forward_hook(lambda _, __, made, name=name: outputs.append((name, made.requires_grad)))
    _, (examples, codes) = module.pairs(torch.randn(4, 2), Noise())
    chain = [("generator", False), ("encoder", False)] * 2 + [("generator", False), ("encoder", True)]
    assert outputs == [("encoder", True), *chain, ("generator", True)]
    own = list(module.generator.parameters())
    through_codes = torch.autograd.grad(codes.sum(), own, retain_graph=True, allow_unused=True)
    assert all(gradient is None for gradient in through_codes)
    by_encoder = torch.autograd.grad(examples.sum(), list(module.encoder.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in by_encoder)


@pytest.mark.parametrize("steps", [0, 3])
def test_running_averages_follow_the_chain_which_samples_and_data_only_where_there_is_none(steps: int) -> None:
    found = []
    for data in (torch.zeros(16, 1, 28, 28), torch.ones(16, 1, 28, 28)):
        torch.manual_seed(0)
        module = GibbsNet(shape=[1, 28, 28], width=2, latent_dim=3, steps=steps).train()
        module.pairs(data, Noise(torch.Generator().manual_seed(0)))
        assert all(part.training for part in module.modules())
        found.append({name: buffer.clone() for name, buffer in module.named_buffers() if "running" in name})
    assert [name for name in found[0] if name.startswith("generator.")]
    changed = [name for name in found[0] if not torch.equal(found[0][name], found[1][name])]
    assert (changed == []) == (steps > 0)
    assert all(name.startswith("encoder.") for name in changed)


def test_chains_keep_their_spread_over_running_averages_too() -> None:
    """Whatever the codes of data are, here all the same."""
    module, noise = GibbsNet(**SMALL, steps=3).train(), Noise(torch.Generator().manual_seed(0))
    for _ in range(100):
        module.pairs(torch.zeros(256, 2), noise)
    module.eval()
    means = module.posterior.mean(
        module.encoder(module.draw_examples(module.draw_unclamped_codes(4096, 2, noise), noise))
    )
    assert ((means.std(0) - 1).abs() < 0.15).all()


def test_codes_of_the_chain_are_normalised_by_the_batch_in_training() -> None:
    """So that no step loses the spread of the one before, whatever the running averages are by then."""
    module = GibbsNet(**SMALL, steps=3)
    means: list[Tensor] = []
    module.encoder.register_forward_hook(lambda _, __, made: means.append(made[:, :3].detach()))
    for training in (True, False):
        means.clear()
        module.train(training)
        module.draw_unclamped_codes(64, 3, Noise())
        spreads = torch.stack([mean.std(0, unbiased=False) for mean in means])
        assert spreads.shape == (3, 3)
        assert torch.allclose(spreads, torch.ones(3, 3), atol=0.05) == training  # exactly 1 but for eps


def test_penalties_are_squared_gradients_by_examples_and_codes() -> None:
    module = GibbsNet(**SMALL, penalty_weight=0.3)
    clamped, unclamped = (tuple(part.detach() for part in pair) for pair in module.pairs(torch.randn(6, 2), Noise()))
    losses, penalties = module.discriminator_losses(clamped, unclamped, 0)
    assert losses.keys() == {"discriminator"}
    for name, pair in (("r1", clamped), ("r2", unclamped)):
        x, z = (part.clone().requires_grad_() for part in pair)
        by_x, by_z = torch.autograd.grad(module.discriminator(x, z).sum(), (x, z))
        squares = by_x.square().sum(1) + by_z.square().sum(1)
        torch.testing.assert_close(penalties[name], 0.3 * squares.mean() / 2)
        assert by_x.abs().max() > 0 < by_z.abs().max()
    lazy = GibbsNet(**SMALL, penalty_weight=0.3, lazy_every=4)
    lazy.load_state_dict(module.state_dict())
    assert lazy.discriminator_losses(clamped, unclamped, 0)[1] == {}
    torch.testing.assert_close(lazy.discriminator_losses(clamped, unclamped, 3)[1]["r1"], 4 * penalties["r1"])


def test_penalties_refuse_what_they_cannot_be_computed_with() -> None:
    with pytest.raises(ValueError, match="lazy_every=0"):
        GibbsNet(**SMALL, lazy_every=0)
    with pytest.raises(ValueError, match="lazy_every=8 has no effect without penalty_weight"):
        GibbsNet(**SMALL, penalty_weight=0, lazy_every=8)
    assert GibbsNet(**SMALL, penalty_weight=0).penalties == {}
    with pytest.raises(ValueError, match=r"weight=-1\.0"):
        GibbsNet(**SMALL, penalty_weight=-1.0)
    with pytest.raises(ValueError, match="'bf16-true' is too coarse"):
        fit(GibbsNet(**SMALL), torch.randn(1, 4, 2), precision="bf16-true")
    discriminator = GibbsNet(**SMALL).discriminator
    discriminator.add_module("norm", nn.BatchNorm1d(2))
    with pytest.raises(ValueError, match="batch normalisation"):
        JointModule(
            nn.Linear(3, 2),
            nn.Linear(2, 6),
            discriminator,
            latent_dim=3,
            player_optimizer=adam(0.1),
            discriminator_optimizer=adam(0.1),
            penalties={"r1": (1.0, r1)},
        )


def test_mixed_precision_keeps_the_gradients_of_what_was_cast_without_them() -> None:
    module = GibbsNet(**SMALL, steps=2)
    with torch.autocast("cpu", torch.bfloat16):
        clamped, unclamped = module.pairs(torch.randn(8, 2), Noise())
        module.game_loss(unclamped, clamped).backward()
    players: list[Any] = [*module.generator.parameters(), *module.encoder.parameters()]
    assert [p.shape for p in players if p.grad is None] == []


def test_batches_of_one_example_cannot_be_normalised() -> None:
    settings: dict[str, Any] = {"shape": [2], "architecture": "mlp", "latent_dim": 3, "width": 2}
    with pytest.raises(ValueError, match="normalise_codes=true needs batches of at least two examples"):
        fit(GibbsNet(**settings), torch.randn(2, 1, 2))
    fit(GibbsNet(**settings, normalise_codes=False), torch.randn(2, 1, 2))
    later = DataLoader(TensorDataset(torch.randn(9, 2)), batch_size=8)
    with pytest.raises(ValueError, match="at least two examples, but a batch has one: set batch_size, or drop_last"):
        quiet_trainer().fit(GibbsNet(**settings), later, later)
