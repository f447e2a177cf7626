"""Run by ``test_distributed.py``: everything that two processes have to show, in one start of two processes.

Each process writes what it has at the end of each part to ``<folder>/<rank>.pt``.
"""

import random
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from datamodules.spec import Batch
from lightning_modules import METHODS
from lightning_modules.callbacks import EMA
from lightning_modules.parts.batch_statistics import statistics_over_processes
from lightning_modules.parts.processes import rank
from lightning_modules.runtime.distributed import all_reduce_gradients, broadcast_buffers
from lightning_modules.runtime.optimization import NonFiniteLoss
from lightning_modules.runtime.tracking import Tracking
from tests.training import DOUBLE, train

STEPS = 6  # one more than an epoch: validation lies in between


def average_of(trainer: Trainer) -> EMA | None:
    return next((callback for callback in trainer.callbacks if isinstance(callback, EMA)), None)  # type: ignore[attr-defined]


class Watch(Callback):
    """Notes the buffers that validation works with."""

    def __init__(self) -> None:
        self.buffers: dict[str, Any] = {}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        ema = average_of(trainer)
        averages = {} if ema is None else ema.averaged_state_dict(pl_module)
        own = {name: buffer.clone() for name, buffer in pl_module.named_buffers()}
        self.buffers = {**own, **{f"ema.{name}": averages[name] for name in own if name in averages}}


class Poison(Callback):
    """Puts a NaN into the data of the second process alone, at one batch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, index: int) -> None:
        if trainer.global_step == self.step and trainer.global_rank == 1:
            batch.x[0] = float("nan")


def trained(method: str, **settings: Any) -> dict[str, Any]:
    watch = Watch()
    trainer, module, record = train(method, STEPS, devices=2, callbacks=[watch], **settings)
    ema = average_of(trainer)
    return {
        "weights": {name: tensor.clone() for name, tensor in module.state_dict().items()},
        "averages": {} if ema is None else ema.averaged_state_dict(module),
        "validation": watch.buffers,
        "batches": record.batches,
        "global_step": trainer.global_step,
        "strategy": type(trainer.strategy).__name__,
        "random_numbers": [torch.rand(()).item(), float(np.random.rand()), random.random()],
    }


def reductions() -> dict[str, Any]:
    """Gradients of which some are missing here, there and everywhere, in two dtypes and two layouts."""
    everywhere = nn.Parameter(torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last))
    here, nowhere = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))
    double = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    everywhere.grad = torch.arange(120.0).view(2, 3, 4, 5) * (rank() + 1)
    double.grad = torch.full((4,), 1e-12 if rank() else 1.0, dtype=torch.float64)
    if rank() == 1:
        here.grad = torch.ones(3)
    losses, scalar = all_reduce_gradients(
        [everywhere, here, nowhere, double],
        torch.tensor([1.0, float("inf") if rank() else 2.0], requires_grad=True),
        torch.tensor(rank(), dtype=torch.float64),
    )
    buffers = nn.BatchNorm1d(3)
    buffers.register_buffer("flags", torch.tensor([True, False]) if rank() == 0 else torch.tensor([False, True]))
    buffers.get_buffer("running_mean").fill_(rank() + 1)
    buffers.get_buffer("num_batches_tracked").fill_(10 + rank())
    broadcast_buffers(buffers)
    return {
        "everywhere": everywhere.grad,
        "here": here.grad,
        "nowhere": nowhere.grad,
        "double": double.grad,
        "losses": losses,
        "scalar": scalar,
        "buffers": dict(buffers.named_buffers()),
    }


def batch_statistics() -> dict[str, Any]:
    """Statistics over two batches of different sizes, and the gradient of this process's input."""
    x = torch.arange(24.0, dtype=torch.float64).view(3, 2, 4).square()
    own = (x[:1] if rank() else x[1:]).requires_grad_()
    mean, inverse = statistics_over_processes(own, eps=1.0)
    (mean.sum() + inverse.square().sum()).backward()
    return {"mean": mean.detach(), "inverse": inverse.detach(), "gradient": own.grad}


def poisoned(step: int) -> str:
    try:
        train("WGANGP", STEPS, devices=2, callbacks=[Poison(step)])
    except (NonFiniteLoss, ValueError) as error:
        return str(error)
    return "not stopped"


def main(folder: str) -> None:
    warnings.simplefilter("ignore")
    methods = {name: trained(name, global_noise=True, precision=DOUBLE.get(name, "32-true")) for name in METHODS}
    tracking = Tracking("run", save_dir=folder)
    whole = trained("WGANGP", folder=f"{folder}/whole", overrides={"critic_steps": 2}, logger=tracking)
    resumed = trained(
        "WGANGP",
        folder=f"{folder}/resumed",
        overrides={"critic_steps": 2},
        ckpt_path=f"{folder}/whole/step=3.ckpt",
    )
    convolutional = trained(
        "MinimaxGAN", shape=(1, 28, 28), overrides={"architecture": "dcgan", "width": 4, "batch_norm": True}
    )
    results = {
        "methods": methods,
        "whole": whole,
        "resumed": resumed,
        "convolutional": convolutional,
        "reductions": reductions(),
        "batch_statistics": batch_statistics(),
        "poisoned": [poisoned(0), poisoned(2)],
    }
    torch.save(results, f"{folder}/{rank()}.pt")


if __name__ == "__main__":
    main(sys.argv[1])
