"""Texture synthesis: an image of any size whose correlations of features are those of an exemplar.

The Gram matrix of a layer says which features occur together, wherever they are. An image with the Gram matrices of a
texture at several layers is another piece of the same texture.

NOTE: Structures larger than the receptive field of the deepest layer, and what is regular over long distances, are not
reproduced.

Texture Synthesis Using Convolutional Neural Networks (Gatys et al., 2015), https://arxiv.org/abs/1505.07376
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules.image.image_optimization import check_rgb
from lightning_modules.image.pixel_optimization import PixelOptimization, resized
from lightning_modules.image.style_transfer import START_NOISE, check_weights
from lightning_modules.networks.feature_networks import FeatureNetwork
from lightning_modules.parts.gram import relative_distance, total_variation, total_variation_of_torus
from lightning_modules.parts.reduction import coarser


class TextureSynthesis(PixelOptimization):
    """Minimises the mean over layers of ||G(x) - G(exemplar)||^2 / ||G(exemplar)||^2 over pixels.

    Args:
        shape: (3, H, W) of the exemplar.
        size: Height and width of the texture; those of the exemplar by default.
        seamless: Whether opposite borders fit together, so that the texture tiles the plane.
        variation_weight: Weight of the total variation, at least 0.
        features: Name of the feature network, or ``None`` for the best one that is there.
        layers: Layers whose Gram matrices are compared; those of the network by default.
        num_scales: As in ``PixelOptimization``.
        coarse_steps: As in ``PixelOptimization``.
        optimizer: As in ``PixelOptimization``.
        lr: As in ``PixelOptimization``.
        history_size: As in ``PixelOptimization``.
        tile: As in ``FeatureStatistics``.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        shape: Sequence[int] = (3, 256, 256),
        size: Sequence[int] | None = None,
        seamless: bool = False,
        variation_weight: float = 0.0,
        features: str | None = None,
        layers: Sequence[str] | None = None,
        num_scales: int = 2,
        coarse_steps: int = 100,
        optimizer: str = "lbfgs",
        lr: float = 1.0,
        history_size: int = 10,
        tile: int | None = None,
    ) -> None:
        wanted = check_rgb(shape) if size is None else tuple(size)
        if len(wanted) != 2 or min(wanted) < 1:
            raise ValueError(f"size={size} must be [height, width] in pixels.")
        super().__init__(
            (wanted[0], wanted[1]),
            features,
            num_scales,
            coarse_steps,
            optimizer,
            lr,
            history_size,
            tile,
            is_torus=seamless,
        )
        check_weights({"variation": variation_weight, "gram": 1.0})
        self.save_hyperparameters()
        self._grams: dict[str, Tensor] = {}

    def gram_layers(self, network: FeatureNetwork) -> Sequence[str]:
        """Returns the layers that are compared."""
        return self.hparams["layers"] or network.style_layers

    def start(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """Returns noise around the mean colour of the exemplar."""
        noise = self.noise.normal(1, 3, *size, device=batch.x.device)
        return batch.x.mean((2, 3), keepdim=True) + START_NOISE * noise

    def prepare(self, batch: Batch, scale: int) -> None:
        """Computes the Gram matrices of the exemplar, reduced to the scale."""
        halvings = self.num_scales - 1 - scale
        exemplar = resized(batch.x, coarser((batch.x.shape[2], batch.x.shape[3]), halvings))
        with torch.no_grad():
            self._grams = self.statistics.of_exemplar().grams(exemplar)

    def losses(self, x: Tensor) -> Mapping[str, Tensor]:
        """Returns the terms ``gram`` and, if it has a weight, ``variation``."""
        grams, _ = self.statistics.compute(x, None)
        distances = [relative_distance(grams[layer], target) for layer, target in self._grams.items()]
        terms = {"gram": torch.stack(distances).mean()}
        if weight := self.hparams["variation_weight"]:
            variation = total_variation_of_torus if self.is_torus else total_variation
            terms["variation"] = weight * variation(x)
        return terms
