"""What models with a Gaussian code share: bounds against quadrature, codes, what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules import VAE


def one_dimensional() -> tuple[VAE, Tensor, float]:
    """A VAE with one latent dimension, an image of bits, and log p(x) by quadrature."""
    torch.manual_seed(3)
    module = VAE(shape=[1, 2, 2], likelihood="bernoulli", latent_dim=1, hidden=4, depth=1).double()
    with torch.no_grad():
        module.decoder.output.weight.mul_(3)  # type: ignore[union-attr, operator]
        module.encoder.output.bias[1] = 0.5  # type: ignore[union-attr, operator]  # wider than the posterior
    x = torch.tensor([1.0, 0.0, 0.0, 1.0]).double().view(1, 1, 2, 2)
    z = torch.linspace(-9, 9, 4001).double()
    with torch.no_grad():
        joint = module.log_likelihood(x, None, z.view(1, -1, 1))[0] - 0.5 * z.square() - 0.5 * math.log(2 * math.pi)
    exact = torch.logsumexp(joint, 0) + math.log(18 / 4000)
    return module, x, exact.item()


def test_bounds_rise_with_the_number_of_samples_to_the_likelihood() -> None:
    """Eq. 1.30 by quadrature: L_1 <= L_5 <= L_50 <= log p in the mean; the order is beyond 5 standard errors."""
    module, x, exact = one_dimensional()
    many = x.expand(10_000, -1, -1, -1)
    means, errors = [], []
    for k in (1, 5, 50):
        values = module.log_prob_bound(many, k, generator=torch.Generator().manual_seed(k))
        means.append(values.mean().item())
        errors.append((values.std() / math.sqrt(len(values))).item())
    assert means[0] + 5 * (errors[0] + errors[1]) < means[1]
    assert means[1] + 5 * (errors[1] + errors[2]) < means[2]
    assert means[2] < exact + 5 * errors[2]
    assert means[2] > exact - 0.1
    best = module.log_prob_bound(x, 200_000, generator=torch.Generator().manual_seed(0)).item()
    assert best == pytest.approx(exact, abs=0.02)


def test_probabilities_of_all_images_sum_to_one_over_the_latent_line() -> None:
    """Eq. 1.29 of every image, and eq. 1.15 for their sum."""
    module, _, _ = one_dimensional()
    every = torch.cartesian_prod(*4 * [torch.tensor([0.0, 1.0]).double()]).view(16, 1, 2, 2)
    bounds = module.log_prob_bound(every, 20_000, generator=torch.Generator().manual_seed(0))
    assert bounds.exp().sum().item() == pytest.approx(1, abs=0.03)


def test_traversals_move_one_coordinate() -> None:
    torch.manual_seed(0)
    module = VAE(shape=[1, 4, 4], latent_dim=3, hidden=8)
    z = torch.tensor([[0.1, 0.2, 0.3]])
    rows = module.traverse(z, 1, torch.tensor([-1.0, 0.2, 1.0]))
    assert rows.shape == (1, 3, 1, 4, 4)
    torch.testing.assert_close(rows[:, 1], module.decode(z))
    assert not torch.equal(rows[:, 0], rows[:, 2])
    with pytest.raises(ValueError, match="dimension=3"):
        module.traverse(z, 3, torch.zeros(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VAE(test_particles=0), "test_particles=0"),
        (lambda: VAE().log_prob_bound(torch.zeros(1, 1, 28, 28), 0), "num_samples=0"),
        (lambda: VAE().elbo(torch.full((1, 1, 28, 28), 0.3)), r"VAE.*0\.3.*binarize"),
        (
            lambda: VAE(likelihood="discretized_logistic_mixture").elbo(torch.full((1, 1, 28, 28), 0.001)),
            r"256.*0\.001",
        ),
        (lambda: VAE(architecture="transformer"), "transformer"),
        (lambda: VAE(latent_dim=0), "latent_dim=0"),
        (lambda: VAE(num_tested=0), "num_tested=0"),
        (lambda: VAE().sample(2, temperature=0.0), r"temperature=0\.0"),
        (lambda: VAE(num_classes=3).reconstruct(torch.zeros(1, 1, 28, 28)), "labels"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
