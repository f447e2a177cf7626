"""Sequences as pieces of one long record: whole songs, windows of a text, streams that a model's state follows.

All steps of a data set lie one after another in one tensor, and an example is given by its start and its length. So
songs of any length, overlapping windows and streams are one kind of source, and a batch is one indexing operation.
Within a batch, examples are padded at their end to the length of the longest.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from datamodules.loader import SAMPLES, seeded

BATCHES_PER_BUCKET = 8
"""Batches whose examples are sorted by length together. What a seed means depends on it, so it never changes."""


def length_mask(lengths: Tensor, num_steps: int) -> Tensor:
    """Returns which steps are data rather than padding.

    Args:
        lengths: Number of steps of each sequence, int64 (N,).
        num_steps: Number of steps of the padded batch.

    Returns:
        Shape (N, num_steps), bool, on the device of ``lengths``.
    """
    return torch.arange(num_steps, device=lengths.device) < lengths[:, None]


class SequenceSource:
    """Pieces of a record of steps.

    Args:
        values: All steps, shape (total, ...), any dtype.
        starts: Index of the first step of each piece, int64 (N,).
        lengths: Number of steps of each piece, int64 (N,), each at least 1.
        padding: Value of the steps after the end of an example.

    Raises:
        ValueError: If a piece is empty or reaches beyond the record.
    """

    def __init__(self, values: Tensor, starts: Tensor, lengths: Tensor, padding: int = 0) -> None:
        if len(starts) and (lengths.min() < 1 or starts.min() < 0 or (starts + lengths).max() > len(values)):
            raise ValueError(
                f"Every sequence must have at least one step and lie within the record, which has {len(values)} steps."
            )
        self.values, self.starts, self.lengths, self.padding = values, starts, lengths, padding
        self.labels = lengths
        self.shape: tuple[int, ...] = (int(lengths.max()) if len(lengths) else 0, *values.shape[1:])

    @classmethod
    def of(cls, sequences: Sequence[Tensor], padding: int = 0, window: int | None = None) -> "SequenceSource":
        """Joins sequences, each (T, ...), into one record.

        Args:
            sequences: At least one sequence.
            padding: As in the class.
            window: Largest number of steps of a piece: longer sequences are cut into consecutive pieces. None keeps
                them whole.
        """
        starts: list[int] = []
        lengths: list[int] = []
        position = 0
        for sequence in sequences:
            step = window or max(len(sequence), 1)
            starts += range(position, position + len(sequence), step)
            lengths += [min(step, len(sequence) - begin) for begin in range(0, len(sequence), step)]
            position += len(sequence)
        indices = torch.tensor([starts, lengths], dtype=torch.int64)
        return cls(torch.cat(list(sequences)), indices[0], indices[1], padding)

    def __len__(self) -> int:
        return len(self.starts)

    def for_epoch(self, epoch: int) -> "SequenceSource":
        """Returns itself: the same sequences in every epoch."""
        return self

    def order(self, generator: torch.Generator, size: int) -> Tensor:
        """Returns a permutation in which the sequences of a batch have similar lengths.

        A random permutation is cut into buckets of a few batches, and each bucket is sorted by length, so that batches
        have little padding. The batches then come in random order. The examples that are left over at the end, too few
        for a batch, are chosen without regard to length.
        """
        if (fixed := self.fixed_order()) is not None:
            return fixed
        order = torch.randperm(len(self), generator=generator)
        if bool((self.lengths == self.lengths[0]).all()):
            return order
        full = len(self) // size * size
        buckets = order[:full].split(size * BATCHES_PER_BUCKET)
        batches = torch.cat([bucket[self.lengths[bucket].argsort(stable=True)] for bucket in buckets]).view(-1, size)
        shuffled = batches[torch.randperm(len(batches), generator=generator)]
        return torch.cat([shuffled.flatten(), order[full:]])

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the sequences at each tensor of indices, padded to the longest T of them, shape (n, T, ...)."""
        return (self.padded(indices) for indices in batches)

    def padded(self, indices: Tensor) -> Tensor:
        """Returns the sequences at ``indices``, padded to the longest T of them, shape (n, T, ...)."""
        starts, lengths = self.starts[indices], self.lengths[indices]
        num_steps = int(lengths.max()) if len(indices) else 0
        positions = starts[:, None] + torch.arange(num_steps)
        inside = length_mask(lengths, num_steps)
        flat = positions.clamp_(max=len(self.values) - 1).flatten()
        batch = self.values.index_select(0, flat).view(*positions.shape, *self.values.shape[1:])
        if not bool(inside.all()):
            batch[~inside] = self.padding
        return self.changed(batch, indices)

    def targets(self, indices: Tensor) -> dict[str, Tensor]:
        """Returns the lengths, int64 (n,), and ``further_targets``."""
        return {"lengths": self.lengths[indices], **self.further_targets(indices)}

    def fixed_order(self) -> Tensor | None:
        """Hook: returns the order of all examples in training, int64 (N,), or ``None`` for a random one."""
        return None

    def further_targets(self, indices: Tensor) -> dict[str, Tensor]:
        """Hook: returns fields of a batch besides ``x`` and ``lengths``, by name, of the examples at ``indices``."""
        return {}

    def changed(self, batch: Tensor, indices: Tensor) -> Tensor:
        """Hook: returns the padded sequences at ``indices`` as they are to be read, of the same shape."""
        return batch


