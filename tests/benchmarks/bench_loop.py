"""Trainer.fit against a bare PyTorch loop of the same networks, data and optimizers, step by step in alternation."""

import copy
import logging
import statistics
import tempfile
import time
import warnings

import torch
from common import row
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from datamodules import FashionMNIST
from lightning_modules import NonSaturatingGAN
from lightning_modules.parts.games import NON_SATURATING

WARM_UP, STEPS = 20, 200


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


class Alternate(Callback):
    """Runs a bare step after each of the trainer's, and times both; all of Lightning lies in between."""

    def __init__(self, bare: BareLoop) -> None:
        self.bare = bare
        self.seconds: dict[str, list[float]] = {"lightning": [], "bare": []}
        self.resumed = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        start = time.perf_counter()
        self.bare.step()
        end = time.perf_counter()
        if trainer.global_step > WARM_UP:
            self.seconds["lightning"].append(start - self.resumed)
            self.seconds["bare"].append(end - start)
        self.resumed = time.perf_counter()


def main() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    module = NonSaturatingGAN(shape=[1, 28, 28], architecture="dcgan", width=32)
    datamodule = FashionMNIST(batch_size=64)
    datamodule.prepare_data()
    datamodule.setup("fit")
    alternate = Alternate(BareLoop(module, datamodule))
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            max_steps=WARM_UP + STEPS,
            accelerator="cpu",
            callbacks=[alternate],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            limit_val_batches=0,
        ).fit(module, datamodule=datamodule)
    seconds = {name: statistics.median(values) for name, values in alternate.seconds.items()}
    ratio = seconds["lightning"] / seconds["bare"]
    row(
        "Trainer.fit / bare PyTorch loop, DCGAN 28x28, batch 64",
        "<= 1.03",
        f"{ratio:.3f} ({1000 * seconds['lightning']:.1f} ms / {1000 * seconds['bare']:.1f} ms)",
        ratio <= 1.03,
    )


if __name__ == "__main__":
    main()
