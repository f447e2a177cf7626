"""Progressive GAN: both networks start at a low resolution, and get layers for the next one while they train.

Low resolutions are learned first, fast and stably. A new level is faded in: generated images, real images and the
features of the discriminator are blends of it and the level below, in which its share alpha rises linearly. Wasserstein
game with a gradient penalty and a drift term; equalised learning rates, pixel normalisation in the generator and the
deviation over the batch as a feature in the discriminator. The non-saturating game with R1 (Mescheder et al., 2018),
with which StyleGAN grew (Karras et al., 2019), may take the place of the Wasserstein game and its penalty.

NOTE: The deviation makes the examples of a batch depend on each other, so the gradient in the penalty is that of the
sum of all logits by one example, not of its own logit alone. As in the authors' code, images enter in full resolution
at every stage, pixels repeated, which makes gradients by them smaller at low levels; the deviation is over the whole
batch of a process, as in the paper, where the code has groups of four. The states of the optimizers start afresh at
each level. Weights are of size 1, of which Adam changes a share of about ``lr`` in a step: the default is the paper's,
for millions of images, and runs of some hundred thousand need 0.01 to 0.03.

Progressive Growing of GANs for Improved Quality, Stability, and Variation (Karras et al., 2018), https://arxiv.org/abs/1710.10196
Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018), https://arxiv.org/abs/1801.04406
A Style-Based Generator Architecture for Generative Adversarial Networks (Karras et al., 2019), https://arxiv.org/abs/1812.04948
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from datamodules.spec import DataSpec
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.adversarial.players import augmentation, common, two_adams
from lightning_modules.networks.growing import Discriminator, Generator, Grown
from lightning_modules.networks.text_encoder import condition_of
from lightning_modules.parts.checks import as_count, check_counts, check_has_effect
from lightning_modules.parts.games import GAMES, Game
from lightning_modules.parts.growth import Growth
from lightning_modules.parts.penalties import PENALTIES, WeightedTerm
from lightning_modules.runtime.flags import planned_batches

GROWTH = "growth_steps"
"""Where a checkpoint keeps how many batches its run grows for."""


GAMES_OFFERED = ("wasserstein", "non_saturating")
PENALTIES_OFFERED = ("gradient_penalty", "r1")


def with_drift(real: Tensor, fake: Tensor, game: Game, weight: float) -> Tensor:
    """Adds weight E f(x)^2 to the critic's loss, which keeps the values of real examples near 0 (appendix A.1)."""
    return game.discriminator(real, fake) + weight * real.square().mean()


def at_stage(network: Grown, x: Tensor, step: int) -> Tensor:
    """Returns real images in the resolution that a network has reached."""
    return network.as_grown(x)


def grow(module: AdversarialModule, step: int) -> bool:
    """Sets the stage of both networks; returns whether a new level begins."""
    assert isinstance(module, ProgressiveGAN)
    stage = module.growth.at(step)
    for network in (module.generator, module.discriminator):
        assert isinstance(network, Grown)
        network.set_stage(*stage)
    return step > 0 and stage.level != module.growth.at(step - 1).level


