"""Codes of examples, and examples of codes: what an encoder q(z|x), a prior p(z) and a decoder p(x|z) are used for."""

from abc import ABC, abstractmethod
from functools import partial

import torch
from torch import Generator, Tensor, nn

from lightning_modules.latent.observation import Observation
from lightning_modules.latent.prior import CodeDecoder, LatentPrior
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.parts.checks import as_count, as_temperature
from lightning_modules.parts.interpolation import spherical_interpolation
from lightning_modules.parts.noise import new_generator
from lightning_modules.parts.sampling import as_labels, check_num_samples
from lightning_modules.runtime.given_conditions import TextOrTokens


class SamplesByCodes(LikelihoodModule, ABC):
    """Abstract: a model that encodes examples, and decodes the codes of these or of its prior."""

    decoder: nn.Module
    observation: Observation
    prior: LatentPrior
    latent_dim: int

    @abstractmethod
    def posterior(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the encoder's mean and log-scale, each (N, latent_dim), with gradients."""

    def encode(self, x: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Returns the mean of q(z|x), shape (N, latent_dim), in evaluation mode without gradients.

        Raises:
            ValueError: If ``x`` is of another shape or outside of the support, or labels are missing or do not fit.
        """

        def code(x: Tensor, labels: Tensor | None) -> Tensor:
            mean, log_scale = self.posterior(x, labels)
            return self.prior.infer(mean, log_scale, torch.zeros_like(mean)).code

        x = self.examples(x)
        return self.in_chunks(code, x, self.labels_for(len(x), labels))

    def reconstruct(self, x: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Returns E[x|z] at the mean of q(z|x), shape (N, *shape); raises as ``encode``."""
        return self.decode(self.encode(x, labels=labels), labels=labels)

    def sample_latent(self, num_samples: int, *, generator: Generator | None = None) -> Tensor:
        """Draws codes z ~ p(z), shape (num_samples, latent_dim)."""
        return self.prior.draw(check_num_samples(num_samples), generator or new_generator(), self.device)

    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Returns E[x|z], shape (N, *shape), of codes (N, latent_dim): probabilities of bits, means of other values.

        Raises:
            ValueError: Unless there is one label per code for a class-conditional model, and none for another.
        """
        return self.decode_in_chunks(CodeDecoder(self.prior, self.decoder), z, labels, self.observation.mean)

    def sample(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        captions: TextOrTokens | None = None,
        generator: Generator | None = None,
        mean: bool = False,
        temperature: float = 1.0,
    ) -> Tensor:
        """Samples examples, shape (num_samples, *shape), in the range of the data.

        Args:
            num_samples: Number of samples, at least 1.
            labels: Class labels, int64 (num_samples,), for a class-conditional model; ``None`` draws them by their
                frequency in training.
            captions: Captions of a model of these, as in ``choose_condition``.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system. The global random
                state does not change.
            mean: Whether to return E[x|z] instead of samples from p(x|z).
            temperature: Multiplies the scale of codes, and of samples given a code: below 1 samples are more typical
                and less varied.

        Raises:
            ValueError: If ``num_samples`` or ``temperature`` is not positive, or ``labels`` do not fit the model.
        """
        num_samples, temperature = check_num_samples(num_samples), as_temperature(temperature)
        source = generator or new_generator()
        labels = self.choose_condition(num_samples, labels, captions, source)
        z = self.prior.draw(num_samples, source, self.device, temperature)
        if mean:
            return self.decode(z, labels=labels)
        read = partial(self.observation.draw, generator=source, temperature=temperature)
        return self.decode_in_chunks(CodeDecoder(self.prior, self.decoder), z, labels, read)

    def traverse(self, z: Tensor, dimension: int, values: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Decodes codes with one coordinate set to each of ``values`` in turn.

        Args:
            z: Codes (N, latent_dim), as ``encode`` and ``sample_latent`` return them.
            dimension: The coordinate, 0 to latent_dim - 1.
            values: Shape (V,); two standard deviations of the prior are a usual span.
            labels: Class labels, int64 (N,), for a class-conditional model.

        Returns:
            E[x|z], shape (N, V, *shape).

        Raises:
            ValueError: If there is no such coordinate.
        """
        if not 0 <= (dimension := as_count("dimension", dimension, 0)) < self.latent_dim:
            raise ValueError(f"dimension={dimension} is not one of 0 to {self.latent_dim - 1}.")
        codes = self.codes(z).unsqueeze(1).repeat(1, len(values), 1)
        codes[..., dimension] = values.to(codes)
        return self.decode_paths(codes, labels)

    def interpolate(self, start: Tensor, end: Tensor, steps: int, *, labels: Tensor | None = None) -> Tensor:
        """Decodes ``steps`` codes on the arcs from ``start`` to ``end``, (N, latent_dim) each, ends included.

        Returns:
            E[x|z], shape (N, steps, *shape).

        Raises:
            ValueError: If ``steps`` is below 2.
        """
        steps = as_count("steps", steps, 2, ": both ends are included")
        return self.decode_paths(spherical_interpolation(self.codes(start), self.codes(end), steps), labels)

    def decode_paths(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        """Decodes codes (N, V, latent_dim) to (N, V, *shape)."""
        num, steps = codes.shape[:2]
        labels = None if labels is None else as_labels(labels).repeat_interleave(steps, 0)
        return self.decode(codes.flatten(0, 1), labels=labels).unflatten(0, (num, steps))
