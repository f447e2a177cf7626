"""Optimization of pixels, from coarse to fine: each scale has its own image and its own optimizer.

At a coarse scale the receptive fields of a network span larger parts of the image, so that large structures form there;
the next scale begins with the enlarged result. This is the scheme of Gatys et al. (2017) for images of high resolution.

Controlling Perceptual Factors in Neural Style Transfer (Gatys et al., 2017), https://arxiv.org/abs/1611.07865
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from datamodules.spec import Batch
from lightning_modules.image.feature_statistics import FeatureStatistics, check_tile
from lightning_modules.image.image_optimization import ImageOptimization, in_range
from lightning_modules.networks.feature_networks import FeatureNetwork
from lightning_modules.parts.checks import check_counts, check_positive
from lightning_modules.parts.lbfgs import IterativeLBFGS
from lightning_modules.parts.optimizers import adam_with
from lightning_modules.parts.reduction import coarser
from lightning_modules.pretrained.named_features import load_features

OPTIMIZERS = ("lbfgs", "adam")
SMALLEST_SIDE = 32
"""Smallest side of an image at the coarsest scale: VGG halves it four times."""
LOSS_SCALE = 1e4
"""Factor of the loss in L-BFGS, which drops curvature y^T s below 1e-10; relative distances are of order 1."""
RANGE_WEIGHT = 1.0
"""Weight of the mean squared distance from [-1, 1]: what is clamped in the end must not hold much of the result."""


class PixelOptimization(ImageOptimization):
    """Abstract: pixels are the parameters, and losses compare features of a frozen network.

    The network is no part of a checkpoint: it is loaded by name when training starts, or given by ``use_features``.

    Args:
        size: Height and width of the image.
        features: Name of the feature network, or ``None`` for the best one that is there.
        num_scales: Number of scales; each is half as large as the next.
        coarse_steps: Steps at each scale but the last, which has the rest of the run.
        optimizer: ``"lbfgs"``, whose step is an iteration with a line search, or ``"adam"``.
        lr: Learning rate of Adam, or length of L-BFGS's first trial step.
        history_size: Steps of which L-BFGS keeps the curvature.
        tile: As in ``FeatureStatistics``.
        is_torus: Whether opposite borders of the image touch.

    Raises:
        ValueError: If a number is out of range, or the coarsest scale is too small.
    """

    def __init__(
        self,
        size: tuple[int, int],
        features: str | None,
        num_scales: int,
        coarse_steps: int,
        optimizer: str,
        lr: float,
        history_size: int,
        tile: int | None,
        is_torus: bool = False,
    ) -> None:
        super().__init__()
        check_counts(num_scales=num_scales, coarse_steps=coarse_steps, history_size=history_size)
        check_positive(lr=lr)
        check_tile(tile)
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer={optimizer!r} is not one of {', '.join(OPTIMIZERS)}.")
        height, width = coarser(size, num_scales - 1)
        if min(height, width) < SMALLEST_SIDE:
            raise ValueError(
                f"num_scales={num_scales} begins with {width} x {height} pixels, and a side needs at least "
                f"{SMALLEST_SIDE}: use fewer scales or a larger image."
            )
        sizes = [coarser(size, num_scales - 1 - scale) for scale in range(num_scales)]
        self.automatic_optimization = False
        self.num_scales, self.coarse_steps, self.is_torus = num_scales, coarse_steps, is_torus
        self.features, self.tile = features, tile
        self.optimizer_settings: dict[str, Any] = {"name": optimizer, "lr": lr, "history_size": history_size}
        self.images = nn.ParameterList(torch.zeros(1, 3, *each) for each in sizes)
        self.begun: Tensor
        self.register_buffer("begun", torch.tensor(-1))  # the last scale that has begun
        self._network: list[FeatureNetwork] = []  # in a list, so that it is no submodule and in no checkpoint
        self._is_given = False
        self._prepared = -1
        self._lowest = float("inf")

    # What a method defines

    @abstractmethod
    def gram_layers(self, network: FeatureNetwork) -> Sequence[str]:
        """Returns the layers whose Gram matrices are compared."""

    def content_layers(self, network: FeatureNetwork) -> Sequence[str]:
        """Hook: returns the layers whose features are compared position by position."""
        return ()

    @abstractmethod
    def start(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """Returns the image (1, 3, H, W) that the coarsest scale begins with."""

    @abstractmethod
    def prepare(self, batch: Batch, scale: int) -> None:
        """Computes what the losses of a scale need of the data, by functions that draw no random numbers."""

    @abstractmethod
    def losses(self, x: Tensor) -> Mapping[str, Tensor]:
        """Returns the weighted terms of the loss of an image (1, 3, H, W) at the scale that was prepared last."""

    # Features

    def use_features(self, network: FeatureNetwork) -> None:
        """Takes a network in place of the one that is loaded by name; a resumed run needs it, too.

        Raises:
            TypeError: If it has no layers by name, as other modules.
        """
        if not isinstance(network, FeatureNetwork):
            raise TypeError(
                f"network={type(network).__name__} is no FeatureNetwork: give WrappedFeatures(network), which has the "
                "outputs of its modules as layers."
            )
        self._network, self._is_given = [network], True
        self._prepared = -1

    @property
    def network(self) -> FeatureNetwork:
        """The feature network, on the module's device and in its precision.

        Raises:
            ValueError: If it has to be loaded and is not known; the message lists those that are.
        """
        if not self._network:
            self._network = [load_features(self.features)]
        return self._network[0].to(self.device, self.images[0].dtype)

    @property
    def statistics(self) -> FeatureStatistics:
        """Computes what the losses compare."""
        network = self.network
        layers = self.gram_layers(network), self.content_layers(network)
        return FeatureStatistics(network, *layers, self.tile, self.is_torus)

    # Training

    @property
    def scale(self) -> int:
        """The scale of the present step."""
        return min(self.num_scales - 1, self.batches_trained // self.coarse_steps)

    def size_at(self, scale: int) -> tuple[int, int]:
        """Returns height and width of the image at a scale."""
        return self.images[scale].shape[2], self.images[scale].shape[3]

    def image(self) -> Tensor:
        """Returns the result so far at full size, (1, 3, H, W) in [-1, 1]; that of a coarse scale is enlarged."""
        found = in_range(self.images[max(0, int(self.begun))])
        return in_range(self.displayed(resized(found, self.size_at(self.num_scales - 1))))

    def displayed(self, x: Tensor) -> Tensor:
        """Hook: returns what is shown of an image (1, 3, H, W) at full size, such as with other colours."""
        return x

    def setup(self, stage: str) -> None:
        """Loads the features, so that a missing network stops before the work starts."""
        super().setup(stage)
        if stage != "predict":
            _ = self.statistics
        self._prepared = -1

    def begin(self, batch: Batch) -> None:
        """Prepares the present scale, and begins it with the enlarged image of the scale before."""
        scale = self.scale
        if self._prepared != scale:
            self.prepare(batch, scale)
            self._prepared = scale
        if int(self.begun) == scale:
            return
        former = int(self.begun)
        start = self.start(batch, self.size_at(0)) if former < 0 else self.images[former].detach()
        with torch.no_grad():
            self.images[scale].copy_(resized(start, self.size_at(scale)))
        self.begun.fill_(scale)
        if former >= 0:
            self._optimizers()[former].optimizer.state.clear()  # L-BFGS keeps many copies of its image

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Makes one iteration of L-BFGS, or one step of Adam, at the present scale."""
        self.begin(batch)
        optimizer, x = self._optimizers()[self.scale], self.images[self.scale]
        with self.counted_batch():
            if self.optimizer_settings["name"] == "adam":
                self.descend(optimizer, self.terms(x))
                return
            self._lowest = float("inf")
            optimizer.step(lambda: self._evaluate(optimizer, x))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the name of the feature network: by default that depends on the machine."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["features"] = self._network[0].name if self._network else self.features

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the network that the checkpoint names, unless one was given.

        Raises:
            ValueError: If another network was given.
        """
        super().on_load_checkpoint(checkpoint)
        former = checkpoint.get("features")
        if not self._is_given:
            self.features, self._network = former, []
        elif former not in (None, self._network[0].name):
            raise ValueError(
                f"The checkpoint was written with the features {former!r}, but {self._network[0].name!r} was given: "
                "their losses are not the same. Use the former ones, or start anew."
            )

    def held_out(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Tensor]:
        """Measures the weighted terms of the loss at the present scale."""
        scale = max(0, int(self.begun))
        if self._prepared != scale:
            self.prepare(batch, scale)
            self._prepared = scale
        return {name: value.detach()[None] for name, value in self.losses(self.images[scale]).items()}

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        """Returns the terms of the loss, and ``range``, which keeps pixels in [-1, 1]."""
        outside = (x.abs() - 1).clamp_min(0).square().mean()
        return {**self.losses(x), "range": RANGE_WEIGHT * outside}

    def _evaluate(self, optimizer: LightningOptimizer, x: Tensor) -> Tensor:
        optimizer.zero_grad()
        terms = self.terms(x)
        total = torch.stack(list(terms.values())).sum()
        self.manual_backward(LOSS_SCALE * total)
        self.check_finite({name: value.detach() for name, value in terms.items()})
        loss = float(total.detach())
        if loss < self._lowest:  # the line search ends there, though it may look beyond
            self._lowest = loss
            self.log_losses(terms, equal_everywhere=True)
        return LOSS_SCALE * total.detach()

    def _optimizers(self) -> list[LightningOptimizer]:
        found = self.optimizers()
        return found if isinstance(found, list) else [found]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns one optimizer for the image of each scale."""
        return self.scheduled_manually(*map(self._optimizer_of, self.images))

    def _optimizer_of(self, image: nn.Parameter) -> Optimizer:
        name, lr, history = (self.optimizer_settings[key] for key in ("name", "lr", "history_size"))
        return IterativeLBFGS([image], lr, history) if name == "lbfgs" else adam_with(lr)([image])


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns images (N, C, H, W) in another size: bicubic, and antialiased where they become smaller."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size, mode="bicubic", align_corners=False, antialias=True)
