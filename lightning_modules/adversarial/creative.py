"""Creative adversarial network: images that pass as real, of a style that the discriminator cannot name.

The discriminator also classifies the style of real examples. The generator is rewarded for being taken for real and, at
the same time, for leaving the style undecided: the cross-entropy between the uniform distribution over the K styles and
the style posterior of a generated example is least, ln K, exactly where that posterior is uniform.

NOTE: The cross-entropy is the categorical one, -1/K sum_k log D_c(k | G(z)). Eq. 2 of the paper sums K binary ones,
which add -(1 - 1/K) log(1 - D_c(k | G(z))) for each style and have the same minimiser; the generator's first term is
that of the paper's Algorithm 1, -log D, not log(1 - D). The style head is linear, the paper's has three layers. What is
ambiguous to the discriminator need not look new to people.

CAN: Creative Adversarial Networks (Elgammal et al., 2017), https://arxiv.org/abs/1706.07068
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from datamodules.spec import Batch, DataSpec
from lightning_modules.adversarial.generator_samples import SamplesByGenerator
from lightning_modules.adversarial.players import players, two_adams
from lightning_modules.networks.style_head import with_style_head
from lightning_modules.parts.checks import as_count
from lightning_modules.parts.constraints import spectrally_normalized
from lightning_modules.parts.games import NON_SATURATING, in_full_precision
from lightning_modules.parts.noise import fixed_normal
from lightning_modules.parts.schedules import linear_decay
from lightning_modules.runtime.flags import refuse_coarse_precision


def cross_entropy_to_uniform(logits: Tensor) -> Tensor:
    """-1/K sum_k log p_k of each posterior p = softmax(logits), (N, K) to (N,), in nats; at least ln K."""
    return logits.logsumexp(1) - logits.mean(1)


def style_ambiguity(posterior: Tensor) -> Tensor:
    """Entropy of each posterior over ln K, (N, K) to (N,): 0 where one style is certain, 1 where all are as likely."""
    return torch.special.entr(posterior).sum(1) / math.log(posterior.shape[1])


class CreativeAdversarialNetwork(SamplesByGenerator):
    """Non-saturating game, and ambiguity of style: -log D(G(z)) - lambda / K sum_k log D_c(k | G(z)).

    Styles are the labels of the data. It samples without labels.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"``, ``"resnext"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        discriminator_width: Width of the discriminator instead of ``width``, or ``None``.
        num_styles: Number of styles K, the classes of the data.
        style_weight: Weight of the cross-entropy of the styles of real examples in the discriminator's loss.
        ambiguity_weight: lambda, the weight of the ambiguity in the generator's loss; 0 for a non-saturating GAN.
        batch_norm: Batch normalisation in the discriminator (dcgan only).
        spectral_norm: Normalises the discriminator's weights.
        lr: Learning rate of both players.
        discriminator_lr: Learning rate of the discriminator instead of ``lr``, or ``None``.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        clip_norm: Largest norm of each player's gradient, or ``None``.
        compile: Compiles both networks; penalties run uncompiled.

    Raises:
        ValueError: If a number is out of range, or the architecture does not fit ``shape``.
    """

    value_range = (-1.0, 1.0)
    labels_are = "num_styles"

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        discriminator_width: int | None = None,
        num_styles: int = 10,
        style_weight: float = 1.0,
        ambiguity_weight: float = 1.0,
        batch_norm: bool = False,
        spectral_norm: bool = False,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.5, 0.999),
        decay_steps: int | None = None,
        clip_norm: float | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(None, linear_decay(decay_steps), clip_norm)
        as_count("num_styles", num_styles, 2)
        if not 0 <= ambiguity_weight < math.inf or not 0 < style_weight < math.inf:
            raise ValueError(
                f"ambiguity_weight={ambiguity_weight} must be at least 0 and finite, and style_weight={style_weight} "
                "positive and finite."
            )
        self.automatic_optimization = False
        self.latent_dim, self.num_styles = latent_dim, num_styles
        self.style_weight, self.ambiguity_weight = style_weight, ambiguity_weight
        networks = players(architecture, shape, latent_dim, width, None, discriminator_width, batch_norm=batch_norm)
        self.generator = networks["generator"]
        self.discriminator = with_style_head(networks["discriminator"], num_styles)
        if spectral_norm:
            spectrally_normalized(self.discriminator)
        self.build_optimizers = two_adams(lr, betas, discriminator_lr)
        self.save_hyperparameters()
        self.to(memory_format=torch.channels_last)
        if compile:
            self.generator.compile()
            self.discriminator.compile()

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns shape, number of styles and architecture: an MLP for points.

        Raises:
            ValueError: If the data have no classes.
        """
        if spec.num_classes is None:
            raise ValueError(
                f"A {cls.__name__} needs classes, its styles, and {spec.name} has none: sort the images of a "
                "folder into one sub-folder for each."
            )
        architecture = "dcgan" if spec.kind == "image" else "mlp"
        return {"shape": list(spec.shape), "num_styles": spec.num_classes, "architecture": architecture}

    def data_problem(self, spec: DataSpec) -> str | None:
        """Compares the styles with the classes of the data."""
        if spec.num_classes == self.num_styles:
            return None
        classes = "null" if spec.num_classes is None else spec.num_classes
        return f"was built for num_styles={self.num_styles}, but {spec.name} has num_classes={classes}."

    def on_fit_start(self) -> None:
        """Raises ValueError for a precision that overflows."""
        super().on_fit_start()
        refuse_coarse_precision(self.trainer, penalised=False)

    def forward(self, z: Tensor) -> Tensor:
        """Maps codes (N, latent_dim) to examples (N, *shape)."""
        return self.generator(z, None)

    def judged(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the logits of being real (N,) and of the styles (N, num_styles), not in half precision."""
        realness, styles = self.discriminator(x, None)
        return in_full_precision(realness), in_full_precision(styles)

    def style_posterior(self, x: Tensor) -> Tensor:
        """Returns the discriminator's probabilities of the styles of examples, (N, num_styles), in evaluation mode.

        Raises:
            ValueError: If x are no examples (N, *shape), images in [-1, 1].
        """
        return self.in_chunks(lambda part, _: self.judged(part)[1].softmax(1), self.examples(x), None)

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """Returns the generator, the only network that sampling uses."""
        return {"generator": self.generator}

    # Training

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Makes one step of the discriminator, then one of the generator."""
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        with self.counted_batch(generator_optimizer, discriminator_optimizer):
            with self.toggled_optimizer(discriminator_optimizer):
                self.descend(discriminator_optimizer, self.discriminator_losses(batch), clip_norm=self.clip_norm)
            with self.toggled_optimizer(generator_optimizer):
                self.descend(generator_optimizer, self.generator_losses(len(batch.x)), clip_norm=self.clip_norm)

    def discriminator_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns -E log D(x) - E log(1 - D(G(z))), and the weighted cross-entropy of the styles of real examples."""
        assert batch.labels is not None
        with torch.no_grad():
            fake = self.draw_fakes(len(batch.x))
        with parametrize.cached():  # one power iteration for both
            (real_logits, styles), (fake_logits, _) = self.judged(channels_last(batch.x)), self.judged(fake)
        return {
            "discriminator": NON_SATURATING.discriminator(real_logits, fake_logits),
            "style": self.style_weight * F.cross_entropy(styles, batch.labels),
        }

    def generator_losses(self, num: int) -> dict[str, Tensor]:
        """Returns -E log D(G(z)), and lambda times the cross-entropy to the uniform distribution, of new examples."""
        logits, styles = self.judged(self.draw_fakes(num))
        ambiguity = cross_entropy_to_uniform(styles).mean()
        return {"generator": NON_SATURATING.generator(logits), "ambiguity": self.ambiguity_weight * ambiguity}

    def draw_fakes(self, num: int) -> Tensor:
        """Generates examples for training, with gradients if they are enabled."""
        return self(self.noise.normal(num, self.latent_dim, device=self.device).to(self.dtype))

    def held_out(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Tensor]:
        """Measures ``style_ambiguity``, ``style_accuracy`` and ``discriminator_loss``.

        The first is the entropy of the style posterior of generated examples over ln K, in [0, 1]; the second that of
        real ones, in [0, 1]; the third is the value of the game, without styles.
        """
        assert batch.labels is not None
        fake = self.decode(fixed_normal(indices, self.latent_dim))
        (real_logits, real_styles), (fake_logits, fake_styles) = self.judged(channels_last(batch.x)), self.judged(fake)
        loss = NON_SATURATING.discriminator(real_logits, fake_logits)
        return {
            "discriminator_loss": loss.expand(len(batch.x)),
            "style_accuracy": (real_styles.argmax(1) == batch.labels).float(),
            "style_ambiguity": style_ambiguity(fake_styles.softmax(1)),
        }

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the generator's optimizer, then the discriminator's: the order is part of the checkpoint format."""
        return self.scheduled_manually(
            self.build_optimizers["generator_optimizer"](list(self.generator.parameters())),
            self.build_optimizers["discriminator_optimizer"](list(self.discriminator.parameters())),
        )


def channels_last(x: Tensor) -> Tensor:
    """Returns images in the memory format of the networks, points as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
