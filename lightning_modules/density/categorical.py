"""The categorical distribution of independent grey values, the member of the exponential family of K values (eq. 1.16).

    q(x) = prod_i pi_i[x_i],    T(x) = one-hot of x,    eta = log pi (up to a constant),    A(eta) = log sum_k e^eta_k

Its fit is the histogram of every pixel. As the text says of a single step of an autoregressive model, it can be
multimodal and closely approximates any distribution of one value; what it lacks is dependence between values.

NOTE: The K statistics of a value sum to 1, so eta is determined up to a constant, and the Fisher information has a
direction in which it is 0. Natural parameters here are the logarithms of probabilities, which sum to 1.

Categorical Data Analysis (Agresti, 2002), https://doi.org/10.1002/0471249688
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules.density.exponential_family import ExponentialFamily
from lightning_modules.parts.likelihoods import not_on_256_bins
from lightning_modules.parts.precision import in_float64

NUM_VALUES = 256
"""Number of grey values K."""


class Categorical(ExponentialFamily):
    """Independent pixels of 256 grey values, trained by natural-gradient likelihood, or fitted by ``fit_closed_form``.

    Args:
        shape: (C, H, W) of images in [-1, 1] with the 256 grey values v / 127.5 - 1.
        smoothing: Weight of uniform grey values in the objective, in [1e-6, 1]; each has a 256th of it.
        lr: Initial learning rate, in (0, 1]; 1 is a whole step to the optimum of a single batch.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None`` for a constant one.

    Raises:
        ValueError: If a number is out of range.
    """

    value_range = (-1.0, 1.0)

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        smoothing: float = 0.01,
        lr: float = 0.1,
        decay_steps: int | None = None,
    ) -> None:
        super().__init__(shape, NUM_VALUES, smoothing, lr, decay_steps)
        self.save_hyperparameters()

    def batch_problem(self, batch: Batch) -> str | None:
        """Names a value that is no grey value, if there is one."""
        return not_on_256_bins(batch.x)

    def sufficient_statistics(self, x: Tensor) -> Tensor:
        """Returns how many examples have each grey value at each place, a sum of one-hot vectors."""
        levels = grey_levels(x).long()
        counts = in_float64(torch.zeros_like(self.eta))
        return counts.scatter_add_(1, levels, torch.ones_like(levels, dtype=counts.dtype))

    def inner_product(self, x: Tensor) -> Tensor:
        """Returns the sum of the logarithms of the probabilities that the values have."""
        levels = grey_levels(x)
        # NaN stays NaN, in the gradient too, by which a run stops: to look for it here would wait for the device.
        return (self.eta.gather(1, levels.nan_to_num().long()) * (1 + 0 * levels)).sum(0)

    def log_partition(self, eta: Tensor) -> Tensor:
        """Returns log sum_k e^eta_k."""
        return eta.logsumexp(-1)

    def mean_parameters(self, eta: Tensor) -> Tensor:
        """Returns the probabilities of the grey values."""
        return eta.softmax(-1)

    def natural_parameters(self, mean: Tensor) -> Tensor:
        """Returns the logarithms of the probabilities, rounding of their sum taken off."""
        return (mean / mean.sum(-1, keepdim=True)).log()

    def place(self, uniform: Tensor) -> Tensor:
        """Returns the grey value in whose part of [0, 1) the number falls."""
        cumulative = self.mean_parameters(self.eta).cumsum(-1)
        levels = torch.searchsorted(cumulative, uniform.to(cumulative).T.contiguous(), right=True).T
        dtype = torch.promote_types(cumulative.dtype, torch.float32)  # in half precision grey values coincide
        return levels.clamp(max=NUM_VALUES - 1).to(dtype) / 127.5 - 1


def grey_levels(x: Tensor) -> Tensor:
    """Returns v of grey values v / 127.5 - 1, whole numbers from 0 to 255, (D, N), of images (N, ...)."""
    return ((x.flatten(1).T + 1) * 127.5).round().clamp(0, NUM_VALUES - 1)
