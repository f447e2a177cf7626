"""Small protocols for what a module can do: callbacks, the zoo and the tests rely on these alone.

A module supports a protocol if it has its methods; ``isinstance(module, SupportsSampling)`` checks that.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from lightning_modules.parts.normalizers import LogPartition


@runtime_checkable
class SupportsSampling(Protocol):
    """Samples new data, in the range that the datamodule yields."""

    def sample(
        self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None
    ) -> Tensor: ...


@runtime_checkable
class SupportsInterpolation(Protocol):
    """Decodes latent codes, so that one can interpolate between two of them."""

    def sample_latent(self, num_samples: int, *, generator: Generator | None = None) -> Tensor: ...

    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class HasGenerator(Protocol):
    """Makes examples of codes (N, latent_dim) by its ``forward``, with gradients, as a GAN does."""

    latent_dim: int
    generator: nn.Module

    def sample_latent(self, num_samples: int, *, generator: Generator | None = None) -> Tensor: ...

    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class HasDensity(Protocol):
    """Has a log-density, in nats per example, shape (batch,): of evaluation mode, with gradients.

    It refuses data outside of its support. Methods of this library also have ``unchecked_log_prob`` or another inner
    function, which training calls.
    """

    def log_prob(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class HasBound(Protocol):
    """Has lower bounds of the log-density, in nats, shape (batch,): of evaluation mode, without gradients."""

    def elbo(self, x: Tensor) -> Tensor: ...

    def log_prob_bound(self, x: Tensor, num_samples: int) -> Tensor: ...


@runtime_checkable
class HasEnergy(Protocol):
    """Has an energy E with p(x) proportional to exp(-E(x)), in nats per example, shape (batch,), with gradients.

    It refuses data outside of its support; Markov chains, whose proposals may leave that, call ``unchecked_energy``.
    """

    def energy(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class HasLogPartition(Protocol):
    """Returns log Z of its energy, in nats, with its standard error and source."""

    def log_partition(self) -> LogPartition: ...


@runtime_checkable
class SupportsContinuation(Protocol):
    """Samples p(x_{t:T} | x_{1:t}), and returns the prefix and its continuation."""

    def continue_sequence(self, prefix: Tensor, length: int, *, generator: Generator | None = None) -> Tensor: ...


@runtime_checkable
class SupportsEncoding(Protocol):
    """Maps data to a latent code and back."""

    def encode(self, x: Tensor) -> Tensor: ...

    def reconstruct(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class FeatureExtractor(Protocol):
    """Extracts the features that FID, Inception Score, KID, precision and recall are computed from.

    ``extractor_name`` is part of every metric's name; ``num_features`` is the size of the features.
    """

    extractor_name: str
    num_features: int

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps uint8 images (N, C, H, W) to features (N, num_features) and class logits (N, K)."""
        ...


@runtime_checkable
class SupportsAveraging(Protocol):
    """Names the networks that sampling uses, of which an exponential moving average is kept."""

    def averaged_networks(self) -> Mapping[str, nn.Module]: ...
