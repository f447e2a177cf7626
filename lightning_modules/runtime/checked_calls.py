"""What public densities, energies, bounds and codes do with the data of a caller: checked every time, then converted.

Training does not come here: it checks the first batch of an epoch, and calls the functions named ``unchecked_...``.
"""

from abc import ABC, abstractmethod

from lightning.pytorch import LightningModule
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules.parts.support import checked, checked_codes


class ChecksCalls(LightningModule, ABC):
    """Abstract: a module that tells data from what is outside of its support."""

    latent_dim: int

    @abstractmethod
    def problem_with_data(self, batch: Batch) -> str | None:
        """Returns a sentence that says why the examples of a batch are outside of the model's support, or ``None``."""

    def examples(self, x: Tensor) -> Tensor:
        """Returns examples of a caller (N, *shape), checked, on the model's device and in the type of its weights.

        Every public density, energy, bound and code passes its data through this; gradients flow back to ``x``.

        Raises:
            ValueError: If they are of another form, or outside of the model's support.
        """
        checked(x, self, lambda data: self.problem_with_data(Batch(data)))
        return x.to(self.device, next(self.parameters()).dtype)

    def codes(self, z: Tensor) -> Tensor:
        """Returns codes of a caller, unchanged.

        Raises:
            ValueError: If they are not of shape (N, latent_dim), or not finite.
        """
        return checked_codes(z, self, self.latent_dim)
