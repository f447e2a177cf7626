"""What a model is conditional on: classes, captions or both; from a batch, from a caller, or drawn for samples.

The condition of examples is whole numbers, int64: classes (N,); captions as tokens (N, S), padded with 0; for both, the
class before the tokens, (N, 1 + S). So whatever is done to the examples of a batch is done to it by its first
dimension. Public methods take the condition as ``labels``; ``sample`` also takes captions as text.

Where none is given, classes are drawn by their frequency in training, and captions among those of the training
examples, with their classes; these are in the data spec, and so in every checkpoint.
"""

from abc import ABC
from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule
from torch import Generator, Tensor

from datamodules.spec import Batch, DataSpec, texts_of
from lightning_modules.parts.sampling import as_labels, check_labels, choose_labels, holds_integers
from lightning_modules.runtime.batch_checks import tokens_problem

TextOrTokens = Sequence[str] | Tensor
"""Captions as text, or as tokens (N, S), int64, padded with 0 at their end."""


class TakesConditions(LightningModule, ABC):
    """Abstract: a module that may be conditional on classes, captions or both."""

    num_classes: int | None
    num_words: int | None
    class_probabilities: Tensor | None
    data_spec: DataSpec
    has_data_spec: bool

    def condition(self, batch: Batch) -> Tensor | None:
        """Returns the condition of the examples of a batch, or ``None`` for an unconditional model.

        Raises:
            ValueError: If the batch has no captions, or no classes, for a model of these.
        """
        if self.num_words is None:
            return batch.labels if self.num_classes is not None else None
        if batch.tokens is None:
            raise ValueError(
                "A model of captions needs a batch with tokens: take data with captions, such as CaptionedFolder."
            )
        if self.num_classes is None:
            return batch.tokens
        if batch.labels is None:
            raise ValueError(
                "A model of classes and captions needs a batch with labels: take data with classes, such as folders."
            )
        return torch.cat([batch.labels[:, None], batch.tokens], 1)

    def labels_for(self, num: int, labels: Tensor | None) -> Tensor | None:
        """Returns a caller's condition of ``num`` examples on the module's device, or raises ValueError."""
        if self.num_words is not None:
            return self._checked_condition(num, labels)
        if self.class_probabilities is None and labels is None:
            return None
        return check_labels(labels, num, self.class_probabilities)

    def caption_condition(self, captions: TextOrTokens, labels: Tensor | None = None, num: int | None = None) -> Tensor:
        """Returns the condition of captions, as ``decode`` and other methods take it for ``labels``.

        Args:
            captions: Captions, as text or as tokens; one text is one caption.
            labels: Their classes, int64 (N,), for a model of both.
            num: Number of examples, for which captions are used in turn; by default one for each.

        Raises:
            ValueError: If the model takes no captions, or they are empty, no strings, more than ``num`` or have unknown
                words; or if classes are missing, or given to a model without classes.
        """
        self._check_takes_captions()
        if not isinstance(captions, Tensor):
            captions = texts_of(captions)
        elif captions.ndim != 2 or not holds_integers(captions):
            raise ValueError(
                f"captions as tokens must be integers of shape (N, words), not {tuple(captions.shape)} of "
                f"{captions.dtype}: one caption is tokens[None]."
            )
        num = len(captions) if num is None else num
        if len(captions) == 0:
            raise ValueError(
                "captions=[] has no caption: give at least one, or leave it out to draw captions of training."
            )
        if len(captions) > num:
            raise ValueError(f"{len(captions)} captions are more than num_samples={num}: ask for as many samples.")
        tokens = captions if isinstance(captions, Tensor) else self._tokens(captions)
        tokens = tokens.cpu()[torch.arange(num) % len(tokens)]
        if self.num_classes is None:
            if labels is not None:
                raise ValueError("labels were given to a model of captions alone; build it with num_classes, too.")
            return self._checked_condition(num, tokens)
        if labels is None:
            raise ValueError(
                f"This model takes a class with each caption: give labels, {num} integers below {self.num_classes}."
            )
        labels = check_labels(labels, num, self.class_probabilities).cpu()
        return self._checked_condition(num, torch.cat([labels[:, None], tokens], 1))

    def choose_condition(
        self, num: int, labels: Tensor | None, captions: TextOrTokens | None, generator: Generator
    ) -> Tensor | None:
        """Returns the condition of ``num`` samples: what a caller gives, and the rest drawn as in training.

        Args:
            num: Number of samples.
            labels: Classes, int64 (num,), or a condition as ``caption_condition`` returns it; ``None`` to draw them.
            captions: Captions, used in turn; ``None`` to draw them, of the given classes if there are any. Words of a
                text must have been trained on; tokens may be of held-out captions, too.
            generator: Source of random numbers.

        Raises:
            ValueError: If a condition does not fit the model, or is to be drawn and the captions of training are not
                recorded.
        """
        if captions is not None:
            if not isinstance(captions, Tensor):
                self.check_captions(captions := texts_of(captions))
            return self.caption_condition(captions, labels, num)
        if self.num_words is None:
            return choose_labels(labels, num, self.class_probabilities, generator)
        if labels is not None and as_labels(labels).ndim == 2:
            return self._checked_condition(num, labels)
        return self._drawn(num, labels, generator)

    def check_captions(self, captions: Sequence[str]) -> None:
        """Raises ValueError for captions of words that were not trained on; it is quick, also for very many."""
        self._check_takes_captions()
        for caption in captions:
            self.data_spec.tokens(caption, trained=True)

    def _check_takes_captions(self) -> None:
        if self.num_words is None:
            raise ValueError("captions were given to a model without captions; build it with num_words to use them.")

    def _tokens(self, captions: Sequence[str]) -> Tensor:
        rows = [self.data_spec.tokens(caption) for caption in captions]
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    def _drawn(self, num: int, labels: Tensor | None, generator: Generator) -> Tensor:
        spec = self.data_spec if self.has_data_spec else None
        if spec is None or not spec.captions:
            raise ValueError(
                "The captions of the training examples are not recorded, so none can be drawn: give captions=[...]."
            )
        ranks = torch.rand(num, generator=generator, device=generator.device, dtype=torch.float64).tolist()
        if self.num_classes is None:
            if labels is not None:
                raise ValueError("labels were given to a model of captions alone; build it with num_classes, too.")
            return self.caption_condition([spec.captions[int(rank * len(spec.captions))] for rank in ranks])
        if not spec.caption_classes:
            raise ValueError("The classes of the training captions are not recorded: give captions=[...] and labels.")
        by_class: dict[int, list[int]] = {}
        for place, label in enumerate(spec.caption_classes):
            by_class.setdefault(label, []).append(place)
        everything = list(range(len(spec.captions)))
        wanted = [None] * num if labels is None else check_labels(labels, num, self.class_probabilities).tolist()
        if missing := sorted({label for label in wanted if label is not None and label not in by_class}):
            raise ValueError(
                f"No training example has the class {missing[0]}, so no caption of it can be drawn: give captions."
            )
        places = [everything if label is None else by_class[label] for label in wanted]
        chosen = [found[int(rank * len(found))] for found, rank in zip(places, ranks, strict=True)]
        classes = torch.tensor([spec.caption_classes[place] for place in chosen])
        return self.caption_condition([spec.captions[place] for place in chosen], classes)

    def _checked_condition(self, num: int, condition: Tensor | None) -> Tensor:
        first = 0 if self.num_classes is None else 1
        if condition is None:
            raise ValueError("A model of captions needs them: give captions, or caption_condition(captions) as labels.")
        condition = as_labels(condition)
        if condition.ndim != 2 or not holds_integers(condition) or len(condition) != num or condition.shape[1] <= first:
            raise ValueError(
                f"The condition must be integers of shape ({num}, {'1 + ' if first else ''}words), as "
                f"caption_condition(captions) returns it, not {condition.dtype} of {tuple(condition.shape)}."
            )
        if problem := tokens_problem(condition[:, first:], self.num_words or 0):
            raise ValueError(f"The condition does not fit num_words={self.num_words}: {problem}.")
        if first:
            check_labels(condition[:, 0], num, self.class_probabilities)
        return condition.long().to(self.device)
