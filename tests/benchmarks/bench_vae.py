"""Training a VAE through Trainer.fit against a bare PyTorch loop of the same networks, data and optimizer."""

import copy

import torch
from common import beside_the_trainer, row
from torch.nn import functional as F

from datamodules import FashionMNIST
from lightning_modules import VAE


class BareLoop:
    """What one would write by hand: two networks, a draw, a cross-entropy and a divergence."""

    def __init__(self, module: VAE, datamodule: FashionMNIST) -> None:
        self.encoder, self.decoder = copy.deepcopy(module.encoder), copy.deepcopy(module.decoder)
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
        self.batches = iter(datamodule.train_dataloader())

    def step(self) -> None:
        x = next(self.batches)[0]
        mean, log_scale = self.encoder(x).chunk(2, 1)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        reconstruction = F.binary_cross_entropy_with_logits(self.decoder(z).flatten(1), x.flatten(1), reduction="sum")
        divergence = 0.5 * (mean.square() + (2 * log_scale).exp() - 2 * log_scale - 1).sum()
        self.optimizer.zero_grad()
        ((reconstruction + divergence) / len(x)).backward()
        self.optimizer.step()


def main() -> None:
    torch.manual_seed(0)
    module = VAE()
    datamodule = FashionMNIST(batch_size=128, binarize=True)
    datamodule.setup("fit")
    lightning, bare = beside_the_trainer(module, datamodule, BareLoop(module, datamodule).step)
    row(
        "Trainer.fit / bare PyTorch loop, VAE with two layers of 300, batch 128",
        "<= 1.05",
        f"{lightning / bare:.3f} ({1000 * lightning:.1f} ms / {1000 * bare:.1f} ms)",
        lightning / bare <= 1.05,
    )


if __name__ == "__main__":
    main()
