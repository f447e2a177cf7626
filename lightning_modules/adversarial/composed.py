"""A GAN composed of named parts: a new combination of parts needs a recipe, not a class."""

from collections.abc import Mapping, Sequence
from functools import partial

from lightning_modules.adversarial.loop import AdversarialModule, unconstrained
from lightning_modules.adversarial.players import common, players, two_adams
from lightning_modules.parts.constraints import clip_weights, spectrally_normalized
from lightning_modules.parts.games import GAMES
from lightning_modules.parts.penalties import PENALTIES


class ComposedGAN(AdversarialModule):
    """A GAN composed of named parts, such as a hinge game with spectral norm and an R1 penalty.

    ``game`` is ``"minimax"``, ``"non_saturating"``, ``"wasserstein"`` or ``"hinge"``. Parts that are ``None`` are left
    out.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        game: Name of the losses of both players.
        penalties: Name of a penalty to its weight, ``{"gradient_penalty": 10.0, "r1": 1.0}``.
        spectral_norm: Normalises the discriminator's weights.
        weight_clip: Bound on every weight of the discriminator after each of its steps.
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
        ValueError: If a part is unknown (the message lists the known ones), or two parts exclude each other.
    """

    renamed_hyperparameters: Mapping[str, str] = {"clip": "weight_clip"}

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        num_classes: int | None = None,
        game: str = "non_saturating",
        penalties: Mapping[str, float] | None = None,
        spectral_norm: bool = False,
        weight_clip: float | None = None,
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
        if game not in GAMES:
            raise ValueError(f"game={game!r} is not one of {', '.join(GAMES)}.")
        if unknown := sorted(set(penalties or {}) - set(PENALTIES)):
            raise ValueError(f"penalties: {', '.join(unknown)} is not one of {', '.join(PENALTIES)}.")
        if weight_clip is not None and (weight_clip <= 0 or spectral_norm):
            raise ValueError(
                f"weight_clip={weight_clip} must be positive, and excludes spectral_norm, which rescales weights."
            )
        networks = players(architecture, shape, latent_dim, width, num_classes, batch_norm=batch_norm)
        if spectral_norm:
            spectrally_normalized(networks["discriminator"])
        super().__init__(
            game=GAMES[game],
            penalties={name: (weight, PENALTIES[name]) for name, weight in (penalties or {}).items()},
            constrain=unconstrained if weight_clip is None else partial(clip_weights, bound=weight_clip),
            **common(critic_steps, decay_steps, clip_norm, accumulate_batches, compile),
            **networks,
            **two_adams(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()
