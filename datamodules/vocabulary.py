"""From text to tokens and back, by a vocabulary of characters or by bytes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

BYTES = tuple(f"0x{value:02x}" for value in range(256))
"""The vocabulary of text as bytes, by which ``encode`` and ``decode`` know it."""
NAMED = 8  # unknown characters that an error names


def encode(text: str, vocabulary: tuple[str, ...]) -> Tensor:
    """Returns the tokens of a text.

    Args:
        text: Any text.
        vocabulary: One character a token, or ``BYTES`` for UTF-8.

    Returns:
        Shape (T,), int64.

    Raises:
        ValueError: If a character is not in the vocabulary, which the message names, or there is no vocabulary.
    """
    if not vocabulary:
        raise ValueError("The vocabulary is empty: a text file's is known once the datamodule has been set up.")
    if vocabulary == BYTES:
        # A terminal hands on bytes that are no UTF-8 as lone surrogates, which stand for those bytes.
        content = text.encode(errors="surrogateescape")
        return torch.from_numpy(np.frombuffer(content, np.uint8).astype(np.int64))
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
            f"the {len(vocabulary)} characters that are known begin with {shown!r}."
        )
    return torch.from_numpy(tokens.astype(np.int64))


def decode(tokens: Tensor, vocabulary: tuple[str, ...]) -> str:
    """Returns the text of tokens; bytes that are no UTF-8 become U+FFFD.

    Args:
        tokens: Shape (T,), integers in 0..len(vocabulary) - 1.
        vocabulary: As in ``encode``.

    Raises:
        ValueError: If the shape is another, or a token lies outside the vocabulary.
    """
    if tokens.ndim != 1 or tokens.is_floating_point():
        raise ValueError(
            f"decode takes the tokens of one text, integers (T,), not {tokens.dtype} {tuple(tokens.shape)}."
        )
    values = tokens.tolist()
    if wrong := [value for value in values if not 0 <= value < len(vocabulary)]:
        raise ValueError(f"The token {wrong[0]} lies outside the vocabulary of {len(vocabulary)}.")
    if vocabulary == BYTES:
        return bytes(values).decode(errors="replace")
    return "".join([vocabulary[value] for value in values])


def read_text(path: Path, symbols: str = "characters") -> str | bytes:
    """Reads a file as characters or as bytes.

    Raises:
        ValueError: If there is no such file, or it is empty or, where characters are wanted, no UTF-8.
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
            f"{path} is no UTF-8: byte {content[error.start]:#04x} at position {error.start}. Save it as UTF-8, or "
            "read it with symbols='bytes'."
        ) from error


def vocabulary_of(text: str | bytes) -> tuple[str, ...]:
    """The characters that occur in a text, sorted."""
    if isinstance(text, bytes):
        return BYTES
    return tuple(map(chr, np.unique(_code_points(text)).tolist()))


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
