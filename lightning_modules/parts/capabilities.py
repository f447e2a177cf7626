"""What a module can do, as small protocols: callbacks, the zoo and the tests rely on these alone.

A method says what it can by having the call; ``isinstance(module, Samples)`` asks.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor, nn


@runtime_checkable
class DataSpec(Protocol):
    """What a datamodule says of its data; see ``datamodules.spec.DataSpec`` for the fields."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def value_range(self) -> tuple[float, float] | None: ...
    @property
    def num_classes(self) -> int | None: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def class_counts(self) -> tuple[int, ...]: ...
    @property
    def preprocessing(self) -> str: ...
    @property
    def vocabulary(self) -> tuple[str, ...]: ...
    @property
    def modes(self) -> tuple[tuple[float, ...], ...]: ...
    @property
    def mode_scale(self) -> float | None: ...
    @property
    def entropy_rate(self) -> float | None: ...
    @property
    def scale(self) -> float | None: ...
    def to_json(self) -> dict[str, Any]: ...


@runtime_checkable
class Samples(Protocol):
    """Draws new data, in the range that the datamodule yields."""

    def sample(
        self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None
    ) -> Tensor: ...


@runtime_checkable
class Interpolates(Protocol):
    """Decodes latent codes, so that one can walk between two of them."""

    def sample_latent(self, num_samples: int, *, generator: Generator | None = None) -> Tensor: ...

    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class HasDensity(Protocol):
    """Has an exact log-density, in nats per example, shape (batch,)."""

    def log_prob(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class HasBound(Protocol):
    """Has lower bounds of the log-density, in nats per example, shape (batch,)."""

    def elbo(self, x: Tensor) -> Tensor: ...

    def log_prob_bound(self, x: Tensor, num_samples: int) -> Tensor: ...


@runtime_checkable
class HasEnergy(Protocol):
    """Has an energy E with p(x) proportional to exp(-E(x)), in nats per example, shape (batch,)."""

    def energy(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class Continues(Protocol):
    """Draws p(x_{t:T} | x_{1:t}): the prefix and what follows it."""

    def continue_sequence(self, prefix: Tensor, length: int, *, generator: Generator | None = None) -> Tensor: ...


@runtime_checkable
class Encodes(Protocol):
    """Maps data to a latent code and back."""

    def encode(self, x: Tensor) -> Tensor: ...

    def reconstruct(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class Extracts(Protocol):
    """Looks at pictures for FID, Inception Score, KID, precision and recall.

    ``extractor_name`` stands in every metric's name; ``num_features`` is the width of the features.
    """

    extractor_name: str
    num_features: int

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps uint8 images (N, C, H, W) to features (N, num_features) and class logits (N, K)."""
        ...


@runtime_checkable
class Averages(Protocol):
    """Names the networks that sampling uses: those an exponential moving average is kept of."""

    def averaged_networks(self) -> Mapping[str, nn.Module]: ...
