"""Text as tokens: characters or bytes, in random windows or in streams that a model's state follows.

The vocabulary is part of the data spec, and so of every checkpoint: ``decode(tokens, spec.vocabulary)`` is the text of
tokens that a model generated, and ``encode(prefix, spec.vocabulary)`` the tokens of a prefix that it shall continue.
"""

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.loader import Source
from datamodules.sequences.sequence_base import SequenceDataModule, to_tokens
from datamodules.sequences.sequence_sources import RandomWindows, SequenceSource, Streams, TrainingStreams, consecutive
from datamodules.sequences.vocabulary import BYTES, decode, encode, read_text, vocabulary_of
from datamodules.sources import public_files
from datamodules.sources.digests import digest_of_file
from datamodules.sources.file_names import legible
from datamodules.sources.find import find
from datamodules.spec import DataSpec

ARRANGEMENTS = ("windows", "streams")
"""How a text can be cut into examples."""


class TextDataModule(SequenceDataModule):
    """Abstract: one text, cut into consecutive parts for training, validation and testing.

    An example is a window of T tokens; batches are int64 (N, T).

    In training, "windows" begin at random places, new ones in each epoch, and an epoch has as many as fill the text
    once (as in nanoGPT). "streams" are read in order: row i of batch k continues row i of batch k - 1, and batches have
    the field ``continues`` (truncated back-propagation with carried state, as in char-rnn).

    In validation and testing, every token is seen exactly once: in consecutive "windows" that are independent of one
    another, or in "streams", of which there are ``evaluation_streams`` on all processes together, whatever the training
    batch. A stream begins without context. So one stream gives the loss with state carried over the whole split, and
    eight streams give nearly the same loss in an eighth of the steps.

    The method decides which tokens of a window are predicted. If it predicts all of them, the first one from an initial
    state or from the carried state, every token is in its loss. nanoGPT predicts tokens 2..T, so its 256 predictions
    per window correspond to window=257.

    Args:
        spec: Describes the tokens; the vocabulary may still be empty.
        window: Number T of tokens of an example, at least 2; in evaluation an example may be shorter, padded with 0.
        batch_size: Windows, or streams, per process and batch.
        training: "windows" or "streams".
        evaluation: "windows" or "streams".
        evaluation_streams: Number of streams that the held-out text is cut into, a multiple of the number of processes.
        symbols: "characters" or "bytes".
        seed: Seed of windows, streams and order.

    Raises:
        ValueError: If an argument is out of range.
    """

    transform = staticmethod(to_tokens)

    def __init__(
        self,
        spec: DataSpec,
        window: int,
        batch_size: int,
        training: str,
        evaluation: str,
        evaluation_streams: int,
        symbols: str,
        seed: int,
    ) -> None:
        super().__init__(batch_size, seed, positive={"evaluation_streams": evaluation_streams})
        if window < 2:
            raise ValueError(f"window={window} must be at least 2: a token and the one before it.")
        for name, value, choices in (
            ("training", training, ARRANGEMENTS),
            ("evaluation", evaluation, ARRANGEMENTS),
            ("symbols", symbols, ("characters", "bytes")),
        ):
            if value not in choices:
                raise ValueError(f"{name}={value!r} must be {' or '.join(map(repr, choices))}.")
        self.window, self.training, self.evaluation = window, training, evaluation
        self.evaluation_streams, self.symbols = evaluation_streams, symbols
        self.spec = replace(spec, vocabulary=BYTES) if symbols == "bytes" else spec

    def parts(self, path: Path) -> dict[str, Tensor]:
        """Returns the tokens of each split, (T,), uint8 or int32."""
        text = read_text(path, self.symbols)
        tokens = encode(text, self.spec.vocabulary) if isinstance(text, str) else _as_tensor(text)
        compact = tokens.to(torch.uint8 if len(self.spec.vocabulary) <= 256 else torch.int32)
        return {split: compact[part] for split, part in self.bounds(len(compact)).items()}

    @abstractmethod
    def bounds(self, total: int) -> dict[str, slice]:
        """Returns which of ``total`` tokens each split has."""

    def arranged(self, path: Path) -> dict[str, Source]:
        """Reads the file and returns the source of each split.

        Raises:
            ValueError: If the file is missing or empty or, where characters are wanted, not UTF-8; or if a split is
                shorter than a window.
        """
        self.tokens = self.parts(path)
        fitting = min(len(tokens) for split, tokens in self.tokens.items() if len(tokens) or split == "train")
        smaller = f"set window to {fitting} at most (--data.window), or take" if fitting >= 2 else "take"
        for split, tokens in self.tokens.items():
            if 0 < len(tokens) < self.window or (split == "train" and not len(tokens)):
                raise ValueError(
                    f"The {split} part of {path} has {len(tokens)} {self.symbols}, fewer than "
                    f"window={self.window}: {smaller} more text or another split."
                )
        return {
            "train": RandomWindows(self.tokens["train"], self.window, self.seed),
            "val": self._held_out(self.tokens["val"]),
            "test": self._held_out(self.tokens["test"]),
        }

    def training_layout(self, size: int) -> Source | None:
        """Returns as many streams as a global batch has rows, ``size``, unless training takes windows.

        Raises:
            ValueError: If the text is too short for that many streams.
        """
        self.source("train")
        if self.training == "windows":
            return None
        return TrainingStreams(self.tokens["train"], self.window, size, self.seed)

    def text(self, split: str) -> str:
        """Returns the text of a split."""
        self.source(split)
        return decode(self.tokens[split], self.spec.vocabulary)

    def _held_out(self, tokens: Tensor) -> SequenceSource:
        if self.evaluation == "windows" or not len(tokens):
            return consecutive(tokens, self.window)
        return Streams.whole(tokens, self.window, self.evaluation_streams)

    def evaluation_batch_size(self, split: str, world_size: int) -> int | None:
        """Returns the streams of each process, if held-out text is read in streams.

        Raises:
            ValueError: If the processes cannot share the streams equally.
        """
        source = self.source(split)
        if not isinstance(source, Streams):
            return None
        return source.rows_per_process(world_size)


