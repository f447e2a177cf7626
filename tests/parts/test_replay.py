"""The replay buffer of persistent chains, and which of its chains are kept."""

from typing import Any

import torch

from lightning_modules.parts.replay import ReplayBuffer, select_chains
from tests.training import GlobalNoise


def test_the_replay_buffer_continues_its_chains() -> None:
    num, slots = 3, 4
    start = torch.arange(num * slots, dtype=torch.float32).view(num, slots, 1)
    buffer = ReplayBuffer(start.clone(), torch.zeros(num, slots, dtype=torch.int64))
    noise: Any = GlobalNoise()
    for _ in range(50):
        taken = buffer.take(torch.full((num, 1), -1.0), 0.0, noise)
        buffer.put(taken + 100)
    assert buffer.visits.sum() == 50 * num
    assert torch.equal(buffer.chains, start + 100 * buffer.visits[..., None])
    fresh = buffer.take(torch.full((num, 1), -1.0), 1.0, noise)
    assert (fresh == -1).all()
    buffer.put(fresh)
    assert (buffer.visits == 1).sum() >= num


def test_two_halves_of_a_buffer_give_the_particles_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    chains = torch.rand(4, 5, 2, generator=generator)
    visits = torch.randint(20, (4, 5), generator=generator)
    whole = select_chains([ReplayBuffer(chains, visits).state()], 15, burn_in=8)
    halves = [ReplayBuffer(chains[part], visits[part]).state() for part in (slice(0, 2), slice(2, 4))]
    assert torch.equal(whole, select_chains(halves, 15, burn_in=8))
    settled = int((visits >= 8).sum())
    kept = {tuple(chain.tolist()) for chain in whole[:settled]}
    assert kept == {tuple(chain.tolist()) for chain in chains[visits >= 8]}
