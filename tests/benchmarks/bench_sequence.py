"""Training a character model through Trainer.fit against a bare PyTorch loop; sampling against re-reading the prefix.

Reading the prefix anew costs in proportion to it: of the 1000 passes a few are timed, evenly spread over the lengths.
"""

import copy

import torch
from common import beside_the_trainer, interleaved, row
from torch import Tensor
from torch.nn import functional as F

from datamodules import TinyShakespeare
from lightning_modules import TeacherForcing
from lightning_modules.parts.sampling import evaluating

NUM, LENGTH, TIMED = 64, 1000, 4
GOAL = 20


class BareLoop:
    """What one would write by hand: an embedding, an LSTM, a linear layer and a cross-entropy."""

    def __init__(self, module: TeacherForcing, datamodule: TinyShakespeare) -> None:
        network = copy.deepcopy(module.network)
        self.embedding, self.lstm, self.head = network.emission.symbols, network.core.layers, network.emission.head
        parameters = [*self.embedding.parameters(), *self.lstm.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.99), fused=True)
        self.batches = iter(datamodule.train_dataloader())
        self.state: tuple[Tensor, Tensor] | None = None
        self.before = torch.full((datamodule.batch_size, 1), 65)

    def step(self) -> None:
        x = next(self.batches)[0]
        inputs = torch.cat([self.before, x[:, :-1]], 1)
        features, (h, c) = self.lstm(self.embedding(inputs), self.state)
        self.before, self.state = x[:, -1:], (h.detach(), c.detach())
        loss = F.cross_entropy(self.head(features).flatten(0, 1), x.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def training() -> None:
    module = TeacherForcing(width=256)
    datamodule = TinyShakespeare(window=64, batch_size=64, training="streams")
    datamodule.setup("fit")
    lightning, bare = beside_the_trainer(module, datamodule, BareLoop(module, datamodule).step)
    tokens = 64 * 64
    row(
        "Trainer.fit / bare PyTorch loop, LSTM of 256 over characters, 64 streams of 64",
        "<= 1.05",
        f"{lightning / bare:.3f} ({tokens / lightning:,.0f} / {tokens / bare:,.0f} characters a second)",
        lightning / bare <= 1.05,
    )


def sampling() -> None:
    module = TeacherForcing(width=256)
    lengths = [LENGTH * (2 * k + 1) // (2 * TIMED) for k in range(TIMED)]

    def anew() -> None:
        with evaluating(module):
            for length in lengths:
                features, _ = module.network(torch.zeros(NUM, length, dtype=torch.long))
                module.network.emission.sample(features[:, -1:], torch.rand)

    seconds = interleaved(
        {
            "step by step": lambda: module.sample(NUM, length=LENGTH, generator=torch.Generator().manual_seed(0)),
            "anew": anew,
        },
        rounds=3,
    )
    whole = seconds["anew"] * LENGTH / TIMED
    row(
        f"{NUM} texts of {LENGTH} characters: the prefix read anew for every one / a step a step",
        f">= {GOAL}",
        f"{whole / seconds['step by step']:.0f} ({whole:.0f} s / {seconds['step by step']:.2f} s)",
        whole / seconds["step by step"] >= GOAL,
    )


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    training()
    sampling()


if __name__ == "__main__":
    main()