class TextFile(TextDataModule):
    """Any text in UTF-8: the first part is for training, the next for validation, the last for testing.

    With "characters", the vocabulary is all characters that occur in the file, sorted; line ends are kept as they are.
    It is in ``spec`` at once, because the file is read when ``spec`` is first asked for.
    With "bytes", it is ``BYTES``, and the file may be any.

    Args:
        path: Path of the file; ``~`` stands for the home folder.
        window: As in ``TextDataModule``.
        batch_size: As in ``TextDataModule``.
        training: As in ``TextDataModule``.
        evaluation: As in ``TextDataModule``.
        evaluation_streams: As in ``TextDataModule``.
        symbols: "characters" or "bytes".
        val_fraction: Fraction of the tokens for validation, in [0, 1).
        test_fraction: Fraction of the tokens for testing, in [0, 1), at the end.
        seed: As in ``TextDataModule``.

    Raises:
        ValueError: If an argument is out of range.
    """

    own_argument = "path"

    def __init__(
        self,
        path: str,
        window: int = 256,
        batch_size: int = 32,
        training: str = "windows",
        evaluation: str = "streams",
        evaluation_streams: int = 8,
        symbols: str = "characters",
        val_fraction: float = 0.05,
        test_fraction: float = 0.05,
        seed: int = 0,
    ) -> None:
        spec = DataSpec(name=legible(Path(path).stem) or "text", kind="tokens", shape=(max(window, 1),))
        super().__init__(spec, window, batch_size, training, evaluation, evaluation_streams, symbols, seed)
        for name, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
            if not 0 <= value < 1:
                raise ValueError(f"{name}={value} must lie in [0, 1).")
        if val_fraction + test_fraction >= 1:
            raise ValueError(
                f"val_fraction={val_fraction} and test_fraction={test_fraction} leave nothing to train on: together "
                "they must be below 1."
            )
        self.save_hyperparameters(logger=False)
        self.fractions = val_fraction, test_fraction

    def bounds(self, total: int) -> dict[str, slice]:
        """Returns consecutive parts; the sizes of held-out parts are rounded down."""
        val, test = (int(total * fraction) for fraction in self.fractions)
        train = total - val - test
        return {"train": slice(0, train), "val": slice(train, train + val), "test": slice(train + val, total)}

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.hparams["path"]).expanduser()

    def digest(self) -> str:
        """Returns the sha256 of the file.

        Raises:
            ValueError: If it is missing.
        """
        return digest_of_file(self.path)

    def describe(self) -> None:
        """Reads the vocabulary, unless it is known.

        Raises:
            ValueError: If the file is missing or empty or, where characters are wanted, not UTF-8.
        """
        if not self.spec.vocabulary:
            self.spec = replace(self.spec, vocabulary=vocabulary_of(read_text(self.path, self.symbols)))

    def read(self) -> dict[str, Source]:
        """Reads the file and splits it; see ``arranged`` for errors."""
        return self.arranged(self.path)


class TinyShakespeare(TextDataModule):
    """A million characters of Shakespeare's plays (https://github.com/karpathy/char-rnn), 65 different ones.

    The split is nanoGPT's, which published results use: the first nine tenths (1 003 854 characters) are for training,
    the rest (111 540) for validation. There is no third part: "test" is the validation part again. So metrics under
    ``test/`` can be compared with published ones, but they are not of unseen data where a run was chosen by ``val/``.

    Args:
        data_dir: Folder to look in first, and to write to if the data has to be fetched; see
            ``datamodules.sources.find``.
        window: As in ``TextDataModule``.
        batch_size: As in ``TextDataModule``.
        training: As in ``TextDataModule``.
        evaluation: As in ``TextDataModule``.
        evaluation_streams: As in ``TextDataModule``.
        seed: As in ``TextDataModule``.

    Raises:
        ValueError: If an argument is out of range.
    """

    name = "tinyshakespeare"
    vocabulary = tuple("\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

    def __init__(
        self,
        data_dir: str | None = None,
        window: int = 256,
        batch_size: int = 32,
        training: str = "windows",
        evaluation: str = "streams",
        evaluation_streams: int = 8,
        seed: int = 0,
    ) -> None:
        spec = DataSpec(name=self.name, kind="tokens", shape=(max(window, 1),), vocabulary=self.vocabulary)
        super().__init__(spec, window, batch_size, training, evaluation, evaluation_streams, "characters", seed)
        self.save_hyperparameters(logger=False)
        self.data_dir = data_dir

    def bounds(self, total: int) -> dict[str, slice]:
        """Returns the first nine tenths for training, and the rest for both validation and testing."""
        train = int(total * 0.9)
        return {"train": slice(0, train), "val": slice(train, total), "test": slice(train, total)}

    def prepare_data(self) -> None:
        """Finds the file, or fetches it.

        Raises:
            DataNotFoundError: If the data was not found.
            DamagedDataError: If a file is truncated or changed.
        """
        find(public_files.TINY_SHAKESPEARE, self.data_dir)

    def read(self) -> dict[str, Source]:
        """Reads the file and splits it; see ``arranged`` for errors."""
        return self.arranged(find(public_files.TINY_SHAKESPEARE, self.data_dir)[0])


def _as_tensor(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())
