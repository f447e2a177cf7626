"""Text to tokens and back, by characters and by bytes; what is not in the vocabulary is refused."""

import pytest
import torch
from torch import Tensor

from datamodules import decode, encode
from datamodules.sequences.vocabulary import BYTES, vocabulary_of

POEM = "Über allen Gipfeln\r\nist Ruh’,\tin allen Wipfeln 🌲 spürest du\n"
"""Characters of one to four bytes."""


def test_encoding_and_decoding_are_inverse() -> None:
    vocabulary = vocabulary_of(POEM)
    assert list(vocabulary) == sorted(set(POEM))
    tokens = encode(POEM, vocabulary)
    assert tokens.dtype == torch.int64
    assert [vocabulary[token] for token in tokens] == list(POEM)
    assert decode(tokens, vocabulary) == POEM
    shuffled = tuple(vocabulary[i] for i in torch.randperm(len(vocabulary)))
    assert decode(encode(POEM, shuffled), shuffled) == POEM


def test_bytes_are_those_of_the_file() -> None:
    tokens = encode(POEM, BYTES)
    assert bytes(tokens.tolist()) == POEM.encode()
    assert decode(tokens, BYTES) == POEM
    assert decode(tokens[:1], BYTES) == "\ufffd"  # half a character
    assert encode("a\udcff", BYTES).tolist() == [97, 255]  # the byte 255 in a command-line argument


@pytest.mark.parametrize("vocabulary", [("a", "b"), BYTES])
def test_empty_text_has_no_tokens(vocabulary: tuple[str, ...]) -> None:
    assert encode("", vocabulary).shape == (0,)
    assert decode(torch.zeros(0, dtype=torch.int64), vocabulary) == ""


def test_unknown_characters_are_named_with_their_code_points() -> None:
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\), '\\u200b' \(U\+200B\), '🌲' \(U\+1F332\)") as error:
        encode("café\u200b🌲é", tuple("abcdef"))
    assert error.match(r"\b6 .*'abcdef'")
    assert "more" not in str(error.value)
    with pytest.raises(ValueError, match=r"'h' \(U\+0068\).* 5 "):
        encode("abcdefghijklm", ("x",))
    with pytest.raises(ValueError, match=r"setup\(\)"):
        encode("a", ())
    with pytest.raises(ValueError, match="surrogates"):
        encode("\ud800", BYTES)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.tensor([0, 2]), r"\b2 .*\b2\b"),
        (torch.tensor([-1]), r"-1 .*\b2\b"),
        (torch.tensor([[0]]), r"torch\.int64 \(1, 1\)"),
        (torch.tensor([0.0]), r"torch\.float32 \(1,\)"),
    ],
)
def test_tokens_that_are_not_text_are_refused(tokens: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(tokens, ("a", "b"))


def test_entries_of_several_characters_are_no_characters() -> None:
    for entry in ("the", ""):
        with pytest.raises(ValueError, match=f"The vocabulary has '{entry}', which is not one character"):
            encode("the", ("a", entry))
