"""Samples of a generator: codes z ~ N(0, I), decoded in one pass."""

from abc import ABC

from torch import Generator, Tensor, nn

from lightning_modules.base import GenerativeModule
from lightning_modules.parts.noise import draw_normal, new_generator
from lightning_modules.parts.sampling import check_num_samples
from lightning_modules.runtime.given_conditions import TextOrTokens


class SamplesByGenerator(GenerativeModule, ABC):
    """Abstract: a model whose samples are G(z, y) of codes z ~ N(0, I) and a condition y, if it has one."""

    generator: nn.Module
    latent_dim: int

    def sample_latent(self, num_samples: int, *, generator: Generator | None = None) -> Tensor:
        """Draws codes z ~ N(0, I), shape (num_samples, latent_dim)."""
        num_samples = check_num_samples(num_samples)
        return draw_normal((num_samples, self.latent_dim), generator or new_generator(), self.device)

    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Maps codes (N, latent_dim) to examples (N, *shape) in evaluation mode.

        Raises:
            ValueError: Unless there is one label per code for a conditional model, and none for another.
        """
        return self.decode_in_chunks(self.generator, z, labels)

    def sample(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        captions: TextOrTokens | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Samples examples, (num_samples, *shape), images in [-1, 1]; arguments as in ``choose_condition``."""
        num_samples, generator = check_num_samples(num_samples), generator or new_generator()
        labels = self.choose_condition(num_samples, labels, captions, generator)
        return self.decode(self.sample_latent(num_samples, generator=generator), labels=labels)
