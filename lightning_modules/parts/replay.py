"""A replay buffer of Markov chains, with a set of slots for each position in the batch.

Position i of the batch continues only chains in slots of position i. So the buffer of a process is its part of the
buffer of the whole batch, and training does not depend on how many processes share a batch.

Implicit Generation and Modeling with Energy-Based Models (Du and Mordatch, 2019), https://arxiv.org/abs/1903.08689
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lightning_modules.parts.noise import Noise


class ReplayBuffer:
    """Chains (N, slots, *shape) of the N positions of this process's batch, and how often each was continued.

    A batch may be shorter, as the last one of an epoch is: it continues chains of the first positions.

    Args:
        chains: Shape (N, slots, *shape).
        visits: int64 (N, slots): runs of the sampler since the chain was started; 0 for a slot that was never used.
    """

    def __init__(self, chains: Tensor, visits: Tensor) -> None:
        self.chains, self.visits = chains, visits
        self.taken: Tensor | None = None
        self.taken_visits: Tensor | None = None

    def take(self, fresh: Tensor, fresh_share: float, noise: Noise) -> Tensor:
        """Chooses a slot for each position and returns the state from which its chain continues, (num, *shape).

        Args:
            fresh: Starts of new chains, shape (num, *shape) for a batch of num <= N positions.
            fresh_share: Probability that a position starts a new chain instead.
            noise: Source of random numbers.
        """
        num, slots, device = len(fresh), self.visits.shape[1], self.chains.device
        rows, slot = torch.arange(num, device=device), noise.integers(slots, num, device)
        anew = noise.uniform(num, device=device) < fresh_share
        self.taken = slot
        self.taken_visits = torch.where(anew, 0, self.visits[rows, slot])
        return torch.where(anew.view(-1, *[1] * (fresh.ndim - 1)), fresh, self.chains[rows, slot])

    def put(self, chains: Tensor) -> None:
        """Stores the chains in the slots that ``take`` chose."""
        assert self.taken is not None
        assert self.taken_visits is not None
        rows = torch.arange(len(chains), device=chains.device)
        self.chains[rows, self.taken] = chains
        self.visits[rows, self.taken] = self.taken_visits + 1

    @classmethod
    def started(cls, chains: Tensor) -> "ReplayBuffer":
        """Returns a buffer of chains (N, slots, *shape) that were not continued yet."""
        return cls(chains, torch.zeros(chains.shape[:2], dtype=torch.int64, device=chains.device))

    def extended(self, chains: Tensor) -> "ReplayBuffer":
        """Returns a buffer with further positions, for a longer batch, whose chains were not continued yet."""
        new = ReplayBuffer.started(chains)
        return ReplayBuffer(torch.cat([self.chains, new.chains]), torch.cat([self.visits, new.visits]))

    def state(self) -> dict[str, Tensor]:
        """Returns the contents of the buffer, for a checkpoint."""
        return {"chains": self.chains.cpu(), "visits": self.visits.cpu()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], device: torch.device) -> "ReplayBuffer":
        """Restores the buffer that ``state`` returned."""
        return cls(state["chains"].to(device), state["visits"].to(device))


def select_chains(states: list[dict[str, Tensor]], num: int, burn_in: int) -> Tensor:
    """Returns ``num`` chains of the buffers of all processes, in their order; those with few visits come last.

    Args:
        states: ``ReplayBuffer.state`` of each process.
        num: Number of chains; where the buffers hold fewer, chains are repeated.
        burn_in: Number of visits below which a chain comes last.

    Returns:
        Shape (num, *shape), equal on any number of processes.
    """
    chains = torch.cat([state["chains"] for state in states]).transpose(0, 1).flatten(0, 1)
    visits = torch.cat([state["visits"] for state in states]).T.flatten()
    order = (visits < burn_in).to(torch.uint8).argsort(stable=True)
    return chains[order[torch.arange(num) % len(order)]]
