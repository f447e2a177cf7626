"""RBM of 784 x 500 units: PCD steps through Trainer.fit against a bare loop, AIS against a plain implementation."""

import math

import torch
from common import beside_the_trainer, interleaved, row
from torch import Tensor
from torch.nn import functional as F

from datamodules import FashionMNIST
from lightning_modules import RBM
from lightning_modules.energy.annealing_paths import RBMPath, linear
from lightning_modules.energy.partition import annealed_importance_sampling

CD_STEPS = 5
CHAINS, TEMPERATURES = 100, 50


def free_energy(v: Tensor, weight: Tensor, a: Tensor, c: Tensor) -> Tensor:
    return -(v @ a) - F.softplus(v @ weight + c).sum(1)


class BareLoop:
    """Persistent contrastive divergence as one would write it by hand."""

    def __init__(self, datamodule: FashionMNIST) -> None:
        self.weight = (0.01 * torch.randn(784, 500)).requires_grad_()
        self.a, self.c = (torch.zeros(num, requires_grad=True) for num in (784, 500))
        self.optimizer = torch.optim.SGD([self.weight, self.a, self.c], lr=0.05, fused=True)
        self.batches = iter(datamodule.train_dataloader())
        self.chains: Tensor | None = None

    def step(self) -> None:
        x = next(self.batches)[0].flatten(1)
        chains = x if self.chains is None else self.chains
        with torch.no_grad():
            for _ in range(CD_STEPS):
                hidden = torch.bernoulli(torch.sigmoid(chains @ self.weight + self.c))
                chains = torch.bernoulli(torch.sigmoid(hidden @ self.weight.T + self.a))
        self.chains = chains
        parameters = self.weight, self.a, self.c
        loss = free_energy(x, *parameters).mean() - free_energy(chains, *parameters).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def training() -> None:
    datamodule = FashionMNIST(batch_size=100, binarize=True)
    datamodule.setup("fit")
    module = RBM(cd_steps=CD_STEPS, centered=False, lr=0.05)
    lightning, bare = beside_the_trainer(module, datamodule, BareLoop(datamodule).step)
    measured = f"{lightning / bare:.2f} ({1000 * lightning:.1f} ms / {1000 * bare:.1f} ms)"
    row(f"PCD-{CD_STEPS} by Trainer.fit / bare PyTorch loop, batch 100", "<= 1.05", measured, lightning <= 1.05 * bare)


@torch.no_grad()
def plain_ais(weight: Tensor, a: Tensor, c: Tensor, base: Tensor, generator: torch.Generator) -> float:
    """As the formulas are written down: both log f_k and every conditional from the units."""

    def log_f(v: Tensor, beta: float) -> Tensor:
        return (1 - beta) * (v @ base) + beta * (v @ a) + F.softplus(beta * (v @ weight + c)).sum(1)

    v = torch.bernoulli(base.sigmoid().expand(CHAINS, -1), generator=generator)
    log_weights = torch.zeros(CHAINS)
    betas = linear(TEMPERATURES)
    for before, after in zip(betas, betas[1:], strict=False):
        log_weights += log_f(v, after) - log_f(v, before)
        hidden = torch.bernoulli(torch.sigmoid(after * (v @ weight + c)), generator=generator)
        logits = (1 - after) * base + after * (hidden @ weight.T + a)
        v = torch.bernoulli(torch.sigmoid(logits), generator=generator)
    log_base = F.softplus(base).sum() + weight.shape[1] * math.log(2)
    return (log_weights.logsumexp(0) - math.log(CHAINS) + log_base).item()


def annealing() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = 0.05 * torch.randn(784, 500, generator=generator)
    a, c = torch.randn(784, generator=generator), torch.zeros(500)
    path = RBMPath(weight, a, c, base_bias=a)
    seconds = interleaved(
        {
            "library": lambda: annealed_importance_sampling(path, TEMPERATURES, num_chains=CHAINS, generator=generator),
            "plain": lambda: plain_ais(weight, a, c, a, generator),
        },
        rounds=20,
    )
    ratio = seconds["plain"] / seconds["library"]
    per_second = {name: (TEMPERATURES - 1) / value for name, value in seconds.items()}
    measured = f"{ratio:.2f} ({per_second['library']:.0f} / {per_second['plain']:.0f} temperatures a second)"
    row(f"AIS, {CHAINS} chains / plain implementation", ">= 1.50", measured, ratio >= 1.5)


def main() -> None:
    torch.manual_seed(0)
    training()
    annealing()


if __name__ == "__main__":
    main()
