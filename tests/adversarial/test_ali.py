"""Adversarially learned inference: the joint distribution of a linear model, where all of it has a closed form."""

import pytest
import torch
from torch.nn.functional import softplus

from lightning_modules import ALI
from lightning_modules.adversarial.joint_game import JointModule, detached
from lightning_modules.parts.conditionals import DiagonalGaussian
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.schedules import linear_decay
from tests.adversarial.joint_games import SMALL, AffineGaussian, Quadratic, adam, built, fit

MEAN, VARIANCE = 0.5, 2.25
BATCHES = 400
CLOSE = 0.08
"""Over four seeds no moment is further than 0.034 from its value, nor a reconstruction's error."""


@pytest.fixture(scope="module")
def linear() -> JointModule:
    """A linear Gaussian model, trained on numbers from N(MEAN, VARIANCE)."""
    module = JointModule(
        AffineGaussian(0.3, -0.5),
        AffineGaussian(0.3, -0.5),
        Quadratic(),
        latent_dim=1,
        likelihood=DiagonalGaussian(),
        player_optimizer=adam(5e-3),
        discriminator_optimizer=adam(2e-2),
        lr_schedule=linear_decay(BATCHES),
    )
    normal = torch.randn(BATCHES, 512, 1, generator=torch.Generator().manual_seed(0))
    fit(module, MEAN + VARIANCE**0.5 * normal, seed=0)
    return module


def test_both_joint_distributions_are_the_same_gaussian(linear: JointModule) -> None:
    slope, offset, variance = linear.generator.moments()  # type: ignore[operator]
    assert offset == pytest.approx(MEAN, abs=CLOSE)
    assert slope**2 + variance == pytest.approx(VARIANCE, abs=CLOSE)
    encoder_slope, encoder_offset, encoder_variance = linear.encoder.moments()  # type: ignore[operator]
    assert encoder_slope * MEAN + encoder_offset == pytest.approx(0, abs=CLOSE)
    assert encoder_slope**2 * VARIANCE + encoder_variance == pytest.approx(1, abs=CLOSE)
    assert encoder_slope * VARIANCE == pytest.approx(slope, abs=CLOSE)  # both are the covariance of x and z
    assert slope > 0.5


def test_the_encoder_is_the_posterior_of_the_generator(linear: JointModule) -> None:
    slope, _, variance = linear.generator.moments()  # type: ignore[operator]
    encoder_slope, _, encoder_variance = linear.encoder.moments()  # type: ignore[operator]
    assert encoder_slope == pytest.approx(slope / (slope**2 + variance), abs=CLOSE)
    assert encoder_variance == pytest.approx(variance / (slope**2 + variance), abs=CLOSE)


def test_reconstructions_keep_what_the_code_holds(linear: JointModule) -> None:
    x = MEAN + VARIANCE**0.5 * torch.randn(20_000, 1, generator=torch.Generator().manual_seed(1))
    slope, _, _ = linear.generator.moments()  # type: ignore[operator]
    kept = slope**2 / VARIANCE  # E[x|E[z|x]] - MEAN is this share of x - MEAN
    error = (linear.reconstruct(x) - x).square().mean().item()
    assert error == pytest.approx(VARIANCE * (1 - kept) ** 2, abs=CLOSE)
    assert error < VARIANCE / 2
    samples = linear.sample(20_000, generator=torch.Generator().manual_seed(2))
    assert samples.mean().item() == pytest.approx(MEAN, abs=CLOSE)
    assert samples.var().item() == pytest.approx(VARIANCE, abs=2 * CLOSE)  # and its sampling error of 0.02


def test_swapping_the_pairs_or_the_sign_of_the_logits_exchanges_the_losses() -> None:
    module = built()
    torch.manual_seed(1)
    clamped, unclamped = module.pairs(torch.randn(64, 1), Noise())
    own, swapped = module.game_loss(clamped, unclamped), module.game_loss(unclamped, clamped)
    real, fake = (module.discriminator(*pair).squeeze(1) for pair in (clamped, unclamped))
    torch.testing.assert_close(own, softplus(-real).mean() + softplus(fake).mean())
    torch.testing.assert_close(own - swapped, fake.mean() - real.mean())  # softplus(l) - softplus(-l) = l
    assert abs(own - swapped) > 0.1
    for p in module.discriminator.parameters():
        p.data.neg_()
    torch.testing.assert_close(module.game_loss(clamped, unclamped), swapped)


def test_the_gradient_does_not_vanish_where_the_discriminator_is_sure() -> None:
    """It is near 1 by each logit, where that of the objective of eq. 1, with the opposite sign, would be 5e-5."""
    real, fake = torch.full((1, 1), 10.0), torch.full((1, 1), -10.0)
    logits = [real.requires_grad_(), fake.requires_grad_()]
    module = built()
    module.discriminator.forward = lambda x, z: x  # type: ignore[method-assign]
    codes = torch.zeros(1, 1)
    loss = module.game_loss((logits[1], codes), (logits[0], codes))
    torch.testing.assert_close(
        torch.autograd.grad(loss, logits), (torch.ones(1, 1), -torch.ones(1, 1)), atol=1e-4, rtol=0
    )


def test_a_batch_makes_the_steps_of_both_sides() -> None:
    """SGD by hand: the discriminator on the pairs, then generator and encoder against the new discriminator."""
    x = torch.randn(1, 16, 1, generator=torch.Generator().manual_seed(0))
    module, by_hand = built(), built()
    module.noise = Noise(torch.Generator().manual_seed(3))
    fit(module, x)
    clamped, unclamped = by_hand.pairs(x[0], Noise(torch.Generator().manual_seed(3)))
    own = list(by_hand.discriminator.parameters())
    steps = torch.autograd.grad(by_hand.game_loss(detached(clamped), detached(unclamped)), own)
    for p, gradient in zip(own, steps, strict=True):
        p.data -= 0.1 * gradient
    players = [*by_hand.generator.parameters(), *by_hand.encoder.parameters()]
    steps = torch.autograd.grad(by_hand.game_loss(unclamped, clamped), players)
    for p, gradient in zip(players, steps, strict=True):
        p.data -= 0.1 * gradient
    assert any(step.abs().max() > 1e-3 for step in steps)
    torch.testing.assert_close(dict(module.named_parameters()), dict(by_hand.named_parameters()))


def test_codes_are_standard_normal_and_decoded() -> None:
    module = ALI(**SMALL)
    codes = module.sample_latent(5000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(codes[:250], torch.randn(250, 3, generator=torch.Generator().manual_seed(0))), (
        "the first chunk, drawn from N(0, I)"
    )
    assert torch.equal(module.sample(5000, generator=torch.Generator().manual_seed(0)), module.decode(codes))
