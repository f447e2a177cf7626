"""PixelCNN++: the exact likelihood of an image, pixel after pixel.

    log p(x) = sum_i log p(x_i | x_1, ..., x_{i-1})

in raster order, where one network with shifted convolutions computes all conditionals of an image in one pass. Grey
values have a mixture of discretised logistics, bits a Bernoulli distribution. Training needs a single pass; sampling
needs one pass per pixel, in which only one new column of every layer is computed and the others are cached.

PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn

from datamodules.spec import Batch, DataSpec
from lightning_modules.autoregressive.pixel_likelihoods import LIKELIHOODS, PixelLikelihood
from lightning_modules.autoregressive.pixel_sampling import fill_pixels, known_pixels
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.networks.pixelcnn import PixelCNN
from lightning_modules.networks.text_encoder import condition_of
from lightning_modules.parts.checks import as_temperature
from lightning_modules.parts.likelihoods import NUM_COMPONENTS
from lightning_modules.parts.noise import new_generator
from lightning_modules.parts.optimizers import adam_with
from lightning_modules.parts.sampling import check_num_samples, evaluating, measuring
from lightning_modules.parts.schedules import warmup_and_cosine
from lightning_modules.parts.support import checked, problem_with_numbers, problem_with_shape
from lightning_modules.runtime.given_conditions import TextOrTokens


class PixelCNNPlusPlus(LikelihoodModule):
    """Autoregressive model of images with an exact likelihood.

    Trained by Adam on -log p(x) per dimension of an image, with a linear warm-up and a cosine decay to zero.

    Args:
        shape: (C, H, W); both sides divisible by 2 ** (num_scales - 1). Grey values: C is 1 or 3, where the mean of
            green depends on red, that of blue on both. Bits: C is 1.
        likelihood: ``"discretized_logistic_mixture"`` of the 256 grey values v / 127.5 - 1 on [-1, 1], or
            ``"bernoulli"`` of bits in {0, 1}; chosen from the data's range by ``for_data``.
        width: Channels of each of the two streams.
        depth: Gated blocks of each stream at each resolution, on the way down and again on the way up.
        num_scales: Resolutions; each has half the side of the one before (28, 14, 7).
        num_components: Logistics in the mixture of a pixel.
        num_classes: Number of classes of p(x | y), or ``None`` for p(x).
        num_words: Number of words of the captions y of p(x | y), or ``None``.
        dropout: Share of a block's hidden activations that are set to zero in training.
        lr: Peak learning rate of Adam.
        betas: Adam's decay rates.
        warmup_steps: Batches over which the learning rate rises linearly.
        decay_steps: Batches after which the learning rate has fallen to zero along a cosine, or ``None`` for no decay.
        clip_norm: Largest norm of the gradient (of nats per dimension), or ``None``.

    Raises:
        ValueError: If a number is out of range, or the shape fits neither the scales nor the likelihood.
    """

    kinds = ("image",)
    discrete = True
    renamed_hyperparameters: Mapping[str, str] = {"clip": "clip_norm"}

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        likelihood: str = "discretized_logistic_mixture",
        width: int = 32,
        depth: int = 1,
        num_scales: int = 3,
        num_components: int = NUM_COMPONENTS,
        num_classes: int | None = None,
        num_words: int | None = None,
        dropout: float = 0.0,
        lr: float = 4e-3,
        betas: Sequence[float] = (0.9, 0.99),
        warmup_steps: int = 200,
        decay_steps: int | None = None,
        clip_norm: float | None = 1.0,
    ) -> None:
        super().__init__(None, num_classes, warmup_and_cosine(warmup_steps, decay_steps), clip_norm, num_words)
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood={likelihood!r} is not one of {', '.join(LIKELIHOODS)}.")
        if len(shape) != 3 or any(size < 1 for size in shape):
            raise ValueError(f"shape={list(shape)} must be (channels, height, width).")
        self.likelihood: PixelLikelihood = LIKELIHOODS[likelihood](shape, num_components)
        self.save_hyperparameters()
        self.value_range, self.build_optimizer = self.likelihood.value_range, adam_with(lr, betas)
        num_parameters, condition = self.likelihood.num_parameters, condition_of(num_classes, num_words)
        self.network = PixelCNN(shape, num_parameters, width, depth, num_scales, condition, dropout)
        self.likelihood.initialize(self.network.head.bias)
        self.to(memory_format=torch.channels_last)

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns the shape, and the likelihood by the range of the data. Classes are opt-in: ``num_classes=...``."""
        fits = (name for name, kind in LIKELIHOODS.items() if spec.value_range in (None, kind.value_range))
        return {"shape": list(spec.shape), "likelihood": next(fits, next(iter(LIKELIHOODS)))}

    def data_problem(self, spec: DataSpec) -> str | None:
        """Compares the likelihood with the range of the data."""
        if spec.value_range in (None, self.value_range):
            return None
        own = self.hparams["likelihood"]
        other = next(name for name in LIKELIHOODS if name != own)
        return (
            f"was built with likelihood={own!r}, for images in {list(self.likelihood.value_range)}, but {spec.name} "
            f"yields {spec.value_range}; build the datamodule with binarize={own == 'bernoulli'}, or the model with "
            f"likelihood={other!r}."
        )

    def batch_problem(self, batch: Batch) -> str | None:
        """Names a value of probability zero, if there is one."""
        return self.likelihood.problem(batch.x)

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """Returns the network."""
        return {"network": self.network}

    def forward(self, x: Tensor, labels: Tensor | None = None, uniform: Callable[..., Tensor] | None = None) -> Tensor:
        """Maps images (N, C, H, W) to the parameters of all their conditionals, (N, P, H, W).

        Args:
            x: Images in the range of the data.
            labels: Class labels, int64 (N,), for a class-conditional model, else ``None``.
            uniform: Random numbers for the dropout of training; ``None`` for evaluation.
        """
        x = self.likelihood.centred(x).contiguous(memory_format=torch.channels_last)
        return self.network(x, labels, uniform)

    def log_prob(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns the exact log p(x), or log p(x | y), in nats per image, (N,), with gradients and without dropout.

        Args:
            x: Images (N, C, H, W) in the range of the data, on its grid.
            labels: Class labels, int64 (N,), for a class-conditional model, else ``None``.

        Raises:
            ValueError: If ``x`` is of another shape or off the grid, or labels are missing or do not fit.
        """
        x = self.examples(x)
        condition = self.labels_for(len(x), labels)
        with measuring(self):
            return self.unchecked_log_prob(x, condition)

    def unchecked_log_prob(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Returns what ``log_prob`` does, of images and labels that fit."""
        return self.likelihood.log_prob(self(x, labels), x)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns -log p(x) in nats per dimension."""
        parameters = self(batch.x, self.condition(batch), self.noise.uniform)
        nll = -self.likelihood.log_prob(parameters, batch.x).mean()
        return self.objective({"nll_per_dim": nll / self.num_dimensions})

    def negative_log_likelihood(self, batch: Batch, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns the exact value, nats per image."""
        return {"exact": -self.unchecked_log_prob(batch.x, self.condition(batch))}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns Adam with a linear warm-up and a cosine decay."""
        return self.scheduled(self.build_optimizer(self.parameters()))

    # Sampling

    def sample(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        captions: TextOrTokens | None = None,
        generator: Generator | None = None,
        temperature: float = 1.0,
        mean: bool = False,
        cached: bool = True,
    ) -> Tensor:
        """Samples images, (num_samples, C, H, W): 256 grey values on [-1, 1], or bits in {0, 1}.

        Args:
            num_samples: Number of samples, at least 1.
            labels: Class labels, int64 (num_samples,), for a class-conditional model; ``None`` draws them by their
                frequency in training.
            captions: Captions of a model of these, as in ``choose_condition``.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system.
            temperature: Divides the logits of weights and bits and multiplies the scales; below 1 samples are more
                likely ones.
            mean: Whether to return p(x_i = 1 | x_1, ..., x_{i-1}) along the sample instead of its bits; bits only.
            cached: Whether to keep all activations but those of the newest pixel. ``False`` passes the whole image
                through the network for every pixel: the same samples, a hundred times slower.

        Raises:
            ValueError: If ``num_samples`` or ``temperature`` is not positive, ``labels`` do not fit the model, or
                ``mean`` is set for grey values.
        """
        num_samples = check_num_samples(num_samples)
        generator = generator or new_generator()
        labels = self.choose_condition(num_samples, labels, captions, generator)
        channels, height, width = self.hparams["shape"]
        x = torch.zeros(num_samples, channels, height, width, device=self.device)
        known = torch.zeros(height, width, dtype=torch.bool)
        return self.fill(x, known, labels, generator, temperature, mean, cached)

    def complete(
        self,
        x: Tensor,
        known_rows: int | None = None,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        temperature: float = 1.0,
        cached: bool = True,
    ) -> Tensor:
        """Samples the unknown pixels of images and keeps the known ones, such as the lower half given the upper one.

        Each unknown pixel is sampled given all pixels before it in raster order. If the known pixels are the first
        ones, such as whole rows from the top, these are exact samples of p(unknown | known); otherwise known pixels
        do not influence unknown ones before them.

        Args:
            x: Images (N, C, H, W) in the range of the data.
            known_rows: Rows from the top that are kept; this or ``mask``.
            mask: Where pixels are known, bool (H, W), the same for all images.
            labels: Class labels, int64 (N,), for a class-conditional model; ``None`` draws them by frequency.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system.
            temperature: As in ``sample``.
            cached: As in ``sample``.

        Raises:
            ValueError: If not exactly one of ``known_rows`` and ``mask`` is given, or an argument does not fit.
        """
        shape = tuple(self.hparams["shape"])
        checked(x, self, lambda images: problem_with_shape(images, shape))
        if (known_rows is None) == (mask is None):
            raise ValueError("Give either known_rows (from the top) or mask (bool, (height, width)).")
        known = known_pixels(shape[1:], known_rows) if mask is None else torch.as_tensor(mask)
        if known.dtype != torch.bool or tuple(known.shape) != shape[1:]:
            raise ValueError(f"mask must be bool of {shape[1:]}, not {known.dtype} of {tuple(known.shape)}.")
        if known.any() or not len(x):
            given = x[:, :, known.to(x.device)]
            checked(given, self, lambda pixels: problem_with_numbers(pixels) or self.likelihood.problem(pixels))
        generator = generator or new_generator()
        labels = self.choose_condition(len(x), labels, None, generator)
        dtype = torch.promote_types(self.network.head.bias.dtype, torch.float32)
        return self.fill(x.to(self.device, dtype), known.cpu(), labels, generator, temperature, False, cached)

    def fill(
        self,
        x: Tensor,
        known: Tensor,
        labels: Tensor | None,
        generator: Generator,
        temperature: float,
        mean: bool,
        cached: bool,
    ) -> Tensor:
        """Samples the pixels of ``x`` that are not ``known``; see ``sample`` and ``complete``."""
        temperature = as_temperature(temperature)
        if mean and self.hparams["likelihood"] != "bernoulli":
            raise ValueError("mean=True is for bits: the mean of a mixture of logistics may be an unlikely grey value.")
        num, _, height, width = x.shape
        shape = (num, height * width, self.likelihood.num_uniform)
        uniform = torch.rand(shape, generator=generator, device=generator.device).to(x.device)
        draw = partial(self.likelihood.draw, temperature=temperature)
        shown, centred = torch.sigmoid if mean else None, self.likelihood.centred
        with evaluating(self), torch.autocast(x.device.type, enabled=False):
            return fill_pixels(self.network, x, known, labels, uniform, draw, centred, shown=shown, cached=cached)
