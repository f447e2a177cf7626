"""Sequences as pieces of one long record: whole songs, windows of a text, streams that a model's state follows.

All steps of a data set lie one after another in one tensor, and an example is where it begins and how long it is. So
songs of any length, windows that overlap and streams are one kind of source, and a batch is one indexing operation.
Within a batch, shorter examples are padded at their end to its longest.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from datamodules.loader import DRAWS, seeded

BATCHES_A_BUCKET = 8
"""Batches whose examples are sorted by length together; part of the meaning of a seed, so it never changes."""


def length_mask(lengths: Tensor, num_steps: int) -> Tensor:
    """Says which steps are data and no padding.

    Args:
        lengths: Shape (N,), int64.
        num_steps: Steps of the padded batch.

    Returns:
        Shape (N, num_steps), bool.
    """
    return torch.arange(num_steps, device=lengths.device) < lengths[:, None]


class SequenceSource:
    """Pieces of a record of steps.

    Args:
        values: All steps, shape (total, ...), any dtype.
        starts: Where each piece begins, shape (N,), int64.
        lengths: Its steps, shape (N,), int64, each at least 1.
        padding: What stands where an example has ended.

    Raises:
        ValueError: If a piece is empty or reaches beyond the record.
    """

    def __init__(self, values: Tensor, starts: Tensor, lengths: Tensor, padding: int = 0) -> None:
        if len(starts) and (lengths.min() < 1 or starts.min() < 0 or (starts + lengths).max() > len(values)):
            raise ValueError(
                f"Every sequence must have at least one step, and lie within the {len(values)} that exist."
            )
        self.values, self.starts, self.lengths, self.padding = values, starts, lengths, padding
        self.labels = lengths
        self.shape: tuple[int, ...] = (int(lengths.max()) if len(lengths) else 0, *values.shape[1:])

    @classmethod
    def of(cls, sequences: Sequence[Tensor], padding: int = 0, window: int | None = None) -> "SequenceSource":
        """Joins sequences (T, ...); with ``window``, longer ones are cut into consecutive pieces of at most that."""
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
        """Returns a permutation in which a batch holds sequences of like length; the batches come in random order.

        The examples of every few batches are sorted by length before they are dealt out, so that little is padded.
        Which examples share a batch is still random, and which are left over at the end is not decided by length.
        """
        order = torch.randperm(len(self), generator=generator)
        if bool((self.lengths == self.lengths[0]).all()):
            return order
        full = len(self) // size * size
        buckets = order[:full].split(size * BATCHES_A_BUCKET)
        batches = torch.cat([bucket[self.lengths[bucket].argsort(stable=True)] for bucket in buckets]).view(-1, size)
        shuffled = batches[torch.randperm(len(batches), generator=generator)]
        return torch.cat([shuffled.flatten(), order[full:]])

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the padded sequences at each tensor of indices, shape (n, longest of them, ...)."""
        return (self.padded(indices) for indices in batches)

    def padded(self, indices: Tensor) -> Tensor:
        """Returns the sequences at ``indices``, padded to the longest of them."""
        starts, lengths = self.starts[indices], self.lengths[indices]
        num_steps = int(lengths.max()) if len(indices) else 0
        positions = starts[:, None] + torch.arange(num_steps)
        inside = length_mask(lengths, num_steps)
        flat = positions.clamp_(max=len(self.values) - 1).flatten()
        batch = self.values.index_select(0, flat).view(*positions.shape, *self.values.shape[1:])
        if not bool(inside.all()):
            batch[~inside] = self.padding
        return batch

    def beside(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Returns the lengths, int64 (n,)."""
        return (self.lengths[indices],)


class RandomWindows(SequenceSource):
    """Windows that begin anywhere in a record, drawn anew for every epoch; as many as would fill the record once.

    Args:
        values: The record, shape (total, ...).
        window: Steps of each.
        seed: Seed of the beginnings, not negative.
    """

    def __init__(self, values: Tensor, window: int, seed: int) -> None:
        num = len(values) // window
        super().__init__(values, torch.arange(num) * window, torch.full((num,), window))
        self.window, self.seed = window, seed

    def for_epoch(self, epoch: int) -> SequenceSource:
        """The windows of this epoch, a function of (seed, epoch)."""
        last = len(self.values) - self.window
        starts = torch.randint(last + 1, (len(self),), generator=seeded(DRAWS, self.seed, 0, epoch))
        return SequenceSource(self.values, starts, self.lengths)


class Streams(SequenceSource):
    """A record cut into equally long rows that are read side by side: row i of batch k continues row i of batch k - 1.

    Beside the lengths a batch holds ``continues``, bool (n,): whether a row goes on from the batch before, so that the
    state of a model is carried over, or begins anew.

    Args:
        values: The record, shape (total, ...).
        starts: Where row i begins window k, at position k * rows + i.
        lengths: Its steps.
        rows: How many rows there are: the size of a global batch.
    """

    def __init__(self, values: Tensor, starts: Tensor, lengths: Tensor, rows: int) -> None:
        super().__init__(values, starts, lengths)
        self.rows = rows

    @classmethod
    def whole(cls, values: Tensor, window: int, rows: int) -> "Streams":
        """Every step of a record exactly once, in as few windows as hold at most ``window`` steps.

        Rows differ by one step at most. The windows of a batch are equally long, but for the last: a state that is
        carried over has never read padding.

        Args:
            values: The record, shape (total, ...).
            window: Steps of a window at most, at least 2.
            rows: How many rows to cut.

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

    def order(self, generator: torch.Generator, size: int) -> Tensor:
        """Returns the windows one after another, each for all rows."""
        return torch.arange(len(self))

    def beside(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Returns the lengths, int64 (n,), and whether each row continues the batch before, bool (n,)."""
        return *super().beside(indices), indices >= self.rows


class TrainingStreams(Streams):
    """Streams of whole windows, which begin at another step in every epoch.

    Windows are then not always cut alike, and what one epoch leaves over at either end belongs to others.

    Args:
        values: The record, shape (total, ...).
        window: Steps of each window.
        rows: Size of a global batch.
        seed: Seed of the beginnings, not negative.

    Raises:
        ValueError: If the record is too short for one window a row.
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
        """The streams of this epoch, a function of (seed, epoch)."""
        spare = len(self.values) - len(self) * self.window
        offset = int(torch.randint(spare + 1, (), generator=seeded(DRAWS, self.seed, 0, epoch)))
        return Streams(self.values, self.starts + offset, self.lengths, self.rows)


def consecutive(values: Tensor, window: int) -> SequenceSource:
    """Windows one after another, each step in exactly one; the last may be shorter."""
    return SequenceSource.of([values], window=window)
