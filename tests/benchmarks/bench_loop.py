"""Trainer.fit against a bare PyTorch loop of the same networks, data and optimizers, step by step in alternation."""

import copy

import torch
from common import beside_the_trainer, row
from torch import Tensor

from datamodules import FashionMNIST
from lightning_modules import NonSaturatingGAN
from lightning_modules.parts.games import NON_SATURATING


class BareLoop:
    """What one would write by hand: fused optimizers, channels_last, no gradients that nobody uses."""

    def __init__(self, module: NonSaturatingGAN, datamodule: FashionMNIST) -> None:
        self.generator = copy.deepcopy(module.generator)
        self.discriminator = copy.deepcopy(module.discriminator)
        self.latent_dim = module.latent_dim
        settings = {"lr": module.hparams["lr"], "betas": tuple(module.hparams["betas"]), "fused": True}
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), **settings)
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), **settings)
        self.batches = iter(datamodule.train_dataloader())

    def draw(self, num: int) -> Tensor:
        return self.generator(torch.randn(num, self.latent_dim))

    def step(self) -> None:
        real = next(self.batches)[0].contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            fake = self.draw(len(real))
        self.optimizer_d.zero_grad()
        NON_SATURATING.discriminator(self.discriminator(real), self.discriminator(fake)).backward()
        self.optimizer_d.step()

        self.discriminator.requires_grad_(False)
        self.optimizer_g.zero_grad()
        NON_SATURATING.generator(self.discriminator(self.draw(len(real)))).backward()
        self.optimizer_g.step()
        self.discriminator.requires_grad_(True)


def main() -> None:
    torch.manual_seed(0)
    module = NonSaturatingGAN(shape=[1, 28, 28], architecture="dcgan", width=32)
    datamodule = FashionMNIST(batch_size=64)
    datamodule.setup("fit")
    lightning, bare = beside_the_trainer(module, datamodule, BareLoop(module, datamodule).step)
    row(
        "Trainer.fit / bare PyTorch loop, DCGAN 28x28, batch 64",
        "<= 1.03",
        f"{lightning / bare:.3f} ({1000 * lightning:.1f} ms / {1000 * bare:.1f} ms)",
        lightning / bare <= 1.03,
    )


if __name__ == "__main__":
    main()
