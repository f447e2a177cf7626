"""GibbsNet: adversarial inference whose prior is not given, but is where a chain between codes and data settles.

Adversarially learned inference asks that codes of data follow N(0, I). Here the pairs that the discriminator compares
with data and their codes come from a chain, which begins at N(0, I) and alternates x ~ p(x|z) and z ~ q(z|x) for N
steps. If it cannot tell them apart, a further step leaves the distribution unchanged: data and codes are the stationary
distribution of the chain, and the codes may be distributed in any way, in clusters for instance.

NOTE: Samples are those of the chain; one step from N(0, I) is not a sample of the model. Gradients flow through the
last step of the chain only: through more of them they vanish or explode. The generator is deterministic, and all
randomness that the chain mixes by is the encoder's.

The batch normalisation of the codes' means and the gradient penalty on both kinds of pairs are ours. The game fixes no
scale for the codes, and generator and encoder play on one side: without the normalisation, and as well with bounded
codes or from a trained ALI, each step of the chain lost some of the spread of the one before, within 125 batches of
images, until all its pairs were the same. With it alone codes keep their spread, but the chain still lost modes: four
of eight on a ring and all of twenty-five on a grid after 4 000 steps, and on images all but one. With both, the chain
had all eight modes of the ring after 300 steps, in an experiment apart from this class; the zoo's checkpoint of
Fashion-MNIST has FID 3.5, where that of ALI has 2.4. In evaluation the running averages have to be those of the chain:
after 4 800 batches the same weights had FID 4.2 over these, and 10.3 over running averages that data had had a part in
(1 000 samples).

GibbsNet: Iterative Adversarial Inference for Deep Graphical Models (Lamb et al., 2017),
https://arxiv.org/abs/1712.04120
"""

from collections.abc import Sequence
from typing import Any

from lightning_modules.adversarial.joint_game import JointModule
from lightning_modules.adversarial.joint_players import joint_players, joint_training
from lightning_modules.parts.checks import check_counts, check_has_effect
from lightning_modules.parts.penalties import WeightedTerm, r1, r2


class GibbsNet(JointModule):
    """The game of ALI, with pairs after N steps of x ~ p(x|z), z ~ q(z|x) in place of z ~ N(0, I), x ~ p(x|z).

    The discriminator's loss has a gradient penalty, lambda / 2 (E ||grad D(clamped)||^2 + E ||grad D(unclamped)||^2),
    of gradients by x and z.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"``, ``"resnext"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        discriminator_width: Width of the discriminator instead of ``width``, or ``None``.
        steps: N, steps of the chain in training and by default in ``sample``; 0 is adversarially learned inference.
        normalise_codes: Whether the means of q(z|x) are batch-normalised.
        penalty_weight: Weight lambda of the gradient penalty.
        lazy_every: Batches per computation of the penalties on the discriminator, whose weights are multiplied by it.
        critic_steps: Discriminator steps per generator step.
        lr: Learning rate of both players.
        discriminator_lr: Learning rate of the discriminator instead of ``lr``, or ``None``.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        clip_norm: Largest norm of each player's gradient, or ``None``.
        compile: Compiles both networks; penalties run uncompiled.

    Raises:
        ValueError: If a number is out of range, or ``lazy_every`` is given without a penalty.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        discriminator_width: int | None = None,
        steps: int = 3,
        normalise_codes: bool = True,
        penalty_weight: float = 0.1,
        lazy_every: int = 1,
        critic_steps: int = 1,
        lr: float = 1e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.5, 0.999),
        decay_steps: int | None = None,
        clip_norm: float | None = None,
        compile: bool = False,
    ) -> None:
        check_counts(lazy_every=lazy_every)
        check_has_effect("penalty_weight", penalty_weight or None, {"lazy_every": (lazy_every, 1)})
        terms: Any = {"r1": r1, "r2": r2} if penalty_weight else {}
        super().__init__(
            **joint_players(architecture, shape, latent_dim, width, discriminator_width, normalise_codes),
            **joint_training(critic_steps, lr, discriminator_lr, betas, decay_steps),
            steps=steps,
            penalties={name: WeightedTerm(penalty_weight, term, lazy_every) for name, term in terms.items()},
            clip_norm=clip_norm,
            compile=compile,
        )
        self.save_hyperparameters()
