"""Text as tokens: characters or bytes, in random windows or in streams that a model's state follows.

The vocabulary is part of the data spec, and with that of every checkpoint: what a model wrote is read with
``decode(tokens, spec.vocabulary)``, and a prefix is given to it as ``encode(prefix, spec.vocabulary)``.
"""

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules import public_files
from datamodules.find import find
from datamodules.loader import EvaluationLoader, Source
from datamodules.sequence_base import SequenceDataModule, to_tokens
from datamodules.sequences import RandomWindows, SequenceSource, Streams, TrainingStreams, consecutive
from datamodules.spec import DataSpec
from datamodules.vocabulary import BYTES, decode, encode, read_text, vocabulary_of

ARRANGEMENTS = ("windows", "streams")


class TextDataModule(SequenceDataModule):
    """Abstract: one text, cut into consecutive parts for training, validation and testing.

    An example is ``window`` tokens, int64 (N, T). Training takes windows that begin anywhere, drawn anew for each
    epoch, of which an epoch has as many as fill the text once ("windows", as nanoGPT does); or streams, in which row i
    of batch k continues row i of batch k - 1 ("streams", truncated back-propagation with carried state, as char-rnn
    does), and then each batch is ``(x, lengths, continues)``. Validation and testing see every token exactly once:
    in consecutive windows that know nothing of one another, or in ``evaluation_streams`` streams on all processes
    together, whatever the training batch. A stream begins without context, so 1 gives the figure with state carried
    over the whole split, and 8 nearly the same in an eighth of the steps.

    Which tokens of a window are predicted is up to the method. One that predicts all of them, the first from a start
    state or from the state carried, has every token in its loss; nanoGPT predicts tokens 2..T, and so its 256
    predictions a window take window=257.

    Args:
        spec: What is yielded, but for the vocabulary.
        window: Tokens T of an example; evaluation may have shorter ones, padded with 0.
        batch_size: Windows, or streams, per process and batch.
        training: "windows" or "streams".
        evaluation: "windows" or "streams".
        evaluation_streams: Streams that the held-out text is cut into, a multiple of the number of processes.
        symbols: "characters" or "bytes".
        seed: Seed of the windows.

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
        """The tokens of each split, from the file; the vocabulary is put into the spec on the way."""
        text = read_text(path, self.symbols)
        if not self.spec.vocabulary:
            self.spec = replace(self.spec, vocabulary=vocabulary_of(text))
        tokens = encode(text, self.spec.vocabulary) if isinstance(text, str) else _as_tensor(text)
        compact = tokens.to(torch.uint8 if len(self.spec.vocabulary) <= 256 else torch.int32)
        return {split: compact[part] for split, part in self.bounds(len(compact)).items()}

    @abstractmethod
    def bounds(self, total: int) -> dict[str, slice]:
        """Returns where each split lies among ``total`` tokens."""

    def arranged(self, path: Path) -> dict[str, Source]:
        """The sources of the splits.

        Raises:
            ValueError: If a split is shorter than a window.
        """
        self.tokens = self.parts(path)
        for split, tokens in self.tokens.items():
            if 0 < len(tokens) < self.window or (split == "train" and not len(tokens)):
                raise ValueError(
                    f"The {split} part of {path} has {len(tokens)} {self.symbols}, fewer than "
                    f"window={self.window}: take a smaller window, more text or another split."
                )
        return {
            "train": RandomWindows(self.tokens["train"], self.window, self.seed),
            "val": self._held_out(self.tokens["val"]),
            "test": self._held_out(self.tokens["test"]),
        }

    def training_source(self, size: int) -> Source:
        """Returns windows that begin anywhere, or ``size`` streams."""
        source = self.source("train")
        if self.training == "windows":
            return source
        return TrainingStreams(self.tokens["train"], self.window, size, self.seed)

    def text(self, split: str) -> str:
        """The text of a split."""
        self.source(split)
        return decode(self.tokens[split], self.spec.vocabulary)

    def _held_out(self, tokens: Tensor) -> SequenceSource:
        if self.evaluation == "windows" or not len(tokens):
            return consecutive(tokens, self.window)
        return Streams.whole(tokens, self.window, self.evaluation_streams)

    def _evaluation_loader(self, split: str) -> EvaluationLoader | list[EvaluationLoader]:
        source = self.source(split)
        if not isinstance(source, Streams):
            return super()._evaluation_loader(split)
        rank, world_size = self._place()
        if source.rows % world_size:
            raise ValueError(
                f"evaluation_streams={source.rows} cannot be shared by {world_size} processes, each of which follows "
                "its own streams: take a multiple of their number."
            )
        return EvaluationLoader(
            source, source.rows // world_size, self.noise_key(split), self.transform, False, rank, world_size
        )


class TextFile(TextDataModule):
    """Any text in UTF-8, its first part for training, then validation, then testing.

    Characters are those that occur anywhere in the file, sorted; line ends are kept as they are. Bytes have the
    vocabulary ``BYTES`` and take any file.

    Args:
        path: The file.
        window: As in ``TextDataModule``.
        batch_size: As in ``TextDataModule``.
        training: As in ``TextDataModule``.
        evaluation: As in ``TextDataModule``.
        evaluation_streams: As in ``TextDataModule``.
        symbols: "characters" or "bytes".
        val_fraction: Part of the tokens for validation, in [0, 1).
        test_fraction: Part of the tokens for testing, in [0, 1), at the end.
        seed: Seed of the windows.

    Raises:
        ValueError: If an argument is out of range.
    """

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
        spec = DataSpec(name=Path(path).stem or "text", kind="tokens", shape=(max(window, 1),))
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
        """Consecutive parts, held-out ones rounded down."""
        val, test = (int(total * fraction) for fraction in self.fractions)
        train = total - val - test
        return {"train": slice(0, train), "val": slice(train, train + val), "test": slice(train + val, total)}

    def read(self) -> dict[str, Source]:
        """Reads the file and splits it."""
        return self.arranged(Path(self.hparams["path"]).expanduser())


class TinyShakespeare(TextDataModule):
    """A million characters of Shakespeare's plays (https://github.com/karpathy/char-rnn), 65 different ones.

    The split is nanoGPT's, on which the field states its numbers: the first nine tenths (1 003 854 characters) for
    training, the rest (111 540) for validation. There is no third part: "test" is the validation part again, so that
    a number under ``test/`` compares with published ones, and is no number of unseen data where a run was chosen by
    ``val/``.

    Args:
        data_dir: Folder to look in first, and to write to if the data has to be fetched; see ``datamodules.find``.
        window: As in ``TextDataModule``.
        batch_size: As in ``TextDataModule``.
        training: As in ``TextDataModule``.
        evaluation: As in ``TextDataModule``.
        evaluation_streams: As in ``TextDataModule``.
        seed: Seed of the windows.

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
        """The first nine tenths, and twice the rest."""
        train = int(total * 0.9)
        return {"train": slice(0, train), "val": slice(train, total), "test": slice(train, total)}

    def prepare_data(self) -> None:
        """Finds the file, or fetches it."""
        find(public_files.TINY_SHAKESPEARE, self.data_dir)

    def read(self) -> dict[str, Source]:
        """Reads the file and splits it."""
        return self.arranged(find(public_files.TINY_SHAKESPEARE, self.data_dir)[0])


def _as_tensor(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())
