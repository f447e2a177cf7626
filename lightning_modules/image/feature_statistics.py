"""Gram matrices of features, and distances of features from those of a target, tile by tile."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lightning_modules.networks.feature_networks import FeatureNetwork
from lightning_modules.parts.gram import gram_sum
from lightning_modules.parts.tiles import ALIGNMENT, OVERLAP, Tile, tiles

Content = list[dict[str, Tensor]]
"""For each tile the target's features by layer."""


class FeatureStatistics:
    """What style and content are compared by: sums over positions of functions of the features of a frozen network.

    Args:
        network: The network.
        gram_layers: Layers whose Gram matrices are computed.
        content_layers: Layers whose features are compared position by position.
        tile: Side of the tiles that are computed one after another to save memory, in pixels; ``None`` for the whole.
        is_torus: Whether opposite borders of the image touch.

    Raises:
        ValueError: If a layer is unknown, or ``tile`` is not a positive multiple of ``ALIGNMENT``.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        gram_layers: Sequence[str],
        content_layers: Sequence[str] = (),
        tile: int | None = None,
        is_torus: bool = False,
    ) -> None:
        check_tile(tile)
        self.network, self.tile, self.is_torus = network, tile, is_torus
        self.gram_layers, self.content_layers = list(gram_layers), list(content_layers)
        network.check_layers([*self.gram_layers, *self.content_layers])

    def of_exemplar(self) -> "FeatureStatistics":
        """Returns the same for an image whose borders do not touch."""
        return FeatureStatistics(self.network, self.gram_layers, self.content_layers, self.tile)

    def content(self, x: Tensor) -> Content:
        """Returns the features of an image (1, 3, H, W) for ``distances``."""
        with torch.no_grad():
            return [
                {layer: tile.own(value) for layer, value in self.network(tile.seen(x), self.content_layers).items()}
                for tile in self._tiles(x)
            ]

    def grams(self, x: Tensor) -> dict[str, Tensor]:
        """Returns the Gram matrix (K, K) of each layer of an image (1, 3, H, W): a mean over positions."""
        return self.compute(x, None)[0]

    def compute(self, x: Tensor, content: Content | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns Gram matrices, and squared distances from the features of ``content`` relative to these, by layer.

        Args:
            x: Image (1, 3, H, W).
            content: What ``content`` has returned for an image of the same size, or ``None``.
        """
        num_grams, num_contents = len(self.gram_layers), 0 if content is None else len(self.content_layers)
        places, x = self._tiles(x), self._padded(x)
        sums: list[Tensor] = []
        for number, place in enumerate(places):
            targets = [] if content is None else [content[number][layer] for layer in self.content_layers]
            if len(places) > 1 and torch.is_grad_enabled():
                values = checkpoint(self._sums, place.seen(x), place, targets, use_reentrant=False)
            else:
                values = self._sums(place.seen(x), place, targets)
            sums = [old + new for old, new in zip(sums, values, strict=True)] if sums else list(values)
        grams, counts = sums[:num_grams], sums[num_grams : 2 * num_grams]
        distances = {}
        for layer, value in zip(self.content_layers[:num_contents], sums[2 * num_grams :], strict=True):
            norm = sum(tile[layer].square().sum() for tile in content or [])
            distances[layer] = value / (norm + 1e-12)
        return dict(zip(self.gram_layers, map(torch.div, grams, counts), strict=True)), distances

    def _tiles(self, x: Tensor) -> list[Tile]:
        height, width = (length + 2 * self._border for length in x.shape[2:])
        return tiles(height, width, self.tile, self._border)

    @property
    def _border(self) -> int:
        return OVERLAP if self.is_torus else 0

    def _padded(self, x: Tensor) -> Tensor:
        for dim in (2, 3) if self.is_torus else ():  # F.pad would repeat an image no more than once
            places = torch.arange(-self._border, x.shape[dim] + self._border, device=x.device) % x.shape[dim]
            x = x.index_select(dim, places)
        return x

    def _sums(self, seen: Tensor, place: Tile, targets: Sequence[Tensor]) -> list[Tensor]:
        layers = [*self.gram_layers, *(self.content_layers if targets else [])]
        features = {layer: place.own(value) for layer, value in self.network(seen, layers).items()}
        grams = [features[layer] for layer in self.gram_layers]
        distances = [
            (features[layer] - target).square().sum()
            for layer, target in zip(self.content_layers, targets, strict=bool(targets))
        ]
        counts = [seen.new_tensor(float(value.shape[2] * value.shape[3])) for value in grams]
        return [*map(gram_sum, grams), *counts, *distances]


def check_tile(tile: int | None) -> None:
    """Raises ValueError unless ``tile`` is ``None`` or a positive multiple of ``ALIGNMENT``."""
    if tile is not None and (tile < ALIGNMENT or tile % ALIGNMENT):
        raise ValueError(f"tile={tile} must be a multiple of {ALIGNMENT} pixels, or null to compute the whole at once.")
