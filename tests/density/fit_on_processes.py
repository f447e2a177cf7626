"""Fits of both densities to a part of the points, together with other processes."""

import os

import torch
import torch.distributed as dist
from torch import Tensor

from lightning_modules import Gaussian, GaussianMixture

BATCH = 20


def points() -> Tensor:
    """Eighty points around two centres."""
    x = torch.randn(80, 2, generator=torch.Generator().manual_seed(0))
    return x + 4 * (torch.arange(80) % 2)[:, None]


def fitted(rank: int, world_size: int) -> dict[str, Tensor]:
    """Fits both densities to this process's part of each global batch."""
    batches = [part.chunk(world_size)[rank] for part in points().split(BATCH)]
    gaussian = Gaussian(shape=[2])
    gaussian.fit_closed_form(batches)
    mixture = GaussianMixture(shape=[2], num_components=2)
    history = mixture.fit_em(batches, iterations=3, tolerance=-1.0)
    states = {**gaussian.state_dict(prefix="gaussian."), **mixture.state_dict(prefix="mixture.")}
    return {**states, "history": torch.tensor(history)}


def fitted_with_others(folder: str) -> dict[str, Tensor]:
    """Fits together with the other of two processes."""
    rank = int(os.environ["LOCAL_RANK"])
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    states = fitted(rank, 2)
    dist.destroy_process_group()
    return states
