"""Instance noise: the discriminator sees real and generated examples through the same Gaussian noise.

Two distributions without common support can be told apart perfectly, and then no gradient says in which direction to
move. Convolved with N(0, gamma I) they overlap everywhere, so that the optimal discriminator is smooth (eq. 1.40). The
noise fades in the course of training, because with it the generator matches the convolved distribution only.

NOTE: In high dimensions much noise is needed for an overlap, and its samples make the gradient noisy, too. Roth et al.
(2017) replace it by its second-order expansion; see ``RothGAN``.

Amortised MAP Inference for Image Super-resolution (Sonderby et al., 2016), https://arxiv.org/abs/1610.04490
"""

from collections.abc import Mapping, Sequence

from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.adversarial.players import common, players, two_adams
from lightning_modules.parts.checks import check_positive
from lightning_modules.parts.corruption import InstanceNoise
from lightning_modules.parts.games import NON_SATURATING
from lightning_modules.parts.schedules import changing


class InstanceNoiseGAN(AdversarialModule):
    """min_G max_D F(p * N(0, gamma I), q * N(0, gamma I)), eq. 1.40, gamma = ``instance_noise`` squared and fading.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"``, ``"resnext"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        discriminator_width: Width of the discriminator instead of ``width``, or ``None``.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        num_words: Number of words of the captions for a game conditional on these, or ``None``.
        instance_noise: Standard deviation of the noise on inputs of the discriminator, at the start.
        noise_steps: Batches after which the noise has fallen linearly to zero, or ``None`` for constant noise.
        batch_norm: Batch normalisation in the discriminator (dcgan only).
        critic_steps: Discriminator steps per generator step.
        lr: Learning rate of both players.
        discriminator_lr: Learning rate of the discriminator instead of ``lr``, or ``None``.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        clip_norm: Largest norm of each player's gradient, or ``None``.
        accumulate_batches: Batches whose gradients are accumulated for one step of each player.
        compile: Compiles both networks; penalties run uncompiled.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        discriminator_width: int | None = None,
        num_classes: int | None = None,
        num_words: int | None = None,
        instance_noise: float = 0.1,
        noise_steps: int | None = None,
        batch_norm: bool = False,
        critic_steps: int = 1,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.5, 0.999),
        decay_steps: int | None = None,
        clip_norm: float | None = None,
        accumulate_batches: int = 1,
        compile: bool = False,
    ) -> None:
        check_positive(instance_noise=instance_noise)
        super().__init__(
            game=NON_SATURATING,
            corrupt=InstanceNoise(changing(instance_noise, 0.0, noise_steps, name="noise_steps")),
            **common(critic_steps, decay_steps, clip_norm, accumulate_batches, compile),
            **players(
                architecture,
                shape,
                latent_dim,
                width,
                num_classes,
                discriminator_width,
                num_words=num_words,
                batch_norm=batch_norm,
            ),
            **two_adams(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()

    def horizons(self) -> Mapping[str, int | None]:
        """Returns the number of batches after which the noise is zero."""
        return {"noise_steps": self.hparams["noise_steps"]}
