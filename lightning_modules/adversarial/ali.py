"""Adversarially learned inference: a generator and an encoder that agree on the joint distribution of data and codes.

A generator defines p(x, z) = p(z) p(x|z), an encoder q(x, z) = q(x) q(z|x) with the data as q(x). The discriminator
sees pairs, and both networks learn to have them confused. Where that succeeds, the two joint distributions are equal:
the generator samples the data, and the encoder is its posterior, although nothing measures a reconstruction.

NOTE: A matched joint distribution makes reconstructions likely, not exact: they keep what the code holds, and may show
another garment of the kind. The generator is deterministic. The networks are those of the other games here, without the
dropout and the maxout units of the authors. Both sides see the same pairs, the discriminator first. The paper's table
says beta_2 = 1e-3, in the convention 1 - beta of the library that it used: 0.999 here.

Adversarially Learned Inference (Dumoulin et al., 2016), https://arxiv.org/abs/1606.00704
"""

from collections.abc import Sequence

from lightning_modules.adversarial.joint_game import JointModule
from lightning_modules.adversarial.joint_players import joint_players, joint_training


class ALI(JointModule):
    """min_G max_D E_q log D(x, z) + E_p log(1 - D(x, z)), eq. 1 of the paper, in its non-saturating form.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"``, ``"resnext"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        discriminator_width: Width of the discriminator instead of ``width``, or ``None``.
        critic_steps: Discriminator steps per generator step.
        lr: Learning rate of both players.
        discriminator_lr: Learning rate of the discriminator instead of ``lr``, or ``None``.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        clip_norm: Largest norm of each player's gradient, or ``None``.
        compile: Compiles both networks; penalties run uncompiled.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        discriminator_width: int | None = None,
        critic_steps: int = 1,
        lr: float = 1e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.5, 0.999),
        decay_steps: int | None = None,
        clip_norm: float | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(
            **joint_players(architecture, shape, latent_dim, width, discriminator_width),
            **joint_training(critic_steps, lr, discriminator_lr, betas, decay_steps),
            clip_norm=clip_norm,
            compile=compile,
        )
        self.save_hyperparameters()
