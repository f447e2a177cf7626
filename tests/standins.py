"""A feature extractor, a model, a datamodule and a logger that are small enough to reason about."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from PIL.Image import Image
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules.spec import DataSpec

SHAPE = (1, 6, 6)
SPEC = DataSpec(name="stand_in", kind="image", shape=SHAPE, value_range=(-1.0, 1.0))
ANGLES = torch.arange(8) * math.tau / 8
RING = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1)
RING_SPEC = DataSpec(name="ring8", kind="points", shape=(2,), modes=tuple(map(tuple, RING.tolist())), mode_scale=0.02)


class StandInExtractor(nn.Module):
    """A fixed random layer; it counts the images that it has seen."""

    extractor_name = "stand_in_extractor"
    num_features = 8
    features: Tensor
    classes: Tensor

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("features", torch.randn(36, 8, generator=generator) / 6)
        self.register_buffer("classes", torch.randn(8, 5, generator=generator))
        self.dropout = nn.Dropout(0.5)  # shows an extractor that was left in training mode
        self.statistics_dir: str | None = None
        self.seen: list[int] = []
        self.received: list[Tensor] = []

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.dtype == torch.uint8
        self.seen.append(len(images))
        self.received.append(images)
        hidden = (images.flatten(1).float() / 127.5 - 1) @ self.features
        return self.dropout(torch.tanh(hidden)), hidden @ self.classes


class StandInModel(LightningModule):
    """One trainable layer from noise to images; batch norm shows a sampler that was left in training mode.

    It is a user's own module: nothing of ``GenerativeModule`` but what the callbacks ask for.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.generator = nn.Sequential(nn.Linear(4, 36), nn.BatchNorm1d(36))
        weights = torch.Generator().manual_seed(2)
        for parameter in self.generator.parameters():
            parameter.data = torch.randn(parameter.shape, generator=weights) / 2
        self.data_spec = SPEC
        self.calls: list[int] = []

    def averaged_networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator}

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        self.calls.append(num_samples)
        latent = torch.randn(num_samples, 4, generator=generator)
        return torch.tanh(self.scale * self.generator(latent.to(self.device))).view(-1, *SHAPE)

    def sample_latent(self, num_samples: int, *, generator: Generator | None = None) -> Tensor:
        return torch.randn(num_samples, 4, generator=generator)

    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor:
        return torch.tanh(self.generator(z.to(self.device))).view(-1, *SHAPE)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return (self.generator(torch.randn(len(batch[0]), 4)) - batch[0].flatten(1)).square().mean()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        pass

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class StandInData(LightningDataModule):
    """Smooth random images."""

    def __init__(self, batch_size: int = 20, size: int = 600) -> None:
        super().__init__()
        self.spec = SPEC
        self.batch_size = batch_size
        self.size = size
        self.reads = 0

    def images(self, split: str) -> tuple[Tensor, Tensor]:
        self.reads += 1
        generator = torch.Generator().manual_seed(["train", "val", "test"].index(split))
        coarse = torch.randn(self.size, 1, 3, 3, generator=generator)
        smooth = nn.functional.interpolate(coarse, size=6, mode="bilinear")
        return (127.5 + 60 * smooth).clamp(0, 255).to(torch.uint8), torch.zeros(self.size, dtype=torch.int64)

    def _loader(self, split: str) -> DataLoader:
        images, labels = self.images(split)
        return DataLoader(TensorDataset(images[:40].float() / 127.5 - 1, labels[:40]), self.batch_size)

    def train_dataloader(self) -> DataLoader:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._loader("test")


class RingModel(StandInModel):
    """Samples the ring itself, as many of its modes as it is told to."""

    def __init__(self, modes: int = 8) -> None:
        super().__init__()
        self.modes = modes
        self.data_spec = RING_SPEC

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        self.calls.append(num_samples)
        chosen = torch.randint(self.modes, (num_samples,), generator=generator)
        return RING[chosen] + 0.02 * torch.randn(num_samples, 2, generator=generator)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.generator(torch.randn(20, 4)).square().mean()


class RingData(StandInData):
    """The modes of the ring, five times each."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = RING_SPEC

    def points(self, split: str) -> tuple[Tensor, Tensor]:
        return RING.repeat(5, 1), torch.zeros(40, dtype=torch.int64)

    def _loader(self, split: str) -> DataLoader:
        return DataLoader(TensorDataset(*self.points(split)), 20)


class Recorder(CSVLogger):
    """A logger that takes images: it remembers key, step and size of each."""

    def __init__(self) -> None:
        super().__init__("logs", name="", version="run")
        self.images: list[tuple[str, int | None, tuple[int, int]]] = []

    def log_image(self, key: str, images: list[Image], step: int | None = None, **_: Any) -> None:
        (image,) = images
        self.images.append((key, step, image.size))


class StopAfter(Callback):
    """Ends a run as a limit of time or an early stop does; ``None`` lets it run."""

    def __init__(self, batches: int | None) -> None:
        self.batches = batches

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        trainer.should_stop = self.batches is not None and trainer.global_step >= self.batches


def quiet_trainer(callbacks: Sequence[Callback] = (), **settings: Any) -> Trainer:
    """A trainer on the CPU, of one epoch, that writes nothing and prints nothing."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(
        **{**quiet, "accelerator": "cpu", "max_epochs": 1, "log_every_n_steps": 1, **settings}, callbacks=[*callbacks]
    )


def load_extractor(name: str) -> StandInExtractor:
    """A function in the place of ``zoo.load``."""
    return StandInExtractor()
