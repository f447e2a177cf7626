"""The importance weighted bound: one draw is the ELBO, more draws are tighter, and the gradient is its own."""

import pytest
import torch
from torch import Tensor

from lightning_modules import IWAE, VAE
from lightning_modules.latent.latent_variable import log_mean_exp

SETTINGS = {"shape": [1, 4, 4], "latent_dim": 2, "hidden": 8}


class Fixed:
    """Gives the same noise each time it is asked."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)


def pictures(num: int = 64) -> Tensor:
    return (torch.rand(num, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5).double()


def build(method: type, **settings: int) -> IWAE | VAE:
    torch.manual_seed(0)
    return method(**SETTINGS, **settings).double()


def test_one_draw_is_the_elbo_with_an_estimated_divergence() -> None:
    """Averaged over many noises both losses agree, within 5 standard errors."""
    one, vae, x = build(IWAE, num_particles=1), build(VAE), pictures()
    differences = []
    for seed in range(200):
        one.noise = vae.noise = Fixed(seed)  # type: ignore[assignment]
        elbo = sum(vae.losses(x, None, 1.0).values())
        differences.append(one.losses(x, None)["negative_bound"] - elbo)
    difference = torch.stack(differences).detach()
    assert difference.mean().abs() < 5 * difference.std() / 200**0.5
    assert difference.std() > 0


def test_more_draws_are_a_tighter_bound() -> None:
    x = pictures(2000)
    losses = []
    for particles in (1, 5, 50):
        module = build(IWAE, num_particles=particles)
        module.noise = Fixed(1)  # type: ignore[assignment]
        losses.append(module.losses(x, None)["negative_bound"].item())
    assert losses[0] > losses[1] > losses[2]


def test_the_gradient_weighs_draws_by_their_normalised_weights() -> None:
    """grad L_k = sum_i w_i grad log w_i with w_i summing to 1 (Burda et al., eq. 14)."""
    module, x = build(IWAE, num_particles=4), pictures(3)
    module.noise = Fixed(0)  # type: ignore[assignment]
    module.losses(x, None)["negative_bound"].backward()
    ours = [parameter.grad.clone() for parameter in module.parameters()]  # type: ignore[union-attr]
    module.zero_grad()
    noise = Fixed(0).normal(3, 4, 2, device=x.device)
    log_weights = module.log_weights(x, None, module.posterior(x), noise)
    weights = log_weights.detach().softmax(1)
    (-(weights * log_weights).sum(1).mean()).backward()
    for a, parameter in zip(ours, module.parameters(), strict=True):
        torch.testing.assert_close(a, parameter.grad)


def test_the_mean_of_weights_is_taken_in_the_logarithm() -> None:
    far = torch.tensor([[-2000.0, -2001.0], [1000.0, 1000.0]])
    expected = torch.tensor([-2000 + torch.log((1 + torch.exp(torch.tensor(-1.0))) / 2), 1000.0])
    torch.testing.assert_close(log_mean_exp(far), expected)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_bound_does_not_depend_on_the_other_pictures(batch_size: int) -> None:
    module, x, indices = build(IWAE), pictures(7), torch.arange(7)
    module.particles["test"] = 20
    whole = module.negative_log_likelihood(x, indices, indices, "test")["upper_bound_k20"]
    parts = [
        module.negative_log_likelihood(part, index, index, "test")["upper_bound_k20"]
        for part, index in zip(x.split(batch_size), indices.split(batch_size), strict=True)
    ]
    torch.testing.assert_close(torch.cat(parts), whole)
