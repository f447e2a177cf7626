"""PixelCNN++: the exact likelihood of a picture, pixel after pixel.

    log p(x) = sum_i log p(x_i | x_1, ..., x_{i-1})

in raster order, where one network with shifted convolutions gives all conditionals of a picture in one pass. Grey
values have a mixture of discretised logistics, bits a Bernoulli law. Training is a single pass; sampling is one pass a
pixel, of which only the one new column of every layer is computed: all else is kept from the pixels before.

Reference:
    PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn
from tqdm import tqdm

from lightning_modules.base import fused_if_possible
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.networks.pixelcnn import FullPasses, PixelCNN
from lightning_modules.networks.pixelcnn_cache import CachedPasses
from lightning_modules.parts.capabilities import DataSpec
from lightning_modules.parts.likelihoods import (
    MIXTURES,
    bernoulli_log_prob,
    discretized_logistic_mixture_log_prob,
    not_binary,
    not_on_256_bins,
    num_logistic_parameters,
    sample_discretized_logistic_mixture,
)
from lightning_modules.parts.noise import new_generator
from lightning_modules.parts.sampling import check_labels, check_num_samples, choose_labels, evaluating

CHUNK = 250
"""Pictures drawn together: as many as let matrix products outweigh the overhead of calls, and caches stay small."""
RANGES = {"discretized_logistic_mixture": (-1.0, 1.0), "bernoulli": (0.0, 1.0)}
FIRST_LOG_SCALE = -2.5
"""What the logarithms of the logistics' scales start from: about 20 grey values."""


