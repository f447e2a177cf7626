"""Early stopping of a fit to one image, without the truth: by the variance of its recent outputs.

While a network fits the image, its outputs settle; when it begins to fit the noise, they wander. So the variance over a
window of outputs is small where the error is, and the output of the smallest variance is taken.

Early Stopping for Deep Image Prior (Wang et al., 2021), https://arxiv.org/abs/2112.06074, algorithm 1 (ES-WMV)
"""

import torch
from torch import Tensor, nn

from lightning_modules.parts.precision import in_float64

LEVELS = 2**14
"""Outputs in [-1, 1] are kept in steps of 1 / ``LEVELS``."""


class VarianceStopping(nn.Module):
    """Keeps the last outputs, and the image of the smallest variance so far; all of it is in the state.

    Args:
        shape: (1, C, H, W) of outputs, which lie in [-1, 1].
        window: Number of outputs over which the variance is computed.
        patience: Steps without a smaller variance after which ``is_over``.
    """

    chosen: Tensor
    chosen_step: Tensor
    smallest: Tensor
    steps: Tensor
    variance: Tensor

    def __init__(self, shape: tuple[int, ...], window: int, patience: int) -> None:
        super().__init__()
        self.window, self.patience = window, patience
        # Whole numbers keep 100 images of 512 pixels in 160 MB, and their sums are exact however long the run is. The
        # rounding adds 3e-10 to variances above 1e-5.
        self.register_buffer("recent", torch.zeros(window, *shape[1:], dtype=torch.int16))
        self.register_buffer("total", torch.zeros(shape[1:], dtype=torch.int32))
        self.register_buffer("squares", torch.zeros(window, dtype=torch.int64))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("variance", torch.tensor(float("inf")))
        self.register_buffer("smallest", torch.tensor(float("inf")))
        self.register_buffer("chosen_step", torch.tensor(0))
        self.register_buffer("chosen", torch.zeros(shape))

    recent: Tensor
    total: Tensor
    squares: Tensor

    @torch.no_grad()
    def update(self, output: Tensor, image: Tensor) -> None:
        """Takes the output of one step, and ``image``, which is kept if the variance is the smallest; (1, C, H, W)."""
        slot = int(self.steps) % self.window
        new = (output[0].float().clamp(-1, 1) * LEVELS).round().to(torch.int32)
        self.total += new - self.recent[slot]
        self.recent[slot] = new.to(torch.int16)
        self.squares[slot] = new.square().sum(dtype=torch.int64)
        self.steps += 1
        if int(self.steps) < self.window:
            return
        mean_of_squares = int(self.squares.sum()) / (self.window * new.numel())
        square_of_means = float((in_float64(self.total) / self.window).square().mean())
        self.variance.fill_((mean_of_squares - square_of_means) / LEVELS**2)
        if self.variance < self.smallest:
            self.smallest.copy_(self.variance)
            self.chosen_step.copy_(self.steps)
            self.chosen.copy_(image)

    @property
    def has_chosen(self) -> bool:
        """Whether there have been as many outputs as the window has."""
        return int(self.chosen_step) > 0

    @property
    def is_over(self) -> bool:
        """Whether the variance has not fallen for ``patience`` steps."""
        return self.has_chosen and int(self.steps) - int(self.chosen_step) >= self.patience

    def report(self) -> str:
        """Returns what was chosen, as a sentence."""
        if not self.has_chosen:
            return f"Early stopping has chosen nothing: it needs {self.window} steps, and there were {int(self.steps)}."
        return (
            f"Early stopping chose the averaged output of step {int(self.chosen_step):,} of {int(self.steps):,}, where "
            f"the variance of the last {self.window} outputs was smallest ({float(self.smallest):.3g})."
        )