class RandomWindows(SequenceSource):
    """Windows that begin anywhere in a record, at new random places in every epoch; as many as fill it once.

    Args:
        values: The record, shape (total, ...).
        window: Number of steps of each window.
        seed: Seed of the places, at least 0.
    """

    def __init__(self, values: Tensor, window: int, seed: int) -> None:
        num = len(values) // window
        super().__init__(values, torch.arange(num) * window, torch.full((num,), window))
        self.window, self.seed = window, seed

    def for_epoch(self, epoch: int) -> SequenceSource:
        """Returns the windows of this epoch, a function of (seed, epoch)."""
        last = len(self.values) - self.window
        starts = torch.randint(last + 1, (len(self),), generator=seeded(SAMPLES, self.seed, 0, epoch))
        return SequenceSource(self.values, starts, self.lengths)


class Streams(SequenceSource):
    """A record cut into equally long rows that are read in parallel: row i of batch k continues row i of batch k - 1.

    Batches have the field ``continues``, bool (n,): whether a row continues the previous batch, so that the state of a
    model is carried over, or begins anew.

    Args:
        values: The record, shape (total, ...).
        starts: Index of the first step of window k of row i, at position k * rows + i, int64 (N,).
        lengths: Number of steps of that window, int64 (N,).
        rows: Number of rows, which is the size of a global batch.
    """

    def __init__(self, values: Tensor, starts: Tensor, lengths: Tensor, rows: int) -> None:
        super().__init__(values, starts, lengths)
        self.rows = rows

    @classmethod
    def whole(cls, values: Tensor, window: int, rows: int) -> "Streams":
        """Cuts a record so that each step is in exactly one window, with as few windows per row as possible.

        The lengths of rows differ by at most one step. The windows of a batch are equally long, except in the last
        batch, so a state that is carried over has never read padding.

        Args:
            values: The record, shape (total, ...).
            window: Largest number of steps of a window, at least 2.
            rows: Number of rows.

        Raises:
            ValueError: If there are fewer steps than rows.
        """
        if len(values) < rows:
            raise ValueError(f"{len(values)} steps cannot be cut into {rows} streams: take fewer streams or more data.")
        row_bounds = torch.arange(rows + 1) * len(values) // rows
        row_lengths = row_bounds.diff()
        longest = int(row_lengths.max())
        num = -(-longest // window)
        cuts = torch.arange(num)[:, None] * longest // num
        bounds = row_bounds[:-1] + torch.cat([cuts.expand(-1, rows), row_lengths[None]])  # (num + 1, rows)
        return cls(values, bounds[:-1].flatten(), bounds.diff(dim=0).flatten(), rows)

    def fixed_order(self) -> Tensor:
        """Returns the indices in rising order: the first window of every row, then the second of every row, ..."""
        return torch.arange(len(self))

    def further_targets(self, indices: Tensor) -> dict[str, Tensor]:
        """Returns whether each row continues the previous batch, bool (n,)."""
        return {"continues": indices >= self.rows}


class TrainingStreams(Streams):
    """Streams of whole windows that begin at a new random step in every epoch.

    So the cuts between windows change from epoch to epoch, and steps that one epoch leaves out at either end are in
    others.

    Args:
        values: The record, shape (total, ...).
        window: Number of steps of each window.
        rows: Number of rows, which is the size of a global batch.
        seed: Seed of the first step, at least 0.

    Raises:
        ValueError: If the record is too short for one window per row.
    """

    def __init__(self, values: Tensor, window: int, rows: int, seed: int) -> None:
        num = (len(values) - (window - 1)) // (rows * window)
        if num < 1:
            raise ValueError(
                f"{rows} streams with window={window} need at least {rows * window + window - 1} steps of training "
                f"data, but there are {len(values)}: take a smaller batch_size or window, or more data."
            )
        starts = torch.arange(num)[:, None] * window + torch.arange(rows) * num * window  # (num, rows)
        super().__init__(values, starts.flatten(), torch.full((num * rows,), window), rows)
        self.window, self.seed = window, seed

    def for_epoch(self, epoch: int) -> Streams:
        """Returns the streams of this epoch, a function of (seed, epoch)."""
        spare = len(self.values) - len(self) * self.window
        offset = int(torch.randint(spare + 1, (), generator=seeded(SAMPLES, self.seed, 0, epoch)))
        return Streams(self.values, self.starts + offset, self.lengths, self.rows)


def consecutive(values: Tensor, window: int) -> SequenceSource:
    """Cuts a record into consecutive windows; each step is in exactly one, and the last window may be shorter."""
    return SequenceSource.of([values], window=window)
