"""GAN of images given captions, whose discriminator also learns which caption an image does not have (GAN-INT-CLS).

A conditional discriminator sees two kinds of pairs: real images with their captions, and generated images. It can tell
them apart by the images alone for as long as these look generated, and so the generator learns late that captions
matter. GAN-CLS shows it a third kind, real images with wrong captions, which it has to tell from the first: matching is
learned from real images. GAN-INT trains the generator also on means of the encodings of two captions, of which there
are no images; a discriminator that has learned to match says what such images would be.

    L_D = -log s_r - (log(1 - s_w) + log(1 - s_f)) / 2,    L_G = -log s_f - log D(G(z, (t_1 + t_2) / 2)),

with s_r = D(x, t), s_w = D(x, wrong t) and s_f = D(G(z, t), t) (Algorithm 1, and eq. 5 with beta = 0.5). Without either
or both these are the other variants of the paper.

NOTE: Game and constraint are those of the spectrally normalised GAN in place of the paper's cross-entropy and batch
normalisation. Both players learn to read in the game, each with its own encoder, where the paper has one that was
trained before. Wrong captions, and the second one of each mean, are drawn in the batch of a process, uniformly among
those that differ; a batch with one caption alone, repeated, has no wrong ones, and its loss is that of a plain GAN.

Generative Adversarial Text to Image Synthesis (Reed et al., 2016), https://arxiv.org/abs/1605.05396
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from datamodules.spec import DataSpec
from lightning_modules.adversarial.loop import AdversarialModule, Terms
from lightning_modules.adversarial.players import augmentation, common, players, two_adams
from lightning_modules.parts.constraints import spectrally_normalized
from lightning_modules.parts.games import GAMES
from lightning_modules.parts.matching import wrong_conditions


class CaptionGAN(AdversarialModule):
    """Real images with wrong captions are fakes, too (Algorithm 1); captions are interpolated for G (eq. 5).

    ``game`` is ``"hinge"`` or ``"non_saturating"``. Besides the losses of both players it logs ``train/interpolation``,
    the generator's loss on means of two captions. ``num_words`` has to be given; classes may be, too.

    Args:
        shape: (C, H, W) of images in [-1, 1].
        architecture: ``"dcgan"``, ``"resnet"``, ``"resnext"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        discriminator_width: Width of the discriminator instead of ``width``, or ``None``.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        num_words: Number of words of the captions for a game conditional on these, or ``None``.
        wrong_captions: Whether the discriminator sees real images with wrong captions (GAN-CLS).
        interpolation: Whether the generator is trained on means of two captions (GAN-INT).
        game: Name of the losses of both players.
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
        ValueError: If a number is out of range or missing, or has no effect, or the game or an augmentation is unknown.
    """

    kinds = ("image",)

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        discriminator_width: int | None = None,
        num_classes: int | None = None,
        num_words: int | None = None,
        wrong_captions: bool = True,
        interpolation: bool = True,
        game: str = "hinge",
        augment: Sequence[str] | None = None,
        augment_probability: float = 1.0,
        critic_steps: int = 1,
        lr: float = 4e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.0, 0.99),
        decay_steps: int | None = None,
        clip_norm: float | None = None,
        accumulate_batches: int = 1,
        compile: bool = False,
    ) -> None:
        if game not in ("hinge", "non_saturating"):
            raise ValueError(f"game={game!r} is not one of hinge, non_saturating.")
        if num_words is None:
            raise ValueError(
                "num_words=null, but CaptionGAN is a model of captions: give the number of their words, that of "
                "data.spec.vocabulary after data.setup()."
            )
        networks = players(
            architecture, shape, latent_dim, width, num_classes, discriminator_width, num_words=num_words
        )
        spectrally_normalized(networks["discriminator"])
        super().__init__(
            game=GAMES[game],
            **augmentation(augment, augment_probability, shape),
            **common(critic_steps, decay_steps, clip_norm, accumulate_batches, compile),
            **networks,
            **two_adams(lr, betas, discriminator_lr),
        )
        self.wrong_captions, self.interpolation = wrong_captions, interpolation
        self.save_hyperparameters()

    def logits_of_fakes(self, logits_fake: Tensor, real: Tensor, labels: Tensor | None) -> Tensor:
        """Returns the logits of generated examples, and of real ones with wrong captions: half of the loss of both."""
        if not self.wrong_captions:
            return logits_fake
        assert labels is not None
        wrong, exist = wrong_conditions(labels, self.noise)
        return torch.cat([logits_fake, torch.where(exist, self.logits(real, wrong), logits_fake)])

    def further_generator_losses(self, labels: Tensor | None, step: int) -> Terms:
        """Returns the loss on means of two captions."""
        assert labels is not None
        return {"interpolation": self.interpolation_loss(labels, step)} if self.interpolation else {}

    def interpolation_loss(self, labels: Tensor, step: int) -> Tensor:
        """Returns the generator's loss on examples of means of two captions, which no real example has (eq. 5).

        Both players read each caption and take the mean of the two encodings; see ``networks.text_encoder``.
        """
        pairs = torch.stack([labels, wrong_conditions(labels, self.noise)[0]], 1)
        fake = self(self.noise.normal(len(labels), self.latent_dim, device=self.device), pairs)
        with parametrize.cached():
            return self.game.generator(self.logits(self.seen(fake, step), pairs))

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns shape, architecture and the number of words, where the data know their words already."""
        words = {"num_words": len(spec.vocabulary)} if spec.is_captioned else {}
        return {**super().hyperparameters_for(spec), **words}
