"""Base class of models whose density exp(-E(x)) / Z has a normaliser that must be found: E, log Z, and log p."""

from abc import abstractmethod

from torch import Generator, Tensor

from lightning_modules.energy.persistent_chains import PersistentChains
from lightning_modules.parts.normalizers import KeptNormalizer, LogPartition, as_log_partition
from lightning_modules.parts.precision import in_finest
from lightning_modules.parts.sampling import measuring
from lightning_modules.parts.schedules import Schedule


class UnnormalizedModel(PersistentChains):
    """Abstract: a subclass defines E and how log Z is found.

    Args:
        lr_schedule: As in ``runtime.optimization``.
    """

    def __init__(self, lr_schedule: Schedule) -> None:
        super().__init__(lr_schedule=lr_schedule)
        self.normalizer = KeptNormalizer()

    @abstractmethod
    def unchecked_energy(self, x: Tensor) -> Tensor:
        """Returns what ``energy`` does, of any finite values; training and chains call it."""

    @abstractmethod
    def log_partition(
        self, schedule: str | int | None = None, *, num_chains: int | None = None, generator: Generator | None = None
    ) -> LogPartition:
        """Returns log Z of exp(-E) in nats, with its standard error.

        Args:
            schedule: Inverse temperatures of annealed importance sampling, where that is used.
            num_chains: Number of its chains.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system.
        """

    def exact_normalizer(self) -> LogPartition | None:
        """Hook: returns log Z where it can be computed without an estimate, else ``None``."""
        return None

    def energy(self, x: Tensor) -> Tensor:
        """Returns E(x) in nats, (N,), with gradients: p(x) is proportional to exp(-E(x)); the f of eq. 1.18.

        Args:
            x: Examples (N, *shape).

        Raises:
            ValueError: If ``x`` is of another shape, or outside of the model's support.
        """
        with measuring(self):
            return self.unchecked_energy(self.examples(x))

    def log_prob(self, x: Tensor) -> Tensor:
        """Returns log p(x) = -E(x) - log Z (eq. 1.20) in nats, shape (N,), with the log Z that is known.

        It is in float64 where the device has that. The log Z that is known is the one given to ``set_log_partition``,
        or else the exact one, which is computed once for the present weights. It is a constant in differentiation:
        gradients by ``x`` are those of log p, gradients by the weights those of -E.

        Args:
            x: Examples (N, *shape).

        Raises:
            ValueError: If ``x`` is of another shape, or outside of the model's support, or if log Z is not known.
        """
        energy = self.energy(x)
        return -in_finest(energy) - self.known_log_partition().log_partition

    def set_log_partition(self, value: float | LogPartition) -> None:
        """Sets the log Z that ``log_prob`` uses until the weights change.

        Args:
            value: log Z in nats, or what ``log_partition`` returns.

        Raises:
            ValueError: If it is no finite number.
        """
        self.normalizer.keep(as_log_partition(value), self)

    def known_log_partition(self) -> LogPartition:
        """Returns the log Z that ``log_prob`` uses.

        Raises:
            ValueError: If it is not known.
        """
        known = self.normalizer.of(self)
        if known is None:
            known = self.exact_normalizer()
            if known is None:
                raise ValueError(
                    f"{type(self).__name__}: log p(x) = -E(x) - log Z needs log Z, which is not known for these "
                    "weights; give set_log_partition an estimate, such as the result of log_partition()."
                )
            self.normalizer.keep(known, self)
        return known