class ProgressiveGAN(AdversarialModule):
    """E f(G(z)) - E f(x) + 10 E (||grad f(x_hat)|| - 1)^2 + 0.001 E f(x)^2, at growing resolutions.

    ``game`` is ``"wasserstein"`` or ``"non_saturating"``, ``penalty`` is ``"gradient_penalty"`` or ``"r1"``; the first
    of each is that of Karras et al. (2018).

    Args:
        shape: (C, H, W) of images in [-1, 1].
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        num_words: Number of words of the captions for a game conditional on these, or ``None``.
        num_resolutions: Number of resolutions, each twice the one before; ``None`` begins with a side of 4 to 7.
        growth_steps: Batches until the last resolution is faded in, in equal phases that train one resolution or fade
            in the next. ``None`` takes half of the run, whose length must then be limited; 0 trains all layers from
            the start, as in fine-tuning. Networks that have grown, such as loaded ones, do not grow again.
        game: Name of the losses of both players.
        penalty: Name of the penalty on gradients of the discriminator.
        penalty_weight: Weight lambda of the gradient penalty.
        lazy_every: Batches per computation of the penalties on the discriminator, whose weights are multiplied by it.
        drift_weight: Weight of the mean square of the critic on real examples.
        augment: Names of differentiable augmentations of all inputs of the discriminator, ``["translation"]``, or
            ``None``; images only.
        augment_probability: Probability of each augmentation of each example.
        critic_steps: Discriminator steps per generator step.
        lr: Learning rate of both players.
        discriminator_lr: Learning rate of the discriminator instead of ``lr``, or ``None``.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        clip_norm: Largest norm of each player's gradient, or ``None``.
        accumulate_batches: Batches whose gradients are accumulated for one step of each player.
        compile: Compiles both networks; penalties run uncompiled.

    Raises:
        ValueError: If a number is out of range, a part unknown, a setting has no effect without another, or the
            resolutions do not fit ``shape``.
    """

    kinds = ("image",)

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        latent_dim: int = 64,
        width: int = 32,
        num_classes: int | None = None,
        num_words: int | None = None,
        num_resolutions: int | None = None,
        growth_steps: int | None = None,
        game: str = "wasserstein",
        penalty: str = "gradient_penalty",
        penalty_weight: float = 10.0,
        lazy_every: int = 1,
        drift_weight: float = 0.001,
        augment: Sequence[str] | None = None,
        augment_probability: float = 1.0,
        critic_steps: int = 1,
        lr: float = 1e-3,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.0, 0.99),
        decay_steps: int | None = None,
        clip_norm: float | None = None,
        accumulate_batches: int = 1,
        compile: bool = False,
    ) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"shape={list(shape)} must be (channels, height, width).")
        check_counts(width=width, latent_dim=latent_dim, lazy_every=lazy_every)
        for name, given, offered in (("game", game, GAMES_OFFERED), ("penalty", penalty, PENALTIES_OFFERED)):
            if given not in offered:
                raise ValueError(f"{name}={given!r} is not one of {', '.join(offered)}.")
        for name, value, least in (("growth_steps", growth_steps, 0), ("num_classes", num_classes, 2)):
            if value is not None:
                as_count(name, value, least)
        if not (0 <= penalty_weight < math.inf and 0 <= drift_weight < math.inf):
            raise ValueError(
                f"penalty_weight={penalty_weight} and drift_weight={drift_weight} must be at least 0 and finite."
            )
        without = {"lazy_every": (lazy_every, 1), "penalty": (penalty, "gradient_penalty")}
        check_has_effect("penalty_weight", penalty_weight or None, without)
        condition = condition_of(num_classes, num_words)
        generator = Generator(shape, latent_dim, width, condition, num_resolutions)
        discriminator = Discriminator(shape, width, condition, num_resolutions)
        if growth_steps and generator.top == 0:
            raise ValueError(f"growth_steps={growth_steps} has no effect with a single resolution; leave it out.")
        super().__init__(
            generator,
            discriminator,
            GAMES[game]._replace(discriminator=partial(with_drift, game=GAMES[game], weight=drift_weight)),
            latent_dim=latent_dim,
            num_classes=num_classes,
            num_words=num_words,
            penalties={penalty: WeightedTerm(penalty_weight, PENALTIES[penalty], lazy_every)},
            prepare_real=partial(at_stage, generator),
            stage=grow,
            **augmentation(augment, augment_probability, shape),
            **common(critic_steps, decay_steps, clip_norm, accumulate_batches, compile),
            **two_adams(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()
        self.growth, self.growth_was_planned = Growth(generator.top + 1, growth_steps or 0), growth_steps is None
        if growth_steps != 0:
            for network in (generator, discriminator):
                network.set_level(0)  # so that networks that have grown can be told from those that are yet to

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns the shape. Classes are opt-in: ``num_classes=...``."""
        return {"shape": list(spec.shape)}

    # The length of growth

    def horizons(self) -> Mapping[str, int | None]:
        """Returns the number of batches that the networks grow for."""
        return {"growth_steps": self.growth.steps or None}

    def on_fit_start(self) -> None:
        """Refuses a run that ends before the networks have grown."""
        if self.trainer.ckpt_path is None:  # otherwise the Trainer's estimate would read data before their position
            self.plan_growth(resumed=False)
        super().on_fit_start()

    def on_train_start(self) -> None:
        """Does the same for a resumed run, which grows as planned when it began unless it is told otherwise."""
        if self.trainer.ckpt_path is not None:
            self.plan_growth(resumed=True)
        super().on_train_start()

    def plan_growth(self, resumed: bool) -> None:
        """Finds the number of batches that the networks grow for, and compares it with the length of the run.

        Args:
            resumed: Whether the run is resumed, so that the checkpoint has a number already.

        Raises:
            ValueError: If the run is too short, or its length is needed and not known.
        """
        # A run without limits stops where the learning rate reaches zero.
        planned, steps = planned_batches(self.trainer), self.hparams["growth_steps"]
        assert isinstance(self.generator, Grown)
        begun_grown = self.growth.steps == 0 if resumed else self.generator.has_grown
        if begun_grown:
            self.growth.steps = 0
        if planned == 0 or begun_grown:
            return  # nothing is trained, or nothing grows
        planned = planned or self.lr_schedule.end
        as_before = resumed and self.growth_was_planned
        if steps is None and planned is None and not as_before:
            raise ValueError(
                "growth_steps=null takes half of the run, but its length is not limited: set max_steps, max_epochs or "
                "decay_steps, or growth_steps (--model.growth_steps)."
            )
        if steps is None:
            steps = self.growth.steps if as_before else (planned or 0) // 2
        tried_out = getattr(self.trainer, "fast_dev_run", 0)  # a few batches of a run that is planned for more
        if planned is not None and steps >= max(planned, 1) and not tried_out:
            raise ValueError(
                f"growth_steps={steps}, but the run is planned for {planned} batches, so that the last resolution is "
                "not trained alone: set growth_steps (--model.growth_steps) to fewer than the run has, or train longer."
            )
        self.growth.steps = steps

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the number of batches that the networks grow for, which may follow from the length of the run."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[GROWTH] = self.growth.steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores it."""
        super().on_load_checkpoint(checkpoint)
        self.growth.steps = int(checkpoint.get(GROWTH, self.growth.steps))
        self.growth_was_planned = checkpoint.get("hyper_parameters", {}).get("growth_steps") is None
