"""Networks of a ladder of codes: one pass upwards from the data, and one network from each code to the one below it."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_modules.networks.autoencoder import Encoder, hidden_layers


class LadderEncoder(nn.Module):
    """An encoder with further layers on its units: d_1 = ``lowest``(x), d_l = layers(d_{l - 1}), one Gaussian of each.

    Args:
        lowest: Encoder of the first code.
        latent_dims: Sizes of the codes, the one next to the data first.
        hidden: Units per layer above ``lowest``.
        depth: Layers per level above ``lowest``; 0 makes these levels linear.
        gated: Whether these units are gated; see ``hidden_layers``.
    """

    def __init__(self, lowest: Encoder, latent_dims: Sequence[int], hidden: int, depth: int, gated: bool) -> None:
        super().__init__()
        self.lowest = lowest
        first, above = lowest.output.in_features, latent_dims[1:]
        self.layers = nn.ModuleList(
            hidden_layers(hidden if depth and level else first, hidden, depth, gated) for level in range(len(above))
        )
        self.outputs = nn.ModuleList(nn.Linear(hidden if depth else first, 2 * size) for size in above)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps examples and the condition to means of all levels, then their log-scales, (N, 2 * sum(latent_dims))."""
        units = self.lowest.units(x, condition)
        parameters = [self.lowest.output(units)]
        for layers, output in zip(self.layers, self.outputs, strict=True):
            units = layers(units)
            parameters.append(output(units))
        means, log_scales = zip(*(values.chunk(2, 1) for values in parameters), strict=True)
        return torch.cat([*means, *log_scales], 1)


def downward(latent_dims: Sequence[int], hidden: int, depth: int, gated: bool) -> nn.ModuleList:
    """Returns a network for each code but the highest, in the order of ``latent_dims``.

    The network of code l maps the code above it, (..., latent_dims[l + 1]), to its mean and to what its variance is
    computed from, (..., 2 * latent_dims[l]).
    """
    return nn.ModuleList(
        nn.Sequential(hidden_layers(above, hidden, depth, gated), nn.Linear(hidden if depth else above, 2 * size))
        for size, above in pairwise(latent_dims)
    )
