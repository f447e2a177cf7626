"""The Bernoulli distribution of independent bits, the member of the exponential family of two values (eq. 1.16).

    q(x) = prod_i mu_i^x_i (1 - mu_i)^(1 - x_i),    T(x) = x,    eta = log(mu / (1 - mu)),    A(eta) = log(1 + e^eta)

Its fit is the mean image. It is the likelihood that every model of bits has to beat, because it knows no dependence
between pixels: the difference to a better model is what that model knows of it.

Generalized Linear Models (Nelder and Wedderburn, 1972), https://doi.org/10.2307/2344614
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.spec import Batch
from lightning_modules.density.exponential_family import ExponentialFamily
from lightning_modules.parts.likelihoods import not_binary
from lightning_modules.parts.precision import in_float64


class Bernoulli(ExponentialFamily):
    """Independent bits, trained by natural-gradient maximum likelihood, or fitted by ``fit_closed_form``.

    Args:
        shape: (C, H, W) of images of bits in {0, 1}.
        smoothing: Weight of uniform bits in the objective, in [1e-6, 1]: of those in a data set of N examples,
            ``1 / N`` is one more example, half on and half off.
        lr: Initial learning rate, in (0, 1]; 1 is a whole step to the optimum of a single batch.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None`` for a constant one.

    Raises:
        ValueError: If a number is out of range.
    """

    value_range = (0.0, 1.0)

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        smoothing: float = 1e-4,
        lr: float = 0.1,
        decay_steps: int | None = None,
    ) -> None:
        super().__init__(shape, 1, smoothing, lr, decay_steps)
        self.save_hyperparameters()

    def batch_problem(self, batch: Batch) -> str | None:
        """Names a value that is neither 0 nor 1, if there is one."""
        return not_binary(batch.x)

    def sufficient_statistics(self, x: Tensor) -> Tensor:
        """Returns how many examples have each bit on."""
        return in_float64(x).sum(0).view(-1, 1)

    def inner_product(self, x: Tensor) -> Tensor:
        """Returns the sum of the logits of the bits that are on."""
        return x.flatten(1).to(self.eta.dtype) @ self.eta.squeeze(1)

    def log_partition(self, eta: Tensor) -> Tensor:
        """Returns log(1 + e^eta)."""
        return F.softplus(eta).squeeze(-1)

    def mean_parameters(self, eta: Tensor) -> Tensor:
        """Returns the probability of a 1."""
        return eta.sigmoid()

    def natural_parameters(self, mean: Tensor) -> Tensor:
        """Returns log(mu / (1 - mu))."""
        return torch.logit(mean)

    def place(self, uniform: Tensor) -> Tensor:
        """Returns 1 where the number is below its probability."""
        mean = self.mean_parameters(self.eta).squeeze(1)
        return (uniform.to(mean.device) < mean).to(mean.dtype)
