"""Readers of the files of songs and drawings, on small files written here, and files that are damaged."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from datamodules.sources.formats import read_chorales, read_piano_rolls, read_strokes
from tests.datamodules.small_data import (
    DRAWINGS,
    as_objects,
    cells,
    chorales,
    digest,
    matlab_songs,
    random_drawings,
    stroke_arrays,
)


def test_notes_are_columns_from_21_to_108(tmp_path: Path) -> None:
    path = tmp_path / "songs.json"
    path.write_text(json.dumps(chorales()))
    splits = read_chorales(path)
    assert splits["train"][0].dtype == torch.uint8
    assert splits["train"][0].nonzero().tolist() == [[0, 0], [0, 87]]
    assert splits["val"][0].nonzero().tolist() == [[0, 60 - 21]]
    assert splits["test"][0].nonzero().tolist() == [[0, 61 - 21]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON"),
        (json.dumps(chorales()).encode()[:-9], "JSON"),
        (b"\xff\xfe\x00", "JSON"),
        pytest.param(b"[" * 100_000, "JSON", id="nested"),
        (b"[1, 2]", "list .*train, valid, test"),
        (b"7", "int .*train, valid, test"),
        (json.dumps({"train": [[[60]]], "test": [[[60]]]}).encode(), r"\bvalid\b"),
        (json.dumps(chorales(valid=[])).encode(), r"\bvalid\b"),
        (json.dumps(chorales(valid=None)).encode(), r"\bvalid\b"),
        (json.dumps(chorales(valid=5)).encode(), r"\bvalid\b"),
        (json.dumps(chorales(test={"a": 1})).encode(), r"\btest\b"),
        (json.dumps(chorales(test=["song"])).encode(), "song .*list"),
        (json.dumps(chorales(test=[[]])).encode(), "song .*list"),
        (json.dumps(chorales(test=[[60]])).encode(), "song .*list"),
        (json.dumps(chorales(test=[[[20]]])).encode(), r"\b20\b.*21\.\.108"),
        (json.dumps(chorales(test=[[[109]]])).encode(), r"\b109\b.*21\.\.108"),
        (json.dumps(chorales(test=[[[60.5]]])).encode(), r"\b60\.5\b.*21\.\.108"),
        (json.dumps(chorales(test=[[[True]]])).encode(), r"\bTrue\b.*21\.\.108"),
        (json.dumps(chorales(test=[[["C"]]])).encode(), r"'C'.*21\.\.108"),
        (json.dumps(chorales(test=[[[math.nan]]])).encode(), r"\bnan\b.*21\.\.108"),
    ],
)
def test_files_without_chorales_are_named(tmp_path: Path, body: bytes, message: str) -> None:
    path = tmp_path / "songs.json"
    path.write_bytes(body)
    with pytest.raises(ValueError, match=rf"songs\.json .*{message}"):
        read_chorales(path)


def test_matlab_songs_keep_their_lengths(tmp_path: Path) -> None:
    savemat(tmp_path / "songs.mat", matlab_songs())
    splits = read_piano_rolls(tmp_path / "songs.mat")
    assert [song.shape for song in splits["train"]] == [(3, 88), (1, 88)]
    assert torch.equal(splits["val"][0], torch.eye(3, 88, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"traindata": cells(np.eye(3, 88))}, "validdata, testdata"),
        (matlab_songs(testdata=cells()), r"\btestdata\b"),
        (matlab_songs(testdata=cells(np.eye(3, 87))), r"\(T, 88\)"),
        (matlab_songs(testdata=cells(np.zeros((0, 88)))), r"\(T, 88\)"),
        (matlab_songs(testdata=cells(0.5 * np.eye(3, 88))), r"\(T, 88\)"),
        (matlab_songs(testdata=np.eye(3, 88)), r"\(T, 88\)"),
        (matlab_songs(testdata="song"), r"\(T, 88\)"),
    ],
)
def test_matlab_files_without_songs_are_named(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    savemat(tmp_path / "songs.mat", content)
    with pytest.raises(ValueError, match=rf"songs\.mat .*{message}"):
        read_piano_rolls(tmp_path / "songs.mat")


@pytest.mark.parametrize("keep", [0, 50, 200, -40])
def test_a_truncated_matlab_file_is_named(tmp_path: Path, keep: int) -> None:
    savemat(tmp_path / "songs.mat", matlab_songs(), do_compression=True)
    body = (tmp_path / "songs.mat").read_bytes()
    (tmp_path / "songs.mat").write_bytes(body[:keep])
    with pytest.raises(ValueError, match=r"songs\.mat .*(MATLAB|traindata|validdata|testdata)"):
        read_piano_rolls(tmp_path / "songs.mat")


def test_drawings_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "drawings.npz"
    np.savez_compressed(path, **stroke_arrays())  # type: ignore[arg-type]
    for (split, read), (name, size) in zip(read_strokes(path, digest(path)).items(), DRAWINGS.items(), strict=True):
        assert (split, len(read)) == ("val" if name == "valid" else name, size)
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(read, random_drawings(size), strict=True))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"valid": None}, r"\bvalid\b"),
        ({"test": as_objects([])}, r"\btest\b"),
        ({"test": np.array(3)}, r"\btest\b"),
        ({"test": as_objects([np.zeros((4, 3))])}, r"int16 .*\(T, 3\)"),
        ({"test": as_objects([np.zeros((4, 2), np.int16)])}, r"int16 .*\(T, 3\)"),
        ({"test": as_objects([np.zeros((0, 3), np.int16)])}, r"int16 .*\(T, 3\)"),
        ({"test": np.arange(6, dtype=np.int16)}, r"int16 .*\(T, 3\)"),
        ({"test": np.array(["a", "b"])}, r"int16 .*\(T, 3\)"),
    ],
)
def test_files_without_drawings_are_named(tmp_path: Path, changed: dict[str, np.ndarray | None], message: str) -> None:
    path = tmp_path / "drawings.npz"
    content = {name: array for name, array in {**stroke_arrays(), **changed}.items() if array is not None}
    np.savez(path, **content)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"drawings\.npz .*{message}"):
        read_strokes(path, digest(path))


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "array"])
def test_files_that_are_not_archives_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "drawings.npz"
    np.savez(path, **stroke_arrays())  # type: ignore[arg-type]
    if damage == "array":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    else:
        path.write_bytes({"empty": b"", "text": b"not an archive", "truncated": path.read_bytes()[:-100]}[damage])
    with pytest.raises(ValueError, match=r"drawings\.npz .*NPZ"):
        read_strokes(path, digest(path))
