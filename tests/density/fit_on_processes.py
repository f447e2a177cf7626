"""Run by ``test_fits_on_processes.py``, once a process: fits to one part of the points each, together.

Usage: python fit_on_processes.py RANK WORLD_SIZE FOLDER
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

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


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, world_size, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    torch.save(fitted(rank, world_size), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
