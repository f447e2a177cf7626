"""Joint games whose distributions have a closed form, and one way to train them."""

from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules.adversarial.joint_game import JointModule
from lightning_modules.parts.noise import Draws

SMALL: dict[str, Any] = {"shape": [2], "architecture": "mlp", "latent_dim": 3, "width": 2}
"""Hyperparameters of the smallest networks for points of the plane."""


class AffineGaussian(nn.Module):
    """Mean slope * x + offset and a constant log-scale, of numbers (N, 1)."""

    def __init__(self, slope: float, log_scale: float) -> None:
        super().__init__()
        self.slope, self.offset = nn.Parameter(torch.tensor([slope])), nn.Parameter(torch.zeros(1))
        self.log_scale = nn.Parameter(torch.tensor([log_scale]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.slope * x + self.offset, self.log_scale.expand_as(x)], 1)

    def moments(self) -> tuple[float, float, float]:
        """Returns slope, offset and variance."""
        return self.slope.item(), self.offset.item(), self.log_scale.exp().square().item()


class Quadratic(nn.Module):
    """Logits quadratic in (x, z), (N, 1) each: all log-ratios of two Gaussian joint distributions."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 1)
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.linear(torch.cat([x, z, x * x, z * z, x * z], 1))


class Bilinear(nn.Module):
    """Logits of pairs of two states each: any function of the four pairs of x and z in {-1, 1}."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.linear(torch.cat([x, z, x * z], 1))


class TwoStates:
    """1 with probability sigmoid(logit), else -1; gradients are those of tanh((logit + logistic noise) / 2)."""

    def draw(self, parameters: Tensor, noise: Draws) -> Tensor:
        uniform = noise.uniform(*parameters.shape, device=parameters.device).clamp(1e-6, 1 - 1e-6)
        relaxed = torch.tanh((parameters + torch.logit(uniform)) / 2)
        return relaxed + (relaxed.sign() - relaxed).detach()

    def mean(self, parameters: Tensor) -> Tensor:
        return torch.tanh(parameters / 2)


def adam(lr: float) -> partial[torch.optim.Optimizer]:
    return partial(torch.optim.Adam, lr=lr, betas=(0.5, 0.99))


def fit(module: LightningModule, batches: Tensor, *, seed: int = 5, **settings: Any) -> Trainer:
    """Trains on batches (B, N, *shape), one after the other, from a fixed seed."""
    seed_everything(seed, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=len(batches),
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"logger": False, "enable_checkpointing": False, "limit_val_batches": 0, **settings},
    )
    loader: DataLoader = DataLoader(TensorDataset(batches), batch_size=None)
    trainer.fit(module, loader, loader)
    assert trainer.global_step == len(batches)
    return trainer


def built(steps: int = 0, lr: float = 0.1, **settings: Any) -> JointModule:
    """Returns a game of numbers (N, 1) between Gaussians, always with the same weights, stepped by SGD."""
    torch.manual_seed(0)
    discriminator = Quadratic()
    nn.init.normal_(discriminator.linear.weight)
    sgd = partial(torch.optim.SGD, lr=lr)
    parts: dict[str, Any] = {"player_optimizer": sgd, "discriminator_optimizer": sgd, "steps": steps, **settings}
    generator, encoder = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)), AffineGaussian(0.4, -0.7)
    return JointModule(generator, encoder, discriminator, latent_dim=1, **parts)
