"""A judge, a model and a datamodule that are small enough to reason about."""

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules.spec import DataSpec

SHAPE = (1, 6, 6)
SPEC = DataSpec(name="stand_in", kind="image", shape=SHAPE, value_range=(-1.0, 1.0))


class StandInExtractor(nn.Module):
    """A fixed random layer; it counts the pictures it has seen."""

    extractor_name = "stand_in_judge"
    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("features", torch.randn(36, 8, generator=generator) / 6)
        self.register_buffer("classes", torch.randn(8, 5, generator=generator))
        self.dropout = nn.Dropout(0.5)  # shows a judge that was left in training mode
        self.seen: list[int] = []
        self.received: list[Tensor] = []

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.dtype == torch.uint8
        self.seen.append(len(images))
        self.received.append(images)
        hidden = (images.flatten(1).float() / 127.5 - 1) @ self.features
        return self.dropout(torch.tanh(hidden)), hidden @ self.classes


class StandInModel(LightningModule):
    """One trainable layer from noise to pictures; batch norm shows a sampler that was left in training mode."""

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

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: torch.Generator | None = None):
        self.calls.append(num_samples)
        latent = torch.randn(num_samples, 4, generator=generator)
        return torch.tanh(self.scale * self.generator(latent.to(self.device))).view(-1, *SHAPE)

    def sample_latent(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
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
    """Smooth random pictures."""

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


def load_extractor(name: str) -> StandInExtractor:
    """A function in the place of ``zoo.load``."""
    return StandInExtractor()
