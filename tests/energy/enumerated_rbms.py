"""An RBM of 6 x 4 units, whose probabilities are sums over all states, and data for one of 9 visible units."""

from typing import Any

import torch
from torch import Tensor

from datamodules.datamodule import ZooDataModule
from datamodules.loader import TensorSource
from datamodules.spec import DataSpec
from lightning_modules import RBM
from lightning_modules.parts.likelihoods import bernoulli_log_prob
from tests.energy.small_rbms import states

SHAPE = [1, 2, 3]
PLACES = torch.tensor([32, 16, 8, 4, 2, 1])


def tiny(seed: int = 0, scale: float = 1.0, **settings: Any) -> RBM:
    """A 6 x 4 model in float64 with weights that matter."""
    module = RBM(**{"shape": SHAPE, "num_hidden": 4, **settings}).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def distribution(module: RBM) -> Tensor:
    """p(v) of all 64 visible states."""
    return (-module.unchecked_energy(states(6))).softmax(0)


def gibbs_operator(module: RBM) -> Tensor:
    """T[v, v'] of one block Gibbs step, through all hidden states."""
    v, h = states(6), states(4)
    to_hidden = torch.stack([bernoulli_log_prob(module.hidden_input(v), row.expand(64, -1)) for row in h], 1).exp()
    to_visible = torch.stack([bernoulli_log_prob(module.visible_input(h), row.expand(16, -1)) for row in v], 1).exp()
    return to_hidden @ to_visible


def data_distribution() -> Tensor:
    """A distribution over the 64 states that is none of an RBM."""
    return (2 * torch.randn(64, generator=torch.Generator().manual_seed(9), dtype=torch.float64)).softmax(0)


def gradient(module: RBM, loss: Tensor) -> Tensor:
    """All gradients of a loss as one vector."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))])


def chi_square(places: Tensor, probabilities: Tensor) -> float:
    """The statistic of how often each state was reached."""
    counts, expected = places.bincount(minlength=len(probabilities)).double(), len(places) * probabilities
    return ((counts - expected).square() / expected).sum().item()


class Patterns(ZooDataModule):
    """Bars and stripes: 3 x 3 images whose rows or whose columns are uniform, 14 of them, all as frequent."""

    def __init__(self, batch_size: int = 70) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, 0
        self.spec = DataSpec("patterns", "image", (1, 3, 3), (0.0, 1.0))

    def setup(self, stage: str | None = None) -> None:
        bars = states(3).float()[:, :, None].expand(8, 3, 3)
        x = torch.cat([bars, bars[1:-1].transpose(1, 2)]).unsqueeze(1).repeat(10, 1, 1, 1)
        source = TensorSource(x, torch.zeros(len(x), dtype=torch.int64))
        self.sources = {"train": source, "val": source, "test": source}


QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
