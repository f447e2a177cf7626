"""Flow matching: regression of the velocity of straight paths between noise and data.

For noise x_0 ~ N(0, I), data x_1 and a time t, the point x_t = (1 - t) x_0 + t x_1 moves with the velocity x_1 - x_0.
Training minimises E |v(x_t, t) - (x_1 - x_0)|^2. Its minimum is the mean velocity at a point, E[x_1 - x_0 | x_t], and
the flow of this v carries N(0, I) to the distribution of the data (theorem 2). Nothing is simulated in training.

With classes or captions, a share of them is dropped in training, so that one network learns v given the condition and
without. A model of both drops both together.

NOTE: The paths are those of the paper with sigma_min = 0, equal to the rectified flow of Liu et al. before it is
straightened. They are no optimal transport: noise and data are paired at random, and the flow of their mean velocity is
curved. Logit-normal times leave the ends of the paths to few examples; a likelihood needs the end at the data. After
1 500 batches of Fashion-MNIST, the same sixteen validation images took 4.28 bits/dim with uniform times, 3.99 with
``time_mean=2`` and ``time_scale=2.5``, and 3.73 with seven octaves of ``fourier_features`` besides: where a background
has one grey value, all that is left there is noise, which a network predicts if it sees differences of its size.

Flow Matching for Generative Modeling (Lipman et al., 2023), https://arxiv.org/abs/2210.02747
Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow (Liu et al., 2023),
https://arxiv.org/abs/2209.03003
Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024),
https://arxiv.org/abs/2403.03206
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from datamodules.spec import Batch
from lightning_modules.flow.continuous_flow import ContinuousFlow
from lightning_modules.networks.text_encoder import condition_of
from lightning_modules.networks.velocity_networks import velocity_network
from lightning_modules.parts.likelihoods import sum_over_event
from lightning_modules.parts.noise import Draws, FixedNoise
from lightning_modules.parts.optimizers import adamw
from lightning_modules.parts.times import Times
from lightning_modules.runtime.held_out import Weighted


class FlowMatching(ContinuousFlow):
    """Regression of v(x_t, t) on x_1 - x_0 along straight paths, with guidance by classes or captions.

    Logs ``train/velocity_error`` and ``val/velocity_error``, the squared error per dimension at the times of training.
    See ``ContinuousFlow`` for samples, codes and likelihoods.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (D,) for points.
        architecture: ``"unet"`` for square images, ``"mlp"`` for points and images.
        width: Channels of the U-Net at half resolution, or a quarter of the units of a layer of the MLP.
        depth: Blocks of the U-Net per resolution, on each way; the MLP has three layers.
        fourier_features: Number of frequencies, at most 9, of sines and cosines of the pixels that the U-Net also sees,
            with periods of 1, 2, 4, ... grey values: a likelihood depends on details that fine. ``True`` is 2.
        num_classes: Number of classes of a class-conditional model, or ``None``.
        num_words: Number of words of the captions of a model conditional on these, or ``None``.
        condition_dropout: Share of conditions that are dropped in training; 0 trains no velocity without a condition.
        times: ``"logit_normal"`` or ``"uniform"`` times of training.
        time_mean: Mean of the logit of logit-normal times; above 0 more of them lie near the data.
        time_scale: Standard deviation of the logit of logit-normal times.
        steps: Steps of Heun's method in ``sample``, ``decode`` and ``encode``, two evaluations of the network each.
        sampling_power: Their ends are the times 1 - (1 - i / steps)^sampling_power: 1 for equal steps, more for shorter
            ones towards the data.
        guidance: w of ``sample`` and ``decode``; any other than 1 takes twice the time.
        likelihood_steps: Steps of the Runge-Kutta method for likelihoods, four evaluations each.
        num_probes: Random directions per image of the likelihood's estimate.
        num_tested: Number of examples whose likelihood is tested, the first of the split, or ``None`` for all.
        lr: Learning rate of AdamW.
        weight_decay: Of matrices and kernels, not of biases and gains.
        clip_norm: Largest norm of the gradient, or ``None``.
        warmup_steps: Batches over which the learning rate rises linearly; 0 for none.
        decay_steps: Batches after which the learning rate has fallen to zero as a cosine, or ``None``.

    Raises:
        ValueError: If a number is out of range, a name unknown, or parts do not fit together.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "unet",
        width: int = 32,
        depth: int = 2,
        fourier_features: bool | int = 0,
        num_classes: int | None = None,
        num_words: int | None = None,
        condition_dropout: float = 0.1,
        times: str = "logit_normal",
        time_mean: float = 0.0,
        time_scale: float = 1.0,
        steps: int = 10,
        sampling_power: float = 1.0,
        guidance: float = 1.0,
        likelihood_steps: int = 20,
        num_probes: int = 1,
        num_tested: int | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float | None = 1.0,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
    ) -> None:
        if not 0 <= condition_dropout < 1:
            raise ValueError(f"condition_dropout={condition_dropout} must lie in [0, 1): a share of the conditions.")
        droppable, condition = condition_dropout > 0, condition_of(num_classes, num_words)
        super().__init__(
            velocity_network(architecture, shape, width, depth, condition, droppable, fourier_features),
            shape=shape,
            steps=steps,
            sampling_power=sampling_power,
            guidance=guidance,
            droppable=droppable,
            likelihood_steps=likelihood_steps,
            num_probes=num_probes,
            num_tested=num_tested,
            num_classes=num_classes,
            num_words=num_words,
            **adamw(lr, weight_decay, clip_norm, warmup_steps, decay_steps),
        )
        self.times, self.condition_dropout = Times(times, time_mean, time_scale), condition_dropout
        self.save_hyperparameters()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the squared error of the velocity, with a share of the conditions dropped."""
        condition, dropped = self.condition(batch), None
        if condition is not None and self.droppable:
            dropped = self.noise.uniform(len(batch.x), device=batch.x.device) < self.condition_dropout
        return self.objective({"velocity_error": self.errors(batch.x, condition, dropped, self.noise).mean()})

    def errors(self, x: Tensor, condition: Tensor | None, dropped: Tensor | None, draws: Draws) -> Tensor:
        """Returns |v(x_t, t) - (x_1 - x_0)|^2 per dimension, (N,), at one time and with one noise per example.

        Args:
            x: Examples x_1, shape (N, *shape).
            condition: The condition, int64 (N, ...) as in ``runtime.given_conditions``, or ``None``.
            dropped: Which of them are dropped, bool (N,), or ``None`` for none.
            draws: Source of times and noise.
        """
        time = self.times.draw(draws, len(x), x.device).to(x.dtype)
        noise = draws.normal(*x.shape, device=x.device).to(x.dtype)
        share = time.view(-1, *[1] * (x.ndim - 1))
        predicted = self.network((1 - share) * noise + share * x, time, condition, dropped)
        return sum_over_event((predicted - (x - noise)).square()) / self.num_dimensions

    def diagnostics(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Weighted]:
        """Measures the error of the velocity, with times and noise that are a function of each example's index."""
        return {"velocity_error": self.errors(batch.x, self.condition(batch), None, FixedNoise(indices))}
