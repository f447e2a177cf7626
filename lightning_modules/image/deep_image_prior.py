"""Deep image prior: restores one damaged image by the architecture of a network that was trained on no other.

A convolutional network with fixed noise as input is fitted to the damaged image. It produces natural structure long
before it fits noise, so the fit is stopped early; and what is hidden from the loss, by a mask or by reduction, it fills
in with structure of the same kind.

NOTE: It knows nothing about the world: large holes are filled with texture, not with objects. Each image takes
thousands of steps. The output is tanh(a / 2) = 2 sigmoid(a) - 1, because images lie in [-1, 1] here.

Deep Image Prior (Ulyanov et al., 2018), https://arxiv.org/abs/1711.10925
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from datamodules.spec import Batch
from lightning_modules.image.image_optimization import ImageOptimization, check_rgb, in_range
from lightning_modules.image.variance_stopping import VarianceStopping
from lightning_modules.networks.hourglass import Hourglass
from lightning_modules.parts.checks import check_counts
from lightning_modules.parts.optimizers import adam_with
from lightning_modules.parts.reduction import lanczos_matrix

WIDTH_OF_RANGE = 2.0
"""Difference of the largest and the smallest value of an image, of which PSNR is a function."""


class DeepImagePrior(ImageOptimization):
    """Minimises ||m * (A f(z + noise) - x)||^2 over the weights of f; A reduces the image, m is the mask.

    Args:
        shape: (3, H, W) of the damaged image.
        scale: Factor by which the result is larger than the damaged image: A reduces by it, as ``SingleImage`` does.
        width: Channels of the hourglass at every resolution; 128 in the paper.
        depth: Number of its resolutions below that of the image.
        skip_width: Channels of its skip connections; 4 in the paper, 0 for none.
        upsampling: ``"bilinear"``, or ``"nearest"``, which the paper uses for inpainting.
        input_depth: Channels of the noise z, uniform in [0, 0.1].
        input_noise: Standard deviation of the noise that is added to z in each step.
        lr: Learning rate of Adam.
        average_decay: Decay of the running average of outputs, in [0, 1).
        stop_early: Whether to end the run, and choose the image, by the variance of recent outputs.
        window: Outputs over which that variance is computed.
        patience: Steps without a smaller variance after which the run ends.

    Raises:
        ValueError: If an argument is out of range, or a side has fewer than 2^(depth + 1) pixels.
    """

    def __init__(
        self,
        shape: Sequence[int] = (3, 256, 256),
        scale: int = 1,
        width: int = 128,
        depth: int = 5,
        skip_width: int = 4,
        upsampling: str = "bilinear",
        input_depth: int = 32,
        input_noise: float = 1 / 30,
        lr: float = 0.01,
        average_decay: float = 0.99,
        stop_early: bool = True,
        window: int = 100,
        patience: int = 1000,
    ) -> None:
        super().__init__()
        height, width_of_image = check_rgb(shape)
        check_counts(scale=scale, window=window, patience=patience, input_depth=input_depth)
        if not 0 <= average_decay < 1 or not 0 <= input_noise < float("inf"):
            raise ValueError(
                f"average_decay={average_decay} must lie in [0, 1), and input_noise={input_noise} must be at least 0."
            )
        size = scale * height, scale * width_of_image
        if min(size) < 2 ** (depth + 1):
            raise ValueError(
                f"depth={depth} halves the sides {depth} times, so an image needs at least {2 ** (depth + 1)} pixels a "
                f"side, not {size[1]} x {size[0]}: use a smaller depth or a larger image."
            )
        self.save_hyperparameters()
        self.build_optimizer = adam_with(lr)
        self.generator = Hourglass(input_depth, width, depth, skip_width, upsampling)
        self.register_buffer("code", 0.1 * torch.rand(1, input_depth, *size))
        self.register_buffer("average", torch.zeros(1, 3, *size))
        self.register_buffer("outputs", torch.tensor(0))
        self.stopping = VarianceStopping((1, 3, *size), window, patience) if stop_early else None
        for name, length in zip(("rows", "columns"), size, strict=True):
            self.register_buffer(name, lanczos_matrix(length, scale), persistent=False)

    code: Tensor
    average: Tensor
    outputs: Tensor
    rows: Tensor
    columns: Tensor

    def image(self) -> Tensor:
        """Returns the averaged output, that which early stopping has chosen if it has, (1, 3, H, W) in [-1, 1]."""
        chosen = self.stopping is not None and self.stopping.has_chosen
        return in_range(self.stopping.chosen if self.stopping is not None and chosen else self.average)

    def reduced(self, y: Tensor) -> Tensor:
        """Returns A y: images (N, 3, H, W) reduced by ``scale``, as ``SingleImage`` reduces them."""
        return y if self.hparams["scale"] == 1 else self.rows @ y @ self.columns.T

    def reconstruction_loss(self, y: Tensor, batch: Batch) -> Tensor:
        """Returns the mean squared error of the pixels that are known, a scalar."""
        error = (self.reduced(y) - batch.x).square()
        if batch.mask is None:
            return error.mean()
        # Where nothing is known, the error is replaced rather than multiplied, so that its gradient is exactly zero.
        known = batch.mask.expand_as(error) > 0
        return torch.where(known, error, torch.zeros_like(error)).sum() / known.sum().clamp_min(1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the reconstruction error of one output, and averages the outputs."""
        z = self.code + self.hparams["input_noise"] * self.noise.normal(*self.code.shape, device=self.device)
        y = self.generator(z).to(self.average)  # of 16 bits with mixed precision
        self._take(y.detach())
        self.log_losses(self.quality(self.average, batch))
        return self.objective({"reconstruction": self.reconstruction_loss(y, batch)})

    def _take(self, y: Tensor) -> None:
        decay = self.hparams["average_decay"] if int(self.outputs) else 0.0
        self.average.lerp_(y, 1 - decay)
        self.outputs += 1
        if self.stopping is not None:
            self.stopping.update(y, self.average)

    def quality(self, y: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """Returns the PSNR of an image in dB, where the undamaged one is known; with a mask also of hidden pixels."""
        if batch.target is None:
            return {}
        y, target = y.clamp(-1, 1), batch.target
        found = {"psnr": peak_signal_noise_ratio(y, target, data_range=WIDTH_OF_RANGE)}
        if batch.mask is not None:
            hidden = batch.mask.expand_as(y) == 0
            found["psnr_hidden"] = peak_signal_noise_ratio(y[hidden], target[hidden], data_range=WIDTH_OF_RANGE)
        return found

    def held_out(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Tensor]:
        """Measures the reconstruction error of the result, and its PSNR where the undamaged image is known."""
        y = self.image()
        measured = {"reconstruction": self.reconstruction_loss(y, batch), **self.quality(y, batch)}
        return {name: value.detach()[None] for name, value in measured.items()}

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Ends the run when the variance of the outputs has not fallen for long."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.stopping is not None and self.stopping.is_over:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Says what early stopping has chosen."""
        super().on_train_end()
        if self.stopping is not None:
            rank_zero_info(self.stopping.report())

    def field_problem(self, batch: Batch) -> str | None:
        """Refuses a target of another size than the result, and a mask of another size than the image."""
        expected = {"target": tuple(self.average.shape[2:]), "mask": tuple(batch.x.shape[2:])}
        for field, size in expected.items():
            value = getattr(batch, field)
            if value is not None and tuple(value.shape[2:]) != size:
                hint = f"; it was built for scale={self.hparams['scale']}" if field == "target" else ""
                return f"the {field} of a batch has {list(value.shape[2:])} pixels, not {list(size)}{hint}."
        return None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns Adam."""
        return self.scheduled(self.build_optimizer(self.generator.parameters()))
