"""Short runs that the tests of resuming and of several processes compare with one another, bit for bit."""

import os
import signal
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor

from datamodules.datamodule import ZooDataModule
from datamodules.loader import TensorSource
from datamodules.spec import Batch, DataSpec
from lightning_modules import METHODS
from lightning_modules.base import ZooModule
from lightning_modules.callbacks import EMA
from lightning_modules.parts.capabilities import SupportsAveraging
from lightning_modules.parts.processes import rank, world_size
from lightning_modules.runtime.checkpoint_io import AtomicCheckpointIO
from tests.captioned import CAPTIONED, CaptionedExamples, with_words

GLOBAL_BATCH = 8
EXAMPLES = 5 * GLOBAL_BATCH + 3  # an epoch has five batches


class TinyData(ZooDataModule):
    """Fixed examples of a given shape: points, images of 256 grey values or of bits, in two classes; or sequences.

    Points and images may have captions.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        batch_size: int = GLOBAL_BATCH,
        binary: bool = False,
        sequences: str | None = None,
        captioned: bool = False,
    ) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, 3
        kind = "points" if len(shape) == 1 else "image"
        value_range = None if kind == "points" else (0.0, 1.0) if binary else (-1.0, 1.0)
        self.spec = DataSpec("tiny", kind, shape, value_range, num_classes=2)
        if sequences == "tokens":
            self.spec = DataSpec("tiny", "tokens", shape, vocabulary=("a", "b", "c"))
        elif sequences == "strokes":
            self.spec = DataSpec("tiny", "strokes", shape, preprocessing="dequantized", scale=2.0, num_classes=2)
        elif captioned:
            self.spec = with_words(self.spec)

    def setup(self, stage: str | None = None) -> None:
        examples = torch.rand(EXAMPLES, *self.spec.shape, generator=torch.Generator().manual_seed(1))
        if self.spec.value_range == (0.0, 1.0):
            examples = examples.round()
        elif self.spec.kind == "image":
            examples = (examples * 255).round() / 127.5 - 1
        else:
            examples = examples * 2 - 1
        labels, length = torch.arange(EXAMPLES) % 2, self.spec.shape[0]
        if self.spec.kind == "tokens":
            tokens, lengths = (examples * 1.5 + 1.5).long(), torch.full((EXAMPLES,), length)
            source = TensorSource(tokens, lengths, "lengths")
        elif self.spec.kind == "strokes":
            examples[..., 2] = (examples[..., 2] > 0).float()
            source = TensorSource(examples, labels + length - 1, "lengths")  # every other drawing has a padded step
        else:
            source = (CaptionedExamples if self.spec.is_captioned else TensorSource)(examples, labels)
        self.sources = {"train": source, "val": source, "test": source}


class Record(Callback):
    """Remembers the batches of this process, and kills it after one of them if asked to."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.batches: list[Tensor] = []
        self.kill_at = kill_at

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, index: int) -> None:
        self.batches.append(batch.x.clone())
        if trainer.global_step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


class KilledWriter(AtomicCheckpointIO):
    """Writes checkpoints until one of them, in the middle of which the process is killed."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at = kill_at

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if checkpoint["global_step"] != self.kill_at:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        checkpoint["killer"] = Killer()
        super().save_checkpoint(checkpoint, path, storage_options)


class Killer:
    """Kills the process that pickles it."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class GlobalNoise:
    """A training RNG that is a function of (call, global index): the same for one process and for many.

    The k-th call of a run makes the numbers of the whole global batch, of which each process takes its part.
    """

    def __init__(self) -> None:
        self.calls = 0

    def _part(self, draw: Any, num: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.calls)
        self.calls += 1
        return draw(num * world_size(), generator)[rank() * num : (rank() + 1) * num]

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        return self._part(lambda n, g: torch.randn(n, *shape[1:], generator=g), shape[0]).to(device)

    def uniform(self, *shape: int, device: torch.device) -> Tensor:
        return self._part(lambda n, g: torch.rand(n, *shape[1:], generator=g), shape[0]).to(device)

    def integers(self, high: int, num: int, device: torch.device) -> Tensor:
        return self._part(lambda n, g: torch.randint(high, (n,), generator=g), num).to(device)

    def categorical(self, probabilities: Tensor, num: int) -> Tensor:
        return self._part(lambda n, g: torch.multinomial(probabilities, n, True, generator=g), num)


DOUBLE = {"GibbsNet": "64-true"}
"""Precision in which a method is compared with itself on two processes, where float32 does not suffice.

A chain passes rounding on: where a rectified unit is on in one run and off in the other, gradients differ by more than
rounding (weights by 2.5e-4 after six batches; in double precision by 9e-16).
"""
SEQUENCES = {"tokens": (6,), "strokes": (6, 3)}
"""Kinds of sequences that the tiny data has, and the shape of one."""


def data_of(method: str) -> dict[str, Any]:
    """Which form of the tiny data a method models."""
    kinds = METHODS[method].kinds
    return {
        "binary": METHODS[method].value_range == (0.0, 1.0),
        "sequences": next((kind for kind in SEQUENCES if kind in kinds), None),
        "captioned": method in CAPTIONED,
    }


def build(method: str, shape: tuple[int, ...] | None = None, **overrides: Any) -> tuple[ZooModule, tuple[int, ...]]:
    """Builds a method for a shape; without one for points, or for images if it is for images only."""
    if shape is None and (sequences := data_of(method)["sequences"]):
        shape = SEQUENCES[sequences]
    if shape is not None:
        return METHODS[method].for_data(TinyData(shape, **data_of(method)).spec, **overrides), shape
    try:
        return build(method, (2,), **overrides)
    except ValueError:
        return build(method, (1, 8, 8), **overrides)


def train(
    method: str,
    steps: int,
    folder: str | None = None,
    ckpt_path: str | None = None,
    every: int = 1,
    shape: tuple[int, ...] | None = None,
    overrides: dict[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    logger: Logger | bool = False,
    kill_at: int | None = None,
    kill_write_at: int | None = None,
    devices: int = 1,
    global_noise: bool = False,
    precision: Any = "32-true",
) -> tuple[Trainer, ZooModule, Record]:
    """Runs ``method`` for ``steps`` batches with EMA and a checkpoint every ``every`` batches under ``folder``."""
    seed_everything(7, verbose=False)
    module, shape = build(method, shape, **(overrides or {}))
    if global_noise:
        module.noise = GlobalNoise()  # type: ignore[assignment]
    record = Record(kill_at)
    callbacks = [record, *callbacks]
    if isinstance(module, SupportsAveraging):
        callbacks.append(EMA(half_life_images=40))
    if folder is not None:
        callbacks.append(
            ModelCheckpoint(
                dirpath=folder, filename="{step}", every_n_train_steps=every, save_top_k=-1, save_last="link"
            )
        )
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=devices,
        precision=precision,
        strategy="ddp" if devices > 1 else "auto",
        callbacks=callbacks,
        plugins=[] if kill_write_at is None else [KilledWriter(kill_write_at)],
        logger=logger,
        log_every_n_steps=2,
        enable_checkpointing=folder is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, TinyData(shape, GLOBAL_BATCH // devices, **data_of(method)), ckpt_path=ckpt_path)
    return trainer, module, record
