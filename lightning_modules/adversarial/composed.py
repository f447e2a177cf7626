"""Any combination of the parts by name: a game nobody has named yet is a recipe, not a class."""

from collections.abc import Mapping, Sequence
from functools import partial

from lightning_modules.adversarial.build import adam, players
from lightning_modules.adversarial.loop import AdversarialModule, unconstrained
from lightning_modules.parts.constraints import clip_weights, spectrally_normalized
from lightning_modules.parts.games import GAMES
from lightning_modules.parts.penalties import PENALTIES
from lightning_modules.parts.schedules import EveryNth


class ComposedGAN(AdversarialModule):
    """A GAN put together from named parts, such as a hinge game with spectral norm and an R1 penalty.

    Args:
        shape: (C, H, W) of pictures in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at their widest picture; see each architecture.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        game: ``"minimax"``, ``"non_saturating"``, ``"wasserstein"`` or ``"hinge"``.
        penalties: Name of a penalty to its weight, ``{"gradient_penalty": 10.0, "r1": 1.0}``.
        spectral_norm: Normalises the discriminator's weights.
        clip: Bound on every weight of the discriminator after each step, or ``None``.
        batch_norm: Batch normalisation in the discriminator (dcgan only).
        critic_steps: Discriminator steps a generator step.
        lr: Adam's learning rate.
        discriminator_lr: Adam's learning rate of the discriminator; ``None`` for ``lr``.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        compile: Compiles both networks.

    Raises:
        ValueError: If a part is unknown (the message lists those there are), or two of them contradict.
    """

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
        clip: float | None = None,
        batch_norm: bool = False,
        critic_steps: int = 1,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.5, 0.999),
        decay_steps: int | None = None,
        compile: bool = False,
    ) -> None:
        if game not in GAMES:
            raise ValueError(f"game={game!r} is not one of {', '.join(GAMES)}.")
        if unknown := sorted(set(penalties or {}) - set(PENALTIES)):
            raise ValueError(f"penalties has {', '.join(unknown)}; there are {', '.join(PENALTIES)}.")
        if any(weight < 0 for weight in (penalties or {}).values()):
            raise ValueError(f"penalties={dict(penalties or {})} must not have negative weights.")
        if clip is not None and (clip <= 0 or spectral_norm):
            raise ValueError(f"clip={clip} must be positive, and goes without spectral_norm, which rescales weights.")
        networks = players(architecture, shape, latent_dim, width, num_classes, batch_norm=batch_norm)
        if spectral_norm:
            spectrally_normalized(networks["discriminator"])
        super().__init__(
            game=GAMES[game],
            penalties={name: (weight, PENALTIES[name]) for name, weight in (penalties or {}).items()},
            constrain=unconstrained if clip is None else partial(clip_weights, bound=clip),
            schedule=EveryNth(critic_steps),
            decay_steps=decay_steps,
            compile=compile,
            **networks,
            **adam(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()
