"""The adversarial loop around two linear networks on ten batches of fixed images."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from datamodules.datamodule import ZooDataModule
from datamodules.loader import TensorSource
from datamodules.spec import DataSpec
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.games import NON_SATURATING, Game

BATCH = 4
SIDE = 8
EXAMPLES = torch.rand(10 * BATCH, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


class Images(ZooDataModule):
    """Ten batches of fixed images an epoch."""

    def __init__(self, batch_size: int = BATCH) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, 3
        self.spec = DataSpec("tiny", "image", (1, SIDE, SIDE), (-1.0, 1.0))

    def setup(self, stage: str | None = None) -> None:
        source = TensorSource(EXAMPLES, torch.zeros(len(EXAMPLES), dtype=torch.int64))
        self.sources = {"train": source, "val": source, "test": source}


class Generator(nn.Module):
    """A linear map of two numbers to an image."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, SIDE * SIDE)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.linear(z).tanh().view(-1, 1, SIDE, SIDE)


class Discriminator(nn.Module):
    """A linear map of an image to a logit, which remembers its inputs in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.linear = nn.Linear(SIDE * SIDE, 8), nn.Linear(8, 1)
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        if self.training:
            self.inputs.append(x.detach().clone())
        return self.linear(self.hidden(x.flatten(1)).tanh()).squeeze(1)


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, 1e-2, betas=(0.5, 0.9))


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, 0.1)


def build(game: Game = NON_SATURATING, optimizer: Callable[..., Any] = adam, **slots: Any) -> AdversarialModule:
    """Builds the loop around two small networks, always with the same weights."""
    torch.manual_seed(0)
    return AdversarialModule(
        Generator(),
        Discriminator(),
        game,
        latent_dim=2,
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        **slots,
    )


def fit(
    module: AdversarialModule, batches: int, *callbacks: Callback, ckpt_path: str | None = None, batch_size: int = BATCH
) -> AdversarialModule:
    """Trains from a fixed seed; with ``ckpt_path`` from where that checkpoint was written."""
    seed_everything(5, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=batches,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, Images(batch_size), ckpt_path=ckpt_path)
    assert trainer.global_step == batches
    return module


class Watch(Callback):
    """Collects a number at the end of every batch."""

    def __init__(self, read: Callable[[Trainer, Any], Any]) -> None:
        self.read, self.seen = read, []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.seen.append(self.read(trainer, pl_module))


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])