class PixelCNNPlusPlus(LikelihoodModule):
    """Autoregressive model of pictures with an exact likelihood.

    Trained by Adam on -log p(x) per picture dimension, with a linear warm-up and a cosine down to zero.

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
        dropout: Share of a block's hidden activations that are set to zero in training.
        lr: Peak learning rate of Adam.
        betas: Adam's decay rates.
        warmup_steps: Batches over which the learning rate rises linearly.
        decay_steps: Batches after which a cosine has taken the learning rate to zero, or ``None`` to keep its peak.
        clip: Largest norm of the gradient (of nats per dimension); longer ones are shortened to it.

    Raises:
        ValueError: If a number is out of range, or the shape fits neither the scales nor the likelihood.
    """

    kinds = ("image",)
    discrete = True
    class_probabilities: Tensor | None

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        likelihood: str = "discretized_logistic_mixture",
        width: int = 32,
        depth: int = 1,
        num_scales: int = 3,
        num_components: int = MIXTURES,
        num_classes: int | None = None,
        dropout: float = 0.0,
        lr: float = 4e-3,
        betas: Sequence[float] = (0.9, 0.99),
        warmup_steps: int = 200,
        decay_steps: int | None = None,
        clip: float = 1.0,
    ) -> None:
        super().__init__()
        if likelihood not in RANGES:
            raise ValueError(f"likelihood={likelihood!r} is not one of {', '.join(RANGES)}.")
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes={num_classes} must be at least 1, or null for a model without classes.")
        if lr <= 0 or clip <= 0 or warmup_steps < 0:
            raise ValueError(f"lr={lr} > 0, clip={clip} > 0 and warmup_steps={warmup_steps} >= 0 must hold.")
        if decay_steps is not None and decay_steps <= warmup_steps:
            raise ValueError(
                f"decay_steps={decay_steps} must be over warmup_steps={warmup_steps}, or null for no decay."
            )
        if len(shape) != 3 or any(size < 1 for size in shape):
            raise ValueError(f"shape={list(shape)} must be (channels, height, width).")
        if likelihood == "bernoulli" and shape[0] != 1:
            raise ValueError(f"shape={list(shape)}: the Bernoulli likelihood models one channel of bits.")
        bernoulli = likelihood == "bernoulli"
        num_parameters = 1 if bernoulli else num_logistic_parameters(shape[0], num_components)
        self.save_hyperparameters()
        self.value_range = RANGES[likelihood]
        self.network = PixelCNN(shape, num_parameters, width, depth, num_scales, num_classes, dropout)
        if not bernoulli:
            self.spread_components(shape[0], num_components)
        self.register_buffer(
            "class_probabilities", None if num_classes is None else torch.full((num_classes,), 1 / num_classes)
        )
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def spread_components(self, channels: int, mixtures: int) -> None:
        """Starts with means all over [-1, 1]: components that begin alike stay alike for long."""
        bias = self.network.head.bias
        means = bias[mixtures : mixtures * (1 + channels)].view(channels, mixtures)
        means.copy_(torch.linspace(-1, 1, mixtures + 2)[1:-1].expand_as(means))
        bias[mixtures * (1 + channels) : mixtures * (1 + 2 * channels)].fill_(FIRST_LOG_SCALE)

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Shape, and the likelihood by the range of the data. Classes are opt-in: ``num_classes=...``."""
        binary = spec.value_range is not None and tuple(spec.value_range) == RANGES["bernoulli"]
        return {"shape": list(spec.shape), "likelihood": "bernoulli" if binary else "discretized_logistic_mixture"}

    def check_data(self, spec: DataSpec) -> None:
        """Compares the likelihood with the data's range too.

        Raises:
            ValueError: Naming the module's value and the data's.
        """
        if spec.value_range is not None and tuple(spec.value_range) != self.value_range:
            wanted = self.hparams["likelihood"]
            other = next(name for name in RANGES if name != wanted)
            setting = "binarize=True" if wanted == "bernoulli" else "binarize=False"
            raise ValueError(
                f"likelihood={wanted!r} is of pictures in {list(RANGES[wanted])}, but {spec.name} yields "
                f"{list(spec.value_range)}; build the datamodule with {setting}, or the model with "
                f"likelihood={other!r}."
            )
        super().check_data(spec)

    def setup(self, stage: str) -> None:
        """Takes the class frequencies of the data, by which unlabelled requests are answered."""
        super().setup(stage)
        counts = self.data_spec.class_counts if self.data_spec is not None else ()
        if self.class_probabilities is not None and counts:
            weights = torch.tensor(counts, dtype=torch.float32, device=self.class_probabilities.device)
            self.class_probabilities.copy_(weights / weights.sum())

    def on_fit_start(self) -> None:
        """Refuses a run that goes on after its learning rate has reached zero.

        Raises:
            ValueError: If ``max_steps`` is beyond ``decay_steps``.
        """
        decay_steps, max_steps = self.hparams["decay_steps"], self.trainer.max_steps
        if decay_steps is not None and max_steps > decay_steps:
            raise ValueError(
                f"max_steps={max_steps} goes beyond decay_steps={decay_steps}, where the learning rate reaches "
                f"zero; set decay_steps={max_steps} (--model.decay_steps), or null."
            )

    def problem_with(self, batch: Sequence[Tensor]) -> str | None:
        """Says too which value is outside the support of the likelihood."""
        if torch.isfinite(batch[0]).all() and (problem := self.outside_support(batch[0])) is not None:
            return f"{type(self).__name__}: {problem}"
        return super().problem_with(batch)

    def outside_support(self, x: Tensor) -> str | None:
        """Says in a sentence which value of ``x`` the likelihood gives no mass to, if there is one."""
        return not_binary(x) if self.hparams["likelihood"] == "bernoulli" else not_on_256_bins(x)

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """The one network there is."""
        return {"network": self.network}

    def forward(self, x: Tensor, labels: Tensor | None = None, uniform: Callable[..., Tensor] | None = None) -> Tensor:
        """Maps pictures (N, C, H, W) to the parameters of all their conditionals, (N, P, H, W).

        Args:
            x: Pictures in the range of the data.
            labels: int64 (N,), for a class-conditional model.
            uniform: Draws the dropout of training; ``None`` for evaluation.
        """
        return self.network(self.centred(x).contiguous(memory_format=torch.channels_last), labels, uniform)

    def centred(self, x: Tensor) -> Tensor:
        """Returns what the network sees: values in [-1, 1], bits too."""
        return 2 * x - 1 if self.hparams["likelihood"] == "bernoulli" else x

    def log_prob_given(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Returns log p(x) in nats, (N,), from what ``forward`` made of x."""
        if self.hparams["likelihood"] == "bernoulli":
            return bernoulli_log_prob(parameters.float(), x)
        return discretized_logistic_mixture_log_prob(parameters.float(), x)

    def known_labels(self, labels: Tensor | None) -> Tensor | None:
        """Returns the labels for a class-conditional model, ``None`` for another."""
        return None if self.class_probabilities is None else labels

    def log_prob(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns the exact log p(x), or log p(x | y), in nats per picture, (N,).

        Args:
            x: Pictures (N, C, H, W) in the range of the data, on its grid.
            labels: int64 (N,), for a class-conditional model.

        Raises:
            ValueError: Unless there is one label a picture for a class-conditional model, and none for another.
        """
        if labels is not None or self.class_probabilities is not None:
            labels = check_labels(labels, len(x), self.class_probabilities)
        return self.log_prob_given(self(x, labels), x)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """-log p(x) in nats per dimension; logs it per picture too."""
        if batch_idx == 0:
            self.check_batch(batch)
        x, labels = batch[0], self.known_labels(batch[1] if len(batch) > 1 else None)
        nll = -self.log_prob_given(self(x, labels, self.noise.uniform), x).mean()
        return self.objective({"nll_per_dim": nll / self.num_dimensions})

    def negative_log_likelihood(self, x: Tensor, labels: Tensor, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Exact, nats per picture."""
        return {"exact": -self.log_prob(x, self.known_labels(labels))}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with a warm-up and a cosine that are functions of the batch alone."""
        optimizer = fused_if_possible(
            torch.optim.Adam, self.parameters(), lr=self.hparams["lr"], betas=tuple(self.hparams["betas"])
        )
        warmup_steps, decay_steps = self.hparams["warmup_steps"], self.hparams["decay_steps"]

        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / warmup_steps
            if decay_steps is None:
                return 1.0
            done = min(1.0, (step - warmup_steps) / (decay_steps - warmup_steps))
            return 0.5 * (1 + math.cos(math.pi * done))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Shortens gradients that are longer than ``clip``."""
        nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val or self.hparams["clip"])

    # Sampling

    def sample(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        temperature: float = 1.0,
        mean: bool = False,
        cached: bool = True,
    ) -> Tensor:
        """Draws pictures, (num_samples, C, H, W): 256 grey values on [-1, 1], or bits in {0, 1}.

        Args:
            num_samples: How many, at least 1.
            labels: Classes to draw, int64 (num_samples,), for a class-conditional model; ``None`` draws them by
                their frequency in training.
            generator: Source of all randomness; ``None`` takes a fresh seed from the system.
            temperature: Divides the logits of weights and bits and multiplies the scales; below 1 draws are more
                likely ones.
            mean: Return p(x_i = 1 | x_1, ..., x_{i-1}) along the draw instead of its bits; bits only.
            cached: Keep all activations but those of the newest pixel. ``False`` passes the whole picture through
                the network for every pixel: the same draws, a hundred times slower.

        Raises:
            ValueError: If ``num_samples`` or ``temperature`` is not positive, ``labels`` do not fit the model, or
                means are asked of grey values.
        """
        check_num_samples(num_samples)
        generator = generator or new_generator()
        labels = choose_labels(labels, num_samples, self.class_probabilities, generator)
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
        """Draws the unknown pixels of pictures and keeps the known ones: the lower half given the upper one.

        Each unknown pixel is drawn given all pixels before it in raster order. Where the known pixels are the first
        ones, as whole rows from the top are, these are exact draws of p(unknown | known); otherwise known pixels say
        nothing about unknown ones before them.

        Args:
            x: Pictures (N, C, H, W) in the range of the data.
            known_rows: Rows from the top that are kept; this or ``mask``.
            mask: Where pixels are known, bool (H, W), the same for all pictures.
            labels: Classes, int64 (N,), for a class-conditional model; ``None`` draws them by frequency.
            generator: Source of all randomness; ``None`` takes a fresh seed from the system.
            temperature: As in ``sample``.
            cached: As in ``sample``.

        Raises:
            ValueError: If not exactly one of ``known_rows`` and ``mask`` is given, or an argument does not fit.
        """
        shape = tuple(self.hparams["shape"])
        if x.dim() != 4 or tuple(x.shape[1:]) != shape or len(x) < 1:
            raise ValueError(f"x must be pictures (N, {', '.join(map(str, shape))}), not {tuple(x.shape)}.")
        if (known_rows is None) == (mask is None):
            raise ValueError("Give either known_rows (from the top) or mask (bool, (height, width)).")
        if mask is None:
            if known_rows is None or not 0 <= known_rows <= shape[1]:
                raise ValueError(f"known_rows={known_rows} must lie in [0, {shape[1]}].")
            mask = (torch.arange(shape[1]) < known_rows)[:, None].expand(shape[1:])
        if mask.dtype != torch.bool or tuple(mask.shape) != shape[1:]:
            raise ValueError(f"mask must be bool of {shape[1:]}, not {mask.dtype} of {tuple(mask.shape)}.")
        if (problem := self.outside_support(x[:, :, mask.to(x.device)])) is not None:
            raise ValueError(f"The known pixels of x: {problem}")
        generator = generator or new_generator()
        labels = choose_labels(labels, len(x), self.class_probabilities, generator)
        return self.fill(x.to(self.device), mask.cpu(), labels, generator, temperature, False, cached)

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
        """Draws the pixels of ``x`` that are not ``known``, in chunks; see ``sample`` and ``complete``."""
        if not temperature > 0:
            raise ValueError(f"temperature={temperature} must be positive.")
        bits = self.hparams["likelihood"] == "bernoulli"
        if mean and not bits:
            raise ValueError("mean=True is of bits: the mean of a mixture of logistics is no likely grey value.")
        num, channels, height, width = x.shape
        draws = 1 if bits else 1 + channels
        # One row of numbers a picture, so that the i-th picture is the same whatever the chunks.
        uniform = torch.rand(num, height * width, draws, generator=generator, device=generator.device).to(x.device)
        filled = []
        with (
            evaluating(self),
            torch.autocast(x.device.type, enabled=False),
            tqdm(
                total=num * height * width, desc="sampling", unit="pixel", unit_scale=True, leave=False, disable=None
            ) as bar,
        ):
            for part in torch.arange(num).split(CHUNK):
                chosen = slice(int(part[0]), int(part[-1]) + 1)
                part_labels = None if labels is None else labels[chosen]
                filled.append(
                    self.fill_chunk(x[chosen], known, part_labels, uniform[chosen], temperature, mean, cached, bar)
                )
        return torch.cat(filled)

    def fill_chunk(
        self,
        x: Tensor,
        known: Tensor,
        labels: Tensor | None,
        uniform: Tensor,
        temperature: float,
        mean: bool,
        cached: bool,
        bar: Any,
    ) -> Tensor:
        """Draws the unknown pixels of a few pictures, in raster order."""
        num, _, height, width = x.shape
        filled = x.clone()
        passes = (CachedPasses if cached else FullPasses)(self.network, num, labels)
        for row in range(height):
            for column in range(width):
                parameters = passes.parameters_at(row, column)
                pixel = filled[:, :, row, column]
                if not known[row, column]:
                    pixel = self.draw(parameters, uniform[:, row * width + column], temperature)
                    filled[:, :, row, column] = parameters.sigmoid() if mean else pixel
                passes.put(row, column, self.centred(pixel))
            bar.update(num * width)
        return filled

    def draw(self, parameters: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Draws one pixel (N, C) of each picture from its parameters (N, P) and uniform numbers (N, 1 or 1 + C)."""
        if self.hparams["likelihood"] == "bernoulli":
            return (uniform < torch.sigmoid(parameters / temperature)).to(parameters.dtype)
        return sample_discretized_logistic_mixture(parameters, uniform[:, 0], uniform[:, 1:], temperature)
