"""Games on points, small enough for a test, and one way to train them."""

from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules import Ring
from lightning_modules.adversarial.loop import AdversarialModule, Terms

POINTS: dict[str, Any] = {"shape": [2], "architecture": "mlp", "latent_dim": 2, "width": 2}
"""Hyperparameters of the smallest networks for points of the plane."""


def fit(module: AdversarialModule, batches: int, **settings: Any) -> Trainer:
    """Trains on points around a ring, or on ``data``; further settings are the Trainer's, ``ckpt_path`` of ``fit``."""
    ckpt_path = settings.pop("ckpt_path", None)
    data = settings.pop("data", None) or Ring(batch_size=16, train_size=1024, val_size=32, test_size=32)
    defaults: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "limit_val_batches": 0,
    }
    trainer = Trainer(
        accelerator="cpu",
        max_steps=batches,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{**defaults, **settings},
    )
    trainer.fit(module, data, val_dataloaders=data if isinstance(data, DataLoader) else None, ckpt_path=ckpt_path)
    return trainer


def all_terms(module: AdversarialModule, real: Tensor, labels: Tensor | None = None, step: int = 0) -> Terms:
    """Returns what both players minimise, term by term."""
    losses, penalties = module.discriminator_losses(real, labels, step)
    generator_losses, generator_penalties = module.generator_losses(real, labels, step)
    return {**losses, **penalties, **generator_losses, **generator_penalties}
