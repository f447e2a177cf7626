"""Converts text to tokens and back, with a vocabulary of characters or as bytes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.spec import BYTES

NAMED = 8  # number of unknown characters that an error names


def encode(text: str, vocabulary: tuple[str, ...]) -> Tensor:
    """Returns the tokens of a text.

    Args:
        text: Any text.
        vocabulary: One character per token, or ``BYTES`` for UTF-8.

    Returns:
        Shape (T,), int64.

    Raises:
        ValueError: If a character is not in the vocabulary, which the message names, or the vocabulary is empty or
            has entries of several characters.
    """
    if not vocabulary:
        raise ValueError("The vocabulary is empty: call setup() of the datamodule first, which reads it from the text.")
    if vocabulary == BYTES:
        # In command-line arguments that are not UTF-8, lone surrogates stand for the original bytes.
        content = text.encode(errors="surrogateescape")
        return torch.from_numpy(np.frombuffer(content, np.uint8).astype(np.int64))
    if longer := [symbol for symbol in vocabulary if len(symbol) != 1]:
        raise ValueError(
            f"The vocabulary has {longer[0][:80]!r}, which is not one character: a text is encoded by characters, so "
            "these tokens have to be looked up by whoever made the vocabulary."
        )
    points = _code_points(text)
    known = np.array([ord(symbol) for symbol in vocabulary], np.uint32)
    order = known.argsort()
    places = np.searchsorted(known, points, sorter=order).clip(max=len(known) - 1)
    tokens = order[places]
    if (unknown := points[known[tokens] != points]).size:
        first = list(dict.fromkeys(map(chr, unknown[:10_000].tolist())))
        names = ", ".join(f"{symbol!r} (U+{ord(symbol):04X})" for symbol in first[:NAMED])
        more = "" if len(first) <= NAMED else f" and {len(first) - NAMED} more"
        shown = "".join(vocabulary[:100])
        raise ValueError(
            f"The text has characters that are not in the vocabulary: {names}{more}. Leave them out or replace them; "
            f"the vocabulary has {len(vocabulary)} characters and begins with {shown!r}."
        )
    return torch.from_numpy(tokens.astype(np.int64))


def decode(tokens: Tensor, vocabulary: tuple[str, ...]) -> str:
    """Returns the text of tokens; bytes that are not UTF-8 become U+FFFD.

    Args:
        tokens: Shape (T,), integers in 0..len(vocabulary) - 1.
        vocabulary: As in ``encode``.

    Raises:
        ValueError: If the tokens have another shape or are not integers, or one lies outside the vocabulary.
    """
    if tokens.ndim != 1 or tokens.is_floating_point():
        raise ValueError(
            f"decode takes the tokens of one text, integers (T,), not {tokens.dtype} {tuple(tokens.shape)}."
        )
    values = tokens.tolist()
    if wrong := [value for value in values if not 0 <= value < len(vocabulary)]:
        raise ValueError(f"Token {wrong[0]} is not in the vocabulary, which has {len(vocabulary)}.")
    if vocabulary == BYTES:
        return bytes(values).decode(errors="replace")
    return "".join([vocabulary[value] for value in values])


def read_text(path: Path, symbols: str = "characters") -> str | bytes:
    """Reads a file as characters or as bytes.

    Args:
        path: The file.
        symbols: "characters" for a string, "bytes" for bytes.

    Raises:
        ValueError: If there is no such file, or it is empty or, where characters are wanted, not UTF-8.
    """
    if not path.is_file():
        raise ValueError(f"path={str(path)!r} is not a file: give the path of a text.")
    content = path.read_bytes()
    if not content:
        raise ValueError(f"{path} is empty: a text needs at least one character.")
    if symbols == "bytes":
        return content
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {content[error.start]:#04x} at position {error.start}. Save it as UTF-8, or "
            "read it with symbols='bytes'."
        ) from error


def vocabulary_of(text: str | bytes) -> tuple[str, ...]:
    """Returns the characters that occur in a text, sorted; ``BYTES`` for bytes."""
    if isinstance(text, bytes):
        return BYTES
    return tuple(map(chr, np.unique(_code_points(text)).tolist()))


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
