"""Text as data: the two ways to cut it, resuming, several processes, and files that are not text."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules import Batch, DamagedDataError, DataSpec, TextFile, TinyShakespeare, decode, encode
from datamodules.sequences.text import TextDataModule
from datamodules.sequences.vocabulary import vocabulary_of
from datamodules.sources.public_files import TINY_SHAKESPEARE, PublicDataset
from tests.datamodules.loaders import held_out, loader_of

POEM = "Über allen Gipfeln\r\nist Ruh’,\tin allen Wipfeln 🌲 spürest du\n" * 40
"""2 400 characters of one to four bytes."""


def written(tmp_path: Path, content: str | bytes = POEM) -> str:
    path = tmp_path / "poem.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def on_process(data: TextDataModule, rank: int, world_size: int) -> TextDataModule:
    data.place = (rank, world_size)
    return data


def pieces(batch: Batch) -> list[list[int]]:
    """Returns the tokens of each row without padding."""
    assert batch.lengths is not None
    return [row[:length].tolist() for row, length in zip(batch.x, batch.lengths, strict=True)]


def test_the_vocabulary_is_known_before_the_text_is_cut(tmp_path: Path) -> None:
    (tmp_path / "poem.txt").write_text(POEM)
    assert TextFile(str(tmp_path / "poem.txt")).spec.vocabulary == vocabulary_of(POEM)
    with pytest.raises(ValueError, match=r"'nowhere\.txt'"):
        _ = TextFile("nowhere.txt").spec


def test_the_vocabulary_is_in_the_spec_and_survives_json(tmp_path: Path) -> None:
    data = TextFile(written(tmp_path), window=16)
    data.setup()
    assert data.spec.vocabulary == vocabulary_of(POEM)
    assert data.spec.shape == (16,)
    assert data.spec.name == "poem"
    recorded = DataSpec.from_json(json.loads(json.dumps(data.spec.to_json())))
    assert recorded == data.spec
    assert decode(encode("Ruh’ 🌲", recorded.vocabulary), recorded.vocabulary) == "Ruh’ 🌲"


@pytest.mark.parametrize("symbols", ["characters", "bytes"])
def test_the_parts_are_consecutive_and_complete(tmp_path: Path, symbols: str) -> None:
    data = TextFile(written(tmp_path), window=16, symbols=symbols, val_fraction=0.1, test_fraction=0.2)
    data.setup()
    whole = encode(POEM, data.spec.vocabulary)
    parts = [data.tokens[split] for split in ("train", "val", "test")]
    assert torch.equal(torch.cat(parts).long(), whole)
    assert [len(part) for part in parts[1:]] == [int(len(whole) * 0.1), int(len(whole) * 0.2)]
    if symbols == "characters":
        assert "".join(data.text(split) for split in ("train", "val", "test")) == POEM


def test_text_of_more_than_256_symbols_is_complete(tmp_path: Path) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 700))) * 2
    data = TextFile(written(tmp_path, text), window=16, val_fraction=0, test_fraction=0)
    assert data.text("train") == text


def test_windows_are_pieces_of_the_text_and_differ_between_epochs(tmp_path: Path) -> None:
    data = TextFile(written(tmp_path), window=20, batch_size=8, seed=1)
    loader = data.train_dataloader()
    epochs = [[decode(row, data.spec.vocabulary) for x, _ in loader for row in x] for _ in range(2)]
    assert all(len(row) == 20 and row in data.text("train") for epoch in epochs for row in epoch)
    assert epochs[0] != epochs[1]
    again = TextFile(written(tmp_path), window=20, batch_size=8, seed=1).train_dataloader()
    assert [decode(row, data.spec.vocabulary) for x, _ in again for row in x] == epochs[0]


@pytest.mark.parametrize("evaluation", ["windows", "streams"])
@pytest.mark.parametrize(("window", "streams"), [(2, 1), (7, 4), (100, 2), (119, 8)])
def test_every_held_out_token_is_seen_once(tmp_path: Path, evaluation: str, window: int, streams: int) -> None:
    data = TextFile(written(tmp_path), window=window, batch_size=3, evaluation=evaluation, evaluation_streams=streams)
    for split in ("val", "test"):
        batches = [pieces(batch) for batch in held_out(data, split)]
        if evaluation == "streams":
            assert all(len(batch) == streams for batch in batches)
            rows = [list(row) for row in zip(*batches, strict=True)]
        else:
            rows = [[piece] for batch in batches for piece in batch]
        seen = [token for row in rows for piece in row for token in piece]
        assert seen == data.tokens[split].tolist()
        x, lengths = data.sequences(split)
        assert int(lengths.sum()) == len(seen)
        assert x.shape[1] <= window


@pytest.mark.parametrize("training", ["windows", "streams"])
@pytest.mark.parametrize("evaluation", ["windows", "streams"])
def test_two_processes_share_the_batches_of_one(tmp_path: Path, training: str, evaluation: str) -> None:
    def make(batch_size: int, rank: int, world_size: int) -> TextDataModule:
        data = TextFile(
            written(tmp_path),
            window=9,
            batch_size=batch_size,
            training=training,
            evaluation=evaluation,
            evaluation_streams=4,
        )
        return on_process(data, rank, world_size)

    for split in ("train", "val", "test"):
        whole, *halves = (loader_of(make(*place), split) for place in ((8, 0, 1), (4, 0, 2), (4, 1, 2)))
        for _ in range(2 if split == "train" else 1):
            for one, *two in zip(whole, *halves, strict=True):
                assert pieces(one) == [piece for half in two for piece in pieces(half)]
                for target, *shares in zip(list(one)[1:], *(list(half)[1:] for half in two), strict=True):
                    assert torch.equal(torch.cat(shares), target)


@pytest.mark.parametrize("training", ["windows", "streams"])
@pytest.mark.parametrize("stop", [0, 1, 17, 40])
def test_a_run_continues_exactly_where_it_stopped(tmp_path: Path, training: str, stop: int) -> None:
    def make() -> Any:
        return TextFile(written(tmp_path), window=9, batch_size=8, training=training).train_dataloader()

    def batches(loader: Any) -> list[Any]:
        return [[part.tolist() for part in batch] for batch in loader]

    reference = make()
    assert len(reference) < 40
    expected = batches(reference) + batches(reference) + batches(reference)
    stopped = make()
    taken: list[Any] = []
    while len(taken) < stop:
        for batch in stopped:
            taken.append([part.tolist() for part in batch])
            if len(taken) == stop:
                break
    resumed = make()
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    while len(taken) < len(expected):
        taken += batches(resumed)
    assert taken == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 1}, "window=1"),
        ({"window": 0}, "window=0"),
        ({"evaluation_streams": 0}, "evaluation_streams=0"),
        ({"training": "random"}, "training='random' .*'windows' .*'streams'"),
        ({"evaluation": ""}, "evaluation=''"),
        ({"symbols": "words"}, "symbols='words' .*'characters' .*'bytes'"),
        ({"val_fraction": 1.0}, r"val_fraction=1\.0 .*\[0, 1\)"),
        ({"test_fraction": -0.1}, r"test_fraction=-0\.1"),
        ({"val_fraction": float("nan")}, "val_fraction=nan"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, r"val_fraction=0\.5 .*test_fraction=0\.5\b"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextFile("some.txt", **arguments)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"", {}, r"poem\.txt"),
        (b"ab\xffcd" * 100, {}, r"poem\.txt .*UTF-8.*\b0xff .*\b2\b.*symbols='bytes'"),
        (b"abc" * 5, {}, r"\btrain .*poem\.txt .*\b15 characters.*window=256\b"),
        (b"abc" * 500, {"val_fraction": 0.1}, r"\bval .*poem\.txt .*\b150 characters.*window=256\b"),
        (b"abc" * 50, {"window": 9, "training": "streams"}, r"\b32 .*window=9 .*\b296 .*\b150\b"),
        (b"a" * 50, {"window": 2, "evaluation_streams": 3}, r"\b2 steps .*\b3 streams"),
    ],
)
def test_texts_that_cannot_be_used_are_named(
    tmp_path: Path, content: bytes, arguments: dict[str, Any], message: str
) -> None:
    settings = {"val_fraction": 0.0, "test_fraction": 0.0, **arguments}
    if "evaluation_streams" in arguments:
        settings["val_fraction"] = 0.04
    with pytest.raises(ValueError, match=message):
        TextFile(written(tmp_path, content), **settings).train_dataloader()


def test_any_file_can_be_read_as_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4
    data = TextFile(written(tmp_path, content), window=4, symbols="bytes", val_fraction=0, test_fraction=0)
    assert bytes(data.sequences("train")[0].flatten().tolist()) == content
    assert data.val_dataloader() == data.test_dataloader() == []
    with pytest.raises(ValueError, match=r"\bval .*\bpoem\b"):
        data.sequences("val")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(ValueError, match=f"path='{path}'"):
            TextFile(str(path)).setup()


def test_streams_that_processes_cannot_share_are_refused(tmp_path: Path) -> None:
    data = on_process(TextFile(written(tmp_path), window=9, evaluation_streams=3), 0, 2)
    with pytest.raises(ValueError, match=r"evaluation_streams=3 .*\b2\b"):
        data.val_dataloader()


def test_the_real_tiny_shakespeare(real_files: Callable[[PublicDataset], list[Path]]) -> None:
    """The sizes that nanoGPT states for its split, and the vocabulary that is written in the code."""
    (path,) = real_files(TINY_SHAKESPEARE)
    data = TinyShakespeare()
    data.setup()
    assert (len(data.tokens["train"]), len(data.tokens["val"])) == (1_003_854, 111_540)
    assert data.spec.vocabulary == TinyShakespeare.vocabulary == vocabulary_of(path.read_text())
    assert len(data.spec.vocabulary) == 65
    assert data.text("train") + data.text("val") == path.read_text()
    assert torch.equal(data.tokens["val"], data.tokens["test"])
    assert data.text("train").startswith("First Citizen:\nBefore we proceed")
    rows: list[list[Tensor]] = [[] for _ in range(8)]
    for x, lengths, _ in held_out(data):
        for row, tokens, length in zip(rows, x, lengths, strict=True):
            row.append(tokens[:length])
    assert torch.equal(torch.cat([torch.cat(row) for row in rows]), data.tokens["val"].long())


@pytest.mark.parametrize("changed", [b"", b"First Citizen", b"x" * 1_115_394])
def test_another_file_under_the_public_name_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bytes
) -> None:
    (tmp_path / "tinyshakespeare.txt").write_bytes(changed)
    monkeypatch.setenv("GENERATIVE_ZOO_DATA", str(tmp_path))
    for data in (TinyShakespeare(), TinyShakespeare(data_dir=str(tmp_path))):
        with pytest.raises(DamagedDataError, match=r"tinyshakespeare\.txt"):
            data.setup()


@pytest.mark.parametrize(
    ("length", "window", "fitting"), [(200, 50, "set window to 10 at most (--data.window), or take"), (30, 50, "take")]
)
def test_a_window_that_would_fit_is_named(tmp_path: Path, length: int, window: int, fitting: str) -> None:
    (tmp_path / "short.txt").write_text("ab" * (length // 2))
    with pytest.raises(ValueError, match=f"fewer than window={window}: {re.escape(fitting)} more text"):
        TextFile(str(tmp_path / "short.txt"), window=window).setup()
    if fitting != "take":
        TextFile(str(tmp_path / "short.txt"), window=10).setup()
