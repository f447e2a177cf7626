"""A GAN composed of named parts: a new combination of parts needs a recipe, not a class."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from datamodules.spec import DataSpec
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.adversarial.players import augmentation, common, players, two_adams
from lightning_modules.parts.augmentation import unchanged
from lightning_modules.parts.checks import check_counts, check_has_effect, check_positive
from lightning_modules.parts.clamping import JacobianClamping
from lightning_modules.parts.constraints import clip_weights, spectrally_normalized, unconstrained
from lightning_modules.parts.corruption import InstanceNoise
from lightning_modules.parts.games import CROSS_ENTROPY_GAMES, GAMES
from lightning_modules.parts.penalties import PENALTIES, WeightedTerm
from lightning_modules.parts.schedules import changing


class ComposedGAN(AdversarialModule):
    """A GAN composed of named parts, such as a hinge game with spectral norm and an R1 penalty.

    ``game`` is ``"minimax"``, ``"non_saturating"``, ``"wasserstein"``, ``"hinge"``, ``"least_squares"`` or
    ``"relativistic"``; penalties are ``"gradient_penalty"``, ``"r1"``, ``"r2"`` and ``"roth"``. Parts that are ``None``
    are left out.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"``, ``"resnext"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        discriminator_width: Width of the discriminator instead of ``width``, or ``None``.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        num_words: Number of words of the captions for a game conditional on these, or ``None``.
        game: Name of the losses of both players.
        penalties: Name of a penalty to its weight, ``{"gradient_penalty": 10.0, "r1": 1.0}``.
        lazy_every: Batches per computation of the penalties on the discriminator, whose weights are multiplied by it.
        spectral_norm: Normalises the discriminator's weights.
        weight_clip: Bound on every weight of the discriminator after each of its steps.
        instance_noise: Standard deviation of the noise on inputs of the discriminator, at the start.
        noise_steps: Batches after which the noise has fallen linearly to zero, or ``None`` for constant noise.
        augment: Names of differentiable augmentations of all inputs of the discriminator, ``["translation"]``, or
            ``None``; images only.
        augment_probability: Probability of each augmentation of each example.
        jacobian_clamping: Weight of the penalty on changes of the generator outside of the two bounds.
        lambda_min: Least change of the generator's output per unit of the code that is not penalised.
        lambda_max: Largest change of the generator's output per unit of the code that is not penalised.
        clamp_epsilon: Distance of the two codes between which the change is measured.
        clamp_fraction: Part of the batch on which it is measured, 1 over a whole number.
        batch_norm: Batch normalisation in the discriminator (dcgan only).
        critic_steps: Discriminator steps per generator step.
        lr: Learning rate of both players.
        discriminator_lr: Learning rate of the discriminator instead of ``lr``, or ``None``.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        clip_norm: Largest norm of each player's gradient, or ``None``.
        accumulate_batches: Batches whose gradients are accumulated for one step of each player.
        compile: Compiles both networks; penalties run uncompiled.

    Raises:
        ValueError: If a part is unknown (the message lists the known ones), two parts exclude each other, or a setting
            is given without the part that it belongs to.
    """

    renamed_hyperparameters: Mapping[str, str] = {"clip": "weight_clip"}

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        discriminator_width: int | None = None,
        num_classes: int | None = None,
        num_words: int | None = None,
        game: str = "non_saturating",
        penalties: Mapping[str, float] | None = None,
        lazy_every: int = 1,
        spectral_norm: bool = False,
        weight_clip: float | None = None,
        instance_noise: float | None = None,
        noise_steps: int | None = None,
        augment: Sequence[str] | None = None,
        augment_probability: float = 1.0,
        jacobian_clamping: float | None = None,
        lambda_min: float = 1.0,
        lambda_max: float = 20.0,
        clamp_epsilon: float = 1.0,
        clamp_fraction: float = 1.0,
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
        check_parts(game, penalties or {}, spectral_norm, weight_clip)
        check_counts(lazy_every=lazy_every)
        bounds = {"lambda_min": (lambda_min, 1.0), "lambda_max": (lambda_max, 20.0)}
        clamp = {"clamp_epsilon": (clamp_epsilon, 1.0), "clamp_fraction": (clamp_fraction, 1.0)}
        check_has_effect("penalties", penalties, {"lazy_every": (lazy_every, 1)})
        check_has_effect("instance_noise", instance_noise, {"noise_steps": (noise_steps, None)})
        check_has_effect("jacobian_clamping", jacobian_clamping, {**bounds, **clamp})
        clamping = JacobianClamping(lambda_min, lambda_max, clamp_epsilon, clamp_fraction)
        networks = players(
            architecture,
            shape,
            latent_dim,
            width,
            num_classes,
            discriminator_width,
            num_words=num_words,
            batch_norm=batch_norm,
        )
        if spectral_norm:
            spectrally_normalized(networks["discriminator"])
        noise = None if instance_noise is None else changing(instance_noise, 0.0, noise_steps, name="noise_steps")
        super().__init__(
            game=GAMES[game],
            penalties={name: WeightedTerm(w, PENALTIES[name], lazy_every) for name, w in (penalties or {}).items()},
            generator_penalties=(
                None if jacobian_clamping is None else {"jacobian_clamping": (jacobian_clamping, clamping)}
            ),
            constrain=unconstrained if weight_clip is None else partial(clip_weights, bound=weight_clip),
            corrupt=unchanged if noise is None else InstanceNoise(noise),
            **augmentation(augment, augment_probability, shape),
            **common(critic_steps, decay_steps, clip_norm, accumulate_batches, compile),
            **networks,
            **two_adams(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns shape and architecture, and for points no augmentations, which are of images."""
        return super().hyperparameters_for(spec) | ({} if spec.kind == "image" else {"augment": None})

    def horizons(self) -> Mapping[str, int | None]:
        """Returns the number of batches after which the noise is zero."""
        return {"noise_steps": self.hparams["noise_steps"]}


def check_parts(game: str, penalties: Mapping[str, float], spectral_norm: bool, weight_clip: float | None) -> None:
    """Raises ValueError for a part that is unknown, and for two that exclude each other."""
    if game not in GAMES:
        raise ValueError(f"game={game!r} is not one of {', '.join(GAMES)}.")
    if unknown := sorted(map(str, set(penalties) - set(PENALTIES))):
        raise ValueError(f"penalties={dict(penalties)}: {', '.join(unknown)} is not one of {', '.join(PENALTIES)}.")
    check_positive(**{f"penalties.{name}": weight for name, weight in penalties.items()})
    if "roth" in penalties and game not in CROSS_ENTROPY_GAMES:
        raise ValueError(
            f"The penalty roth belongs to a game whose logits are those of a probability, not to game={game!r}: use "
            f"{' or '.join(CROSS_ENTROPY_GAMES)}, or the penalties r1 and r2."
        )
    if weight_clip is not None and (not weight_clip > 0 or spectral_norm):
        raise ValueError(
            f"weight_clip={weight_clip} must be positive, and excludes spectral_norm, which rescales weights."
        )
