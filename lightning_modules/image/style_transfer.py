"""Style transfer: an image with the content of one picture and the style of others.

Pixels are optimized until deep features are those of the content, position by position, and correlations of features,
which know nothing of positions, are those of the style. The features are those of a network trained to recognise
objects, which is not trained further.

NOTE: Distances are relative: squared distances over the squared norm of the target, averaged over layers. Gatys et al.
divide by numbers of channels and positions instead, so that weights would mean something else for every network.
Every new image takes a new optimization, of minutes.

Image Style Transfer Using Convolutional Neural Networks (Gatys et al., 2016),
https://openaccess.thecvf.com/content_cvpr_2016/html/Gatys_Image_Style_Transfer_CVPR_2016_paper.html
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules.image.feature_statistics import Content
from lightning_modules.image.image_optimization import check_rgb
from lightning_modules.image.pixel_optimization import PixelOptimization, resized
from lightning_modules.networks.feature_networks import FeatureNetwork
from lightning_modules.parts.colours import luminance, with_luminance, with_moments
from lightning_modules.parts.gram import relative_distance, total_variation
from lightning_modules.parts.reduction import coarser

STARTS = ("content", "mean")
COLOURS = (None, "covariance", "luminance")
START_NOISE = 0.05
"""Standard deviation of the noise around the mean colour; far from it, high frequencies would remain as speckles."""
ROUNDING = 1e-3
"""By how much the values of a style may be outside of [-1, 1]."""


class StyleTransfer(PixelOptimization):
    """Minimises content distance + style distance + total variation over pixels.

    The styles are those of the datamodule, ``SingleImage(content, styles=[...])``, or given by ``use_styles``.

    Args:
        shape: (3, H, W) of the content, and of the result.
        content_weight: Weight of the relative distance of features, at least 0.
        style_weight: Weight of the relative distance of Gram matrices, at least 0.
        style_weights: Weight of each style, normalised to sum to 1; equal by default.
        variation_weight: Weight of the total variation, at least 0.
        start: Begin with the ``"content"``, or with noise close to its ``"mean"`` colour.
        preserve_colour: ``"covariance"`` gives the styles the colours of the content before, ``"luminance"`` transfers
            brightness only and keeps hues (Gatys et al., 2016, https://arxiv.org/abs/1606.05897); ``None`` for neither.
        features: Name of the feature network, or ``None`` for the best one that is there.
        content_layers: Layers for the content; those of the network by default.
        style_layers: Layers for the style; those of the network by default.
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
        content_weight: float = 1.0,
        style_weight: float = 5.0,
        style_weights: Sequence[float] | None = None,
        variation_weight: float = 0.0,
        start: str = "content",
        preserve_colour: str | None = None,
        features: str | None = None,
        content_layers: Sequence[str] | None = None,
        style_layers: Sequence[str] | None = None,
        num_scales: int = 2,
        coarse_steps: int = 100,
        optimizer: str = "lbfgs",
        lr: float = 1.0,
        history_size: int = 10,
        tile: int | None = None,
    ) -> None:
        super().__init__(check_rgb(shape), features, num_scales, coarse_steps, optimizer, lr, history_size, tile)
        weights = {"content": content_weight, "style": style_weight, "variation": variation_weight}
        check_weights(weights)
        check_weights({} if style_weights is None else {f"style_weights[{k}]": w for k, w in enumerate(style_weights)})
        if start not in STARTS:
            raise ValueError(f"start={start!r} is not one of {', '.join(STARTS)}.")
        if preserve_colour not in COLOURS:
            raise ValueError(f"preserve_colour={preserve_colour!r} is not one of null, covariance, luminance.")
        self.save_hyperparameters()
        self.weights = weights
        self.styles: list[Tensor] = []
        self.register_buffer("colours", torch.zeros(tuple([1, *shape] if preserve_colour == "luminance" else [0])))
        self._grams: list[dict[str, Tensor]] = []
        self._content: Content = []

    colours: Tensor

    def use_styles(self, styles: Sequence[Tensor]) -> None:
        """Takes the styles, each (1, 3, H, W) in [-1, 1], of any size.

        Raises:
            ValueError: If there is none, as many weights were given for another number, or one has another form or
                other values.
        """
        if isinstance(styles, (Tensor, str)):
            raise ValueError(f"styles must be a list of images, not a {type(styles).__name__}.")
        given = self.hparams["style_weights"]
        if given is not None and len(given) != len(styles):
            raise ValueError(f"style_weights has {len(given)} weights for {len(styles)} styles: give one for each.")
        if not styles:
            raise ValueError("StyleTransfer has no style: use SingleImage(content, styles=[...]) or use_styles.")
        for style in styles:
            check_style(style)
        self.styles = list(styles)

    def setup(self, stage: str) -> None:
        """Takes the styles of the trainer's datamodule, if it has any.

        Raises:
            ValueError: If there is no style to train or measure with.
        """
        super().setup(stage)
        found = getattr(getattr(self.trainer, "datamodule", None), "style_images", None)
        if stage != "predict":
            self.use_styles((found() if found is not None else []) or self.styles)

    def gram_layers(self, network: FeatureNetwork) -> Sequence[str]:
        """Returns the style layers."""
        return self.hparams["style_layers"] or network.style_layers

    def content_layers(self, network: FeatureNetwork) -> Sequence[str]:
        """Returns the content layers."""
        return (self.hparams["content_layers"] or network.content_layers) if self.weights["content"] else ()

    def start(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """Returns the content, or noise around its mean colour."""
        if self.hparams["start"] == "content":
            return resized(batch.x, size)
        noise = self.noise.normal(1, 3, *size, device=batch.x.device)
        return batch.x.mean((2, 3), keepdim=True) + START_NOISE * noise

    def prepare(self, batch: Batch, scale: int) -> None:
        """Computes the features of the content and the Gram matrices of the styles, all reduced to the scale."""
        mode = self.hparams["preserve_colour"]
        statistics = self.statistics
        if mode == "luminance":
            self.colours.copy_(batch.x)
        content = self._compared(resized(batch.x, self.size_at(scale)))
        self._content = statistics.content(content) if statistics.content_layers else []
        self._grams = []
        for style in self.styles:
            style = style.to(batch.x)
            if mode == "covariance":
                style = with_moments(style, batch.x)
            elif mode == "luminance":
                style = with_moments(luminance(style), luminance(batch.x)).expand(-1, 3, -1, -1)
            halvings = self.num_scales - 1 - scale
            reduced = resized(style, coarser((style.shape[2], style.shape[3]), halvings))
            with torch.no_grad():
                self._grams.append(statistics.grams(reduced))

    def losses(self, x: Tensor) -> Mapping[str, Tensor]:
        """Returns the terms ``content``, ``style`` and ``variation``, those of weight 0 left out."""
        grams, distances = self.statistics.compute(self._compared(x), self._content or None)
        given = self.hparams["style_weights"] or [1.0] * len(self._grams)
        style = [
            weight * torch.stack([relative_distance(grams[layer], value) for layer, value in target.items()]).mean()
            for weight, target in zip(given, self._grams, strict=True)
        ]
        terms = {"style": torch.stack(style).sum() / sum(given), "variation": total_variation(x)}
        if distances:
            terms["content"] = torch.stack(list(distances.values())).mean()
        return {name: self.weights[name] * value for name, value in terms.items() if self.weights[name]}

    def displayed(self, x: Tensor) -> Tensor:
        """Returns an image with the hues of the content if only the brightness is transferred."""
        return with_luminance(self.colours, luminance(x)) if self.colours.numel() else x

    def _compared(self, x: Tensor) -> Tensor:
        luminance_only = self.hparams["preserve_colour"] == "luminance"
        return luminance(x).expand(-1, 3, -1, -1) if luminance_only else x


def check_style(style: Any) -> None:
    """Raises ValueError unless a style is an image (1, 3, H, W) in [-1, 1]."""
    shape = tuple(getattr(style, "shape", ()))
    if not isinstance(style, Tensor) or shape[:2] != (1, 3) or len(shape) != 4 or min(shape) < 1:
        raise ValueError(f"A style must be an image (1, 3, H, W), not {shape or repr(style)}.")
    low, high = style.aminmax()
    if not style.is_floating_point() or not (low >= -1 - ROUNDING and high <= 1 + ROUNDING):
        raise ValueError(f"A style must have values in [-1, 1], not {style.dtype} in [{low:g}, {high:g}].")


def check_weights(weights: Mapping[str, float]) -> None:
    """Raises ValueError if a weight is negative or not finite, or all are 0."""
    for name, value in weights.items():
        if not 0 <= value < float("inf"):
            field = name if name.startswith("style_weights") else f"{name}_weight"
            raise ValueError(f"{field}={value} must be at least 0 and finite.")
    if weights and not any(weights.values()):
        raise ValueError("All weights are 0: give at least one that is positive.")
