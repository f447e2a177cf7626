"""Samples of sequence models: from the start, or as continuations of given steps.

A class-conditional model continues given steps without their class as p(x_{t+1:} | x_{1:t}) asks: the class is drawn
from p(class | x_{1:t}), which Bayes' rule gives exactly, because p(x_{1:t} | class) is known.
"""

from abc import abstractmethod

import torch
from torch import Generator, Tensor

from lightning_modules.autoregressive.sequence_network import SequenceNetwork
from lightning_modules.autoregressive.sequence_steps import choice_of, continued
from lightning_modules.base import GenerativeModule
from lightning_modules.parts.checks import as_count
from lightning_modules.parts.noise import new_generator
from lightning_modules.parts.sampling import CHUNK, check_num_samples, choose_labels, evaluating


class SamplesSequences(GenerativeModule):
    """Abstract: samples of a ``SequenceNetwork``; a subclass has its likelihood.

    Attributes:
        network: Maps the past to the distribution of the next step.
        length: Default number of steps.
        step_shape: Shape of a step.
    """

    network: SequenceNetwork
    length: int
    step_shape: tuple[int, ...]

    @abstractmethod
    def sequences(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Returns sequences of a caller (N, T, ...), checked, on the model's device and in the type of its steps."""

    @abstractmethod
    def log_prob(self, x: Tensor, lengths: Tensor | None = None, *, labels: Tensor | None = None) -> Tensor:
        """Returns log p(x) of whole sequences, given their class for a model of classes, nats, shape (N,)."""

    def completed(self, x: Tensor) -> Tensor:
        """Hook: returns sampled sequences (N, T, ...) as a caller gets them."""
        return x

    def lengths_in(self, x: Tensor) -> Tensor | None:
        """Hook: returns the lengths of sequences (N, T, ...) that mark their ends, int64 (N,), or ``None``."""
        return None

    def sample(
        self,
        num_samples: int,
        *,
        length: int | None = None,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Samples sequences from the start.

        Args:
            num_samples: Number of samples, at least 1.
            length: Number of steps T; by default the hyperparameter.
            labels: Class labels, int64 (num_samples,), for a class-conditional model; ``None`` draws them by their
                frequency in training.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system.
            temperature: Divides logits (multiplies scales); below 1 samples are more likely ones.
            top_k: For tokens: samples only among the k most likely ones.
            top_p: For tokens: samples only among the fewest most likely ones whose probabilities sum to at least p.
            progress: Whether to show a progress bar.

        Returns:
            Shape (num_samples, T, ...), as the datamodule yields them.

        Raises:
            ValueError: If a number is out of range, or labels do not fit the model.
        """
        num_samples = check_num_samples(num_samples)
        generator = generator or new_generator()
        labels = choose_labels(labels, num_samples, self.class_probabilities, generator)
        return self.continue_sequence(
            self.network.emission.start(num_samples, self.device)[:, :0],
            self.length if length is None else length,
            labels=labels,
            generator=generator,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            progress=progress,
        )

    def continue_sequence(
        self,
        prefix: Tensor,
        length: int,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Samples p(x_{t+1:t+length} | x_{1:t}): the network processes the prefix once, and then each new step once.

        Args:
            prefix: Shape (N, t, ...), t >= 0, of any type that holds the values.
            length: Number of steps to sample.
            labels: Classes, int64 (N,), for a class-conditional model; ``None`` draws them given the prefix.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system.
            temperature: As in ``sample``.
            top_k: As in ``sample``.
            top_p: As in ``sample``.
            progress: Whether to show a progress bar.

        Returns:
            Shape (N, t + length, ...): the prefix and its continuation, int64 for tokens, else floating point.

        Raises:
            ValueError: If a number is out of range, or the prefix or labels do not fit the model.
        """
        length = as_count("length", length)
        choice = choice_of(self.network.emission, temperature, top_k, top_p)
        prefix = self.prefixes(prefix)
        generator = generator or new_generator()
        if labels is None and self.class_probabilities is not None:
            labels = self.classes_given(prefix, generator)
        labels = self.labels_for(len(prefix), labels)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=generator.device).to(self.device)

        with evaluating(self):
            parts = prefix.split(CHUNK)
            of_part = [None] * len(parts) if labels is None else map(self.network.initial, labels.split(CHUNK))
            sampled = [
                continued(self.network, part, length, uniform, choice, progress, state)
                for part, state in zip(parts, of_part, strict=True)
            ]
            return self.completed(torch.cat(sampled))

    def class_posterior(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Returns p(class | x) of sequences, (N, K) for K classes, by Bayes' rule.

        Args:
            x: Shape (N, T, ...), as in ``log_prob``.
            lengths: Integers (N,); by default all T steps count.

        Raises:
            ValueError: If the model has no classes, or ``x`` or ``lengths`` do not fit it.
        """
        if self.class_probabilities is None:
            raise ValueError(f"This {type(self).__name__} has no classes; only one with num_classes has them.")
        x = self.sequences(x, lengths)
        lengths = torch.full((len(x),), x.shape[1]) if lengths is None else torch.as_tensor(lengths)
        parts = []
        for some, steps in zip(x.split(CHUNK), lengths.split(CHUNK), strict=True):
            classes = [torch.full((len(some),), label) for label in range(len(self.class_probabilities))]
            log_joint = [self.log_prob(some, steps, labels=labels) for labels in classes]
            parts.append(torch.softmax(self.class_probabilities.log() + torch.stack(log_joint, 1), 1))
        return torch.cat(parts)

    def classes_given(self, prefix: Tensor, generator: Generator) -> Tensor:
        """Draws the class of each prefix (N, t, ...) from p(class | prefix), int64 (N,); t may be 0."""
        assert self.class_probabilities is not None
        probabilities = self.class_probabilities.expand(len(prefix), -1)
        if prefix.shape[1]:
            with torch.no_grad():
                probabilities = self.class_posterior(prefix)
        drawn = torch.multinomial(probabilities.to(generator.device), 1, generator=generator)
        return drawn.squeeze(1).to(self.device)

    def prefixes(self, prefix: Tensor) -> Tensor:
        """Returns prefixes of a caller (N, t, ...), t >= 0, as ``sequences`` returns them.

        Raises:
            ValueError: As ``sequences`` does; t may be 0, N may not.
        """
        empty = (0, *self.step_shape)
        if not isinstance(prefix, Tensor) or tuple(prefix.shape[1:]) != empty or not len(prefix):
            return self.sequences(prefix)
        return self.network.emission.steps(prefix.to(self.device))
