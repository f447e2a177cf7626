"""Training a VAE through Trainer.fit against a bare PyTorch loop of the same networks, data and optimizer.

A second row has the same few lines as a ``LightningModule`` of their own: what Lightning itself adds to a step of ten
milliseconds. The rest of the difference is the check of every gradient, the callbacks of exact resume, and losses
per example.
"""

import copy

import torch
from common import beside_the_trainer, row
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules import FashionMNIST
from datamodules.spec import Batch
from lightning_modules import VAE

GOAL = 1.05


def negative_elbo(encoder: nn.Module, decoder: nn.Module, x: Tensor) -> Tensor:
    """What one would write by hand: two networks, a sample, a cross-entropy and a divergence."""
    mean, log_scale = encoder(x).chunk(2, 1)
    z = mean + log_scale.exp() * torch.randn_like(mean)
    reconstruction = F.binary_cross_entropy_with_logits(decoder(z).flatten(1), x.flatten(1), reduction="sum")
    divergence = 0.5 * (mean.square() + (2 * log_scale).exp() - 2 * log_scale - 1).sum()
    return (reconstruction + divergence) / len(x)


class BareLoop:
    """Steps without Lightning."""

    def __init__(self, module: VAE, datamodule: FashionMNIST) -> None:
        self.encoder, self.decoder = copy.deepcopy(module.encoder), copy.deepcopy(module.decoder)
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
        self.batches = iter(datamodule.train_dataloader())

    def step(self) -> None:
        loss = negative_elbo(self.encoder, self.decoder, next(self.batches)[0])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class PlainModule(LightningModule):
    """The same lines in a module that has nothing else."""

    def __init__(self, module: VAE) -> None:
        super().__init__()
        self.encoder, self.decoder = copy.deepcopy(module.encoder), copy.deepcopy(module.decoder)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return negative_elbo(self.encoder, self.decoder, batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)


def measured(plain: bool) -> tuple[float, float]:
    """Returns the seconds of a step through ``Trainer.fit`` and of a bare one."""
    torch.manual_seed(0)
    module, datamodule = VAE(), FashionMNIST(batch_size=128, binarize=True)
    datamodule.setup("fit")
    bare = BareLoop(module, datamodule)
    return beside_the_trainer(PlainModule(module) if plain else module, datamodule, bare.step)


def main() -> None:
    for name, plain in {"VAE with two layers of 300": False, "the same lines as a plain LightningModule": True}.items():
        lightning, bare = measured(plain)
        ratio = lightning / bare
        milliseconds = f"{1000 * lightning:.1f} ms / {1000 * bare:.1f} ms"
        row(
            f"Trainer.fit / bare PyTorch loop, {name}, batch 128",
            f"<= {GOAL}",
            f"{ratio:.3f} ({milliseconds})",
            ratio <= GOAL,
        )


if __name__ == "__main__":
    main()
