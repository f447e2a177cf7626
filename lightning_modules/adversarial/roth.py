"""Regularised GAN of Roth et al.: the analytic effect of instance noise, without drawing the noise.

Where the discriminator is optimal, noise N(0, gamma I) on all its inputs adds to the cross-entropy, to second order in
the noise, a penalty on the gradient of its logit phi, weighted by how unsure it is of its own mistake:
gamma / 2 times E (1 - D(x))^2 ||grad phi(x)||^2 + E D(G(z))^2 ||grad phi(G(z))||^2. It smooths the discriminator where
the two distributions do not overlap, with no variance from noise.

NOTE: gamma falls to one hundredth of its first value over ``gamma_steps`` batches, as in the authors' code; ``None``
keeps it. The expansion is that of the cross-entropy, so the game is the non-saturating one; it leaves out the second
derivatives of phi, which cancel at the optimum alone. Its two passes make a discriminator step, generated examples
included, 2.4 times as long on a CPU.

Stabilizing Training of Generative Adversarial Networks through Regularization (Roth et al., 2017),
https://arxiv.org/abs/1705.09367
"""

from collections.abc import Mapping, Sequence

from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.adversarial.players import common, players, two_adams
from lightning_modules.parts.checks import check_positive
from lightning_modules.parts.games import NON_SATURATING
from lightning_modules.parts.penalties import WeightedTerm, roth
from lightning_modules.parts.schedules import changing


class RothGAN(AdversarialModule):
    """Eq. 1.39 with gamma / 2 (E (1 - D(x))^2 ||grad phi(x)||^2 + E D(G(z))^2 ||grad phi(G(z))||^2) for D.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"``, ``"resnext"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        discriminator_width: Width of the discriminator instead of ``width``, or ``None``.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        num_words: Number of words of the captions for a game conditional on these, or ``None``.
        gamma: Weight of the penalty at the start: the loss has gamma / 2 times the squared norms of gradients.
        gamma_steps: Batches after which gamma has fallen exponentially to 1 % of it, or ``None`` for a constant.
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
        gamma: float = 0.1,
        gamma_steps: int | None = None,
        critic_steps: int = 1,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.5, 0.999),
        decay_steps: int | None = None,
        clip_norm: float | None = None,
        accumulate_batches: int = 1,
        compile: bool = False,
    ) -> None:
        check_positive(gamma=gamma)
        weight = changing(gamma, 0.01 * gamma, gamma_steps, name="gamma_steps", shape="exponential")
        super().__init__(
            game=NON_SATURATING,
            penalties={"roth": WeightedTerm(weight, roth)},
            **common(critic_steps, decay_steps, clip_norm, accumulate_batches, compile),
            **players(architecture, shape, latent_dim, width, num_classes, discriminator_width, num_words=num_words),
            **two_adams(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()

    def horizons(self) -> Mapping[str, int | None]:
        """Returns the number of batches over which gamma falls."""
        return {"gamma_steps": self.hparams["gamma_steps"]}
