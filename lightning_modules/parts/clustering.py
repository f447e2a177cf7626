"""k-means, to initialise mixtures.

References:
    k-means++: The Advantages of Careful Seeding (Arthur and Vassilvitskii, 2007), in the greedy form that the paper
    recommends in its section 7: of several candidates it chooses the one that reduces the distances most.
"""

import math

import torch
from torch import Generator, Tensor


def k_means(x: Tensor, num: int, generator: Generator, iterations: int = 20) -> Tensor:
    """Returns the cluster of each point, int64 (N,): 0 to num - 1, none of them empty.

    Args:
        x: Points (N, D).
        num: Number of clusters.
        generator: Source of the random numbers of k-means++.
        iterations: Largest number of iterations of Lloyd's algorithm; it stops earlier if no assignment changes.

    Raises:
        ValueError: If there are fewer distinct points than clusters.
    """
    centres = x[k_means_plus_plus(x, num, generator)]
    assigned = x.new_full((len(x),), -1, dtype=torch.int64)
    for _ in range(iterations):
        distances = torch.cdist(x, centres)
        before, assigned = assigned, fill_empty(distances)
        if torch.equal(before, assigned):
            break
        counts = torch.bincount(assigned, minlength=num).to(x.dtype)
        centres = torch.zeros_like(centres).index_add_(0, assigned, x) / counts[:, None]
    return assigned


def k_means_plus_plus(x: Tensor, num: int, generator: Generator) -> Tensor:
    """Returns the indices of ``num`` distinct points that are far from each other, int64 (num,).

    Raises:
        ValueError: If there are fewer distinct points than clusters.
    """
    candidates = 2 + int(math.log(num))
    chosen = torch.randint(len(x), (1,), generator=generator).to(x.device)
    nearest = torch.cdist(x, x[chosen]).square().squeeze(1)
    while len(chosen) < num:
        nearest[chosen] = 0  # exactly 0, so that no point is drawn twice
        if not nearest.sum() > 0:
            raise ValueError(f"{num} clusters need as many distinct points, but there are {len(chosen)}.")
        weights = nearest.cpu().double()
        cumulative = weights.cumsum(0)
        uniform = torch.rand(candidates, generator=generator, dtype=torch.float64) * cumulative[-1]
        # Rounding may give an index after the last point with a positive weight.
        drawn = torch.searchsorted(cumulative, uniform, right=True).clamp(max=int(weights.nonzero()[-1]))
        drawn = drawn.to(x.device)
        lowered = torch.minimum(nearest[:, None], torch.cdist(x, x[drawn]).square())
        best = lowered.sum(0).argmin()
        chosen, nearest = torch.cat([chosen, drawn[best, None]]), lowered[:, best]
    return chosen


def fill_empty(distances: Tensor) -> Tensor:
    """Assigns each point to its nearest centre, then to each empty centre the point farthest from its own centre."""
    nearest, assigned = distances.min(1)
    counts = torch.bincount(assigned, minlength=distances.shape[1])
    for empty in (counts == 0).nonzero().squeeze(1):
        spare = torch.where(counts[assigned] > 1, nearest, -1.0).argmax()
        counts[assigned[spare]] -= 1
        counts[empty] += 1
        assigned[spare], nearest[spare] = empty, -1.0
    return assigned
