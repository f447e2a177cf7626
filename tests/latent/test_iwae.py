"""The importance weighted bound: one sample gives the ELBO, more are tighter, and the gradient is its own."""

import pytest
import torch
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules import IWAE, VAE

SETTINGS = {"shape": [1, 4, 4], "latent_dim": 2, "hidden": 8}


class Fixed:
    """Gives the same noise each time it is asked."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)


def images(num: int = 64) -> Tensor:
    return (torch.rand(num, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5).double()


def build(method: type, **settings: int) -> IWAE | VAE:
    torch.manual_seed(0)
    return method(**SETTINGS, **settings).double()


def test_one_sample_gives_the_elbo_with_an_estimated_divergence() -> None:
    """Averaged over many noises both losses agree, within 5 standard errors."""
    one, vae, x = build(IWAE, num_particles=1), build(VAE), images()
    differences = []
    for seed in range(200):
        one.noise = vae.noise = Fixed(seed)  # type: ignore[assignment]
        elbo = sum(vae.objective_of(vae, x, None).values())
        differences.append(one.objective_of(one, x, None)["negative_bound"] - elbo)
    difference = torch.stack(differences).detach()
    assert difference.mean().abs() < 5 * difference.std() / 200**0.5
    assert difference.std() > 0


def test_more_samples_are_a_tighter_bound() -> None:
    x = images(2000)
    losses = []
    for particles in (1, 5, 50):
        module = build(IWAE, num_particles=particles)
        module.noise = Fixed(1)  # type: ignore[assignment]
        losses.append(module.objective_of(module, x, None)["negative_bound"].item())
    assert losses[0] > losses[1] > losses[2]


def test_the_gradient_weighs_samples_by_their_normalised_weights() -> None:
    """grad L_k = sum_i w_i grad log w_i with w_i summing to 1 (Burda et al., eq. 14)."""
    module, x = build(IWAE, num_particles=4), images(3)
    module.noise = Fixed(0)  # type: ignore[assignment]
    module.objective_of(module, x, None)["negative_bound"].backward()
    ours = [parameter.grad.clone() for parameter in module.parameters()]  # type: ignore[union-attr]
    module.zero_grad()
    noise = Fixed(0).normal(3, 4, 2, device=x.device)
    log_weights = module.log_weights(x, None, module.posterior(x), noise)
    weights = log_weights.detach().softmax(1)
    (-(weights * log_weights).sum(1).mean()).backward()
    for a, parameter in zip(ours, module.parameters(), strict=True):
        torch.testing.assert_close(a, parameter.grad)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_bound_does_not_depend_on_the_other_images(batch_size: int) -> None:
    module, x, indices = build(IWAE), images(7), torch.arange(7)
    module.particles["test"] = 20
    whole = module.negative_log_likelihood(Batch(x), indices, "test")["upper_bound_k20"]
    parts = [
        module.negative_log_likelihood(Batch(part), index, "test")["upper_bound_k20"]
        for part, index in zip(x.split(batch_size), indices.split(batch_size), strict=True)
    ]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_a_number_of_samples_that_cannot_work_is_named() -> None:
    with pytest.raises(ValueError, match="num_particles=0"):
        IWAE(num_particles=0)
