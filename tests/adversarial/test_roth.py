"""The regularised game: a closed form, the expansion that it is, its schedule, and all modes of a ring."""

import pytest
import torch
from torch import Tensor

from datamodules import Ring
from lightning_modules import RothGAN
from lightning_modules.metrics.modes import mode_coverage
from lightning_modules.parts.games import cross_entropy
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.penalties import roth
from tests.adversarial.games import POINTS, fit


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_linear_logit_has_the_closed_form(shape: tuple[int, ...]) -> None:
    """||w||^2 / 2 times E (1 - D(x))^2 + E D(G(z))^2, with D the sigmoid of w . x + b."""
    real, fake = torch.randn(2, 16, *shape, dtype=torch.float64)
    w, b = torch.randn(real[0].numel(), dtype=torch.float64), 0.3
    found = roth(lambda x: x.flatten(1) @ w + b, real, fake, Noise())
    on_real, on_fake = ((x.flatten(1) @ w + b).sigmoid() for x in (real, fake))
    expected = w.square().sum() / 2 * ((1 - on_real).square().mean() + on_fake.square().mean())
    torch.testing.assert_close(found, expected)


def test_it_is_what_noise_adds_to_the_loss_of_the_best_discriminator() -> None:
    """Section 3 of the paper, for p = N(0, 1) and q = N(1, 1) and the logit of the best discriminator, 1/2 - x.

    Noise of variance gamma adds gamma / 2 times the integral of (p + q) phi'^2 D (1 - D) to the cross-entropy, to
    second order. Where D is the posterior p / (p + q) that is gamma times the penalty, since p (1 - D)^2 + q D^2 is
    then (p + q) D (1 - D). Both by the trapezoidal rule, and by sampling.
    """
    x = torch.linspace(-12, 13, 50_001, dtype=torch.float64)
    means = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    p, q = torch.distributions.Normal(means, 1.0).log_prob(x).exp()
    d = (0.5 - x).sigmoid()
    omega = torch.trapezoid(p * (1 - d).square() + q * d.square(), x)
    curvature = torch.trapezoid((p + q) * d * (1 - d), x)
    torch.testing.assert_close(omega, curvature)

    torch.manual_seed(0)
    gamma = 1e-3
    points = torch.randn(2, 400_000, 1, dtype=torch.float64)
    real, fake = points[0], points[1] + 1
    # Noise +-sqrt(gamma) has the same second moment as N(0, gamma), and makes the mean over it exact.
    noisy = [torch.cat([side - gamma**0.5, side + gamma**0.5]) for side in (real, fake)]
    added = cross_entropy(*(0.5 - side for side in noisy)) - cross_entropy(0.5 - real, 0.5 - fake)
    penalty = roth(lambda side: 0.5 - side[:, 0], real, fake, Noise())
    # The sampling error of the difference is that of a mean of values below gamma / 8: .2 % at 800 000 points.
    assert (added / gamma).item() == pytest.approx(penalty.item(), rel=0.01)
    assert penalty.item() == pytest.approx(omega.item() / 2, rel=0.01)


def test_the_penalty_of_fakes_uses_their_own_labels() -> None:
    module = RothGAN(**POINTS, num_classes=3, gamma=1.0)
    fake_labels = torch.tensor([2, 2, 0, 1])
    module.noise.categorical = lambda probabilities, num: fake_labels  # type: ignore[method-assign]
    module.generator.forward = lambda z, condition=None: torch.ones(len(z), 2)
    module.discriminator.forward = lambda x, condition: (condition + 1) * x.sum(1)
    labels = torch.tensor([0, 1, 2, 0])
    real = torch.randn(4, 2)
    losses, _ = module.discriminator_losses(real, labels, 0)

    def part(x: Tensor, y: Tensor, sign: int) -> Tensor:
        return ((sign * (y + 1) * x.sum(1)).sigmoid().square() * 2 * (y + 1).square()).mean() / 2

    expected = part(real, labels, -1) + part(torch.ones(4, 2), fake_labels, 1)
    torch.testing.assert_close(losses["roth"], expected)
    other = part(real, labels, -1) + part(torch.ones(4, 2), labels, 1)
    assert not torch.isclose(expected, other)


def test_gamma_falls_exponentially_to_one_percent() -> None:
    term = RothGAN(**POINTS, gamma=2.0, gamma_steps=100).penalties["roth"]
    assert [term.weight_at(step) for step in (0, 50, 100, 10**6)] == pytest.approx([2.0, 0.2, 0.02, 0.02])
    assert RothGAN(**POINTS, gamma=2.0).penalties["roth"].weight_at(10**6) == 2.0
    for bad, named in (({"gamma": 0.0}, r"gamma=0\.0"), ({"gamma_steps": 0}, "gamma_steps=0")):
        with pytest.raises(ValueError, match=named):
            RothGAN(**POINTS, **bad)
    with pytest.raises(ValueError, match=r"gamma_steps=9.*planned for 8"):
        fit(RothGAN(**POINTS, gamma_steps=9), 8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ring_has_eight_modes_in_fair_shares() -> None:
    """The budget and bounds of the reference run: 4 000 steps, 3x128 units, batch 256, KL .004 and .001."""
    torch.manual_seed(0)
    data = Ring(batch_size=256, fresh=True)
    module = RothGAN.for_data(data.spec, latent_dim=2, width=32, gamma=0.1, lr=5e-4)
    fit(module, 4000, data=data, num_sanity_val_steps=0)
    samples = module.sample(2500, generator=torch.Generator().manual_seed(0))
    assert data.spec.mode_scale is not None
    coverage = mode_coverage(samples, torch.tensor(data.spec.modes), data.spec.mode_scale)
    assert coverage.modes == 8
    assert coverage.kl < 0.02
