"""R3GAN: a relativistic game with both zero-centred gradient penalties, and residual networks of today without tricks.

Each generated example is compared with a real one, so that the generator cannot satisfy the discriminator by moving all
examples past one boundary, which is how modes get lost. Such a game need not converge by itself; R1 on real and R2 on
generated examples make it locally convergent. Learning rates, Adam's second decay rate, gamma and the probability of
augmentations change as a cosine over ``schedule_steps`` batches.

NOTE: ``lazy_every=1`` computes the penalties in every batch, as the paper does; 8 is ours: with eight times the weight
it costs a fraction, and its effect is the same on average. The networks are the paper's scaled down, see
``networks.resnext``; the augmentations are those of DiffAugment in place of the paper's.

The GAN is dead; long live the GAN! A Modern GAN Baseline (Huang et al., 2024), https://arxiv.org/abs/2501.05441
"""

from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.spec import DataSpec
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.adversarial.players import augmentation, common, players, two_adams
from lightning_modules.parts.checks import check_counts, check_has_effect, check_positive
from lightning_modules.parts.games import RELATIVISTIC
from lightning_modules.parts.penalties import WeightedTerm, r1, r2
from lightning_modules.parts.schedules import changing


class R3GAN(AdversarialModule):
    """E softplus(-(D(x) - D(G(z)))) + gamma / 2 (R1 + R2) for D, and E softplus(-(D(G(z)) - D(x))) for G.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"``, ``"resnext"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        discriminator_width: Width of the discriminator instead of ``width``, or ``None``.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        num_words: Number of words of the captions for a game conditional on these, or ``None``.
        gamma: Weight of the penalty at the start: the loss has gamma / 2 times the squared norms of gradients.
        gamma_end: gamma after ``schedule_steps`` batches.
        lazy_every: Batches per computation of the penalties on the discriminator, whose weights are multiplied by it.
        augment: Names of differentiable augmentations of all inputs of the discriminator, ``["translation"]``, or
            ``None``; images only.
        augment_end: Probability of each augmentation after ``schedule_steps`` batches; it starts at 0.
        critic_steps: Discriminator steps per generator step.
        lr: Learning rate of both players.
        lr_end: Learning rate after ``schedule_steps`` batches; one that is the discriminator's own falls in the same
            ratio, to ``discriminator_lr * lr_end / lr``.
        discriminator_lr: Learning rate of the discriminator instead of ``lr``, or ``None``.
        betas: Adam's decay rates.
        beta2_end: The second of Adam's decay rates after ``schedule_steps`` batches.
        schedule_steps: Batches over which the four schedules go from start to end, or ``None`` to stay at the start.
        clip_norm: Largest norm of each player's gradient, or ``None``.
        accumulate_batches: Batches whose gradients are accumulated for one step of each player.
        compile: Compiles both networks; penalties run uncompiled.

    Raises:
        ValueError: If a number is out of range, augmentations are given that would never be applied, or the end of a
            schedule is given without the schedule.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "resnext",
        latent_dim: int = 64,
        width: int = 32,
        discriminator_width: int | None = None,
        num_classes: int | None = None,
        num_words: int | None = None,
        gamma: float = 0.05,
        gamma_end: float = 0.005,
        lazy_every: int = 1,
        augment: Sequence[str] | None = None,
        augment_end: float = 0.55,
        critic_steps: int = 1,
        lr: float = 2e-4,
        lr_end: float = 5e-5,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.0, 0.9),
        beta2_end: float = 0.99,
        schedule_steps: int | None = None,
        clip_norm: float | None = None,
        accumulate_batches: int = 1,
        compile: bool = False,
    ) -> None:
        check_positive(gamma=gamma, gamma_end=gamma_end, lr=lr, lr_end=lr_end)
        check_counts(lazy_every=lazy_every)
        optimizers = two_adams(lr, betas, discriminator_lr)
        if not 0 <= beta2_end < 1 or not 0 <= augment_end <= 1:
            raise ValueError(f"beta2_end={beta2_end} must lie in [0, 1) and augment_end={augment_end} in [0, 1].")
        for name, start, end in (("lr", lr, lr_end), ("gamma", gamma, gamma_end)):
            if schedule_steps is not None and end > start:
                raise ValueError(f"{name}_end={end} is above {name}={start}, which falls to it: set {name}_end, too.")
        ends = {"gamma_end": (gamma_end, 0.005), "lr_end": (lr_end, 5e-5), "beta2_end": (beta2_end, 0.99)}
        check_has_effect("schedule_steps", schedule_steps, ends)
        check_has_effect("augment", augment, {"augment_end": (augment_end, 0.55)})
        if augment and (schedule_steps is None or augment_end == 0):
            raise ValueError(
                f"augment={list(augment)} has no effect with schedule_steps={schedule_steps} and "
                f"augment_end={augment_end}: its probability starts at 0 and rises to augment_end."
            )

        def cosine(start: float, stop: float) -> Any:
            return changing(start, stop, schedule_steps, name="schedule_steps", shape="cosine")

        penalty_weight = cosine(gamma, gamma_end)
        terms: Any = {"r1": r1, "r2": r2}
        # A learning rate that is not decayed to zero has its own end; the run may go on after it.
        settings: Any = common(critic_steps, None, clip_norm, accumulate_batches, compile)
        settings["lr_schedule"] = cosine(1.0, lr_end / lr)
        super().__init__(
            game=RELATIVISTIC,
            penalties={name: WeightedTerm(penalty_weight, term, lazy_every) for name, term in terms.items()},
            **augmentation(augment, cosine(0.0, augment_end), shape),
            beta2=None if schedule_steps is None else cosine(betas[1], beta2_end),
            **settings,
            **players(architecture, shape, latent_dim, width, num_classes, discriminator_width, num_words=num_words),
            **optimizers,
        )
        self.save_hyperparameters()

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns shape and architecture: an MLP for points, without augmentations, which are of images."""
        if spec.kind != "image":
            return {"shape": list(spec.shape), "architecture": "mlp", "augment": None}
        return {"shape": list(spec.shape), "architecture": "resnext"}

    def horizons(self) -> Mapping[str, int | None]:
        """Returns the number of batches over which the schedules change."""
        return {"schedule_steps": self.hparams["schedule_steps"]}
