"""Piano rolls: the published songs and their published anchor, transposition, and damaged files."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor

from datamodules import DamagedDataError, JSBChorales, Nottingham
from datamodules.formats import read_chorales, read_piano_rolls
from datamodules.music import PianoRolls, TransposedRolls
from datamodules.public_files import JSB_CHORALES, NOTTINGHAM, PublicDataset
from datamodules.sequences import SequenceSource

RealFiles = Callable[[PublicDataset], list[Path]]


def rolls(num: int = 40) -> SequenceSource:
    """Songs of 1 to 12 steps between the 6th lowest and the 6th highest key."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 13, (num,), generator=generator).tolist()
    songs = [torch.zeros(length, 88, dtype=torch.uint8) for length in lengths]
    for song in songs:
        song[:, 5:83] = (torch.rand(len(song), 78, generator=generator) < 0.1).to(torch.uint8)
        song[:, [5, 82]] = 1
    return SequenceSource.of(songs)


def test_each_song_is_shifted_by_its_own_number_of_semitones() -> None:
    """Of 4 000 shifts of at most 5, each of the 11 comes up; false alarm below 1e-100."""
    plain = rolls()
    everything = torch.arange(len(plain))
    original = plain.padded(everything)
    source = TransposedRolls(plain, 5, seed=1)
    seen = []
    for epoch in range(100):
        of_epoch = source.for_epoch(epoch)
        shifted = of_epoch.padded(everything)
        lowest = shifted[:, 0].argmax(1) - 5  # the first step of each song has the key 5 as its lowest
        assert torch.equal(lowest, of_epoch.shifts)  # upwards where positive
        for song, before, shift in zip(shifted, original, lowest.tolist(), strict=True):
            moved = torch.zeros_like(before)
            moved[:, max(shift, 0) : 88 + min(shift, 0)] = before[:, max(-shift, 0) : 88 - max(shift, 0)]
            assert torch.equal(song, moved)
        assert len(lowest.unique()) > 1
        seen.append(lowest)
    assert torch.cat(seen).unique().tolist() == list(range(-5, 6))
    assert torch.equal(source.for_epoch(7).shifts, TransposedRolls(rolls(), 5, seed=1).for_epoch(7).shifts)
    assert not torch.equal(source.for_epoch(7).shifts, source.for_epoch(8).shifts)
    assert not torch.equal(source.for_epoch(7).shifts, TransposedRolls(rolls(), 5, seed=2).for_epoch(7).shifts)


def test_a_shift_stays_with_its_song_in_any_order() -> None:
    source = TransposedRolls(rolls(), 5, seed=1).for_epoch(3)
    everything = source.padded(torch.arange(len(source)))
    indices = torch.randperm(len(source))[:7]
    part = source.padded(indices)
    assert torch.equal(part, everything[indices][:, : part.shape[1]])


def test_the_real_chorales(real_files: RealFiles) -> None:
    """The counts of the published split; 88 ln 2 and 11.059 nats a frame are the literature's 61.00 and 11.05."""
    real_files(JSB_CHORALES)
    data = JSBChorales()
    sizes, frames, longest = [], [], 0
    for split in ("train", "val", "test"):
        x, lengths = data.sequences(split)
        inside = torch.arange(x.shape[1]) < lengths[:, None]
        assert x.dtype == torch.float32
        assert set(x.unique().tolist()) == {0.0, 1.0}
        assert not x[~inside].any()
        sizes.append(len(x))
        frames.append(x[inside].double())
        longest = max(longest, int(lengths.max()))
    assert sizes == [229, 76, 77]
    assert [len(part) for part in frames] == [13_807, 4_602, 4_725]
    assert data.spec.shape == (longest, 88)
    train, _, test = frames
    assert train.sum(1).mean().item() == pytest.approx(3.90, abs=0.005)

    def nats_a_frame(p: Tensor) -> float:
        return -(test * p.log() + (1 - test) * (1 - p).log()).sum(1).mean().item()

    assert nats_a_frame((train.sum(0) + 0.5) / (len(train) + 1)) == pytest.approx(11.059, abs=0.01)
    assert nats_a_frame(torch.full((88,), 0.5, dtype=torch.float64)) == pytest.approx(88 * math.log(2), abs=1e-9)


def test_the_real_nottingham(real_files: RealFiles) -> None:
    real_files(NOTTINGHAM)
    data = Nottingham()
    data.setup()
    assert [len(data.sources[split]) for split in ("train", "val", "test")] == [694, 173, 170]
    assert data.spec.shape == (max(source.shape[0] for source in data.sources.values()), 88)
    assert [int(source.labels.sum()) for source in data.sources.values()] == [176_561, 45_513, 44_463]


def test_batches_of_songs_are_padded_with_silence(real_files: RealFiles) -> None:
    real_files(JSB_CHORALES)
    data = JSBChorales(batch_size=16, transpose=3)
    steps, padding = 0, 0
    for x, lengths in data.train_dataloader():
        inside = torch.arange(x.shape[1]) < lengths[:, None]
        assert x.shape == (16, int(lengths.max()), 88)
        assert not x[~inside].any()
        assert x[inside].sum(1).mean() > 3
        steps, padding = steps + int(inside.sum()), padding + int((~inside).sum())
    assert padding < 0.15 * steps
    held_out = [x[:length] for xs, lengths in data.val_dataloader() for x, length in zip(xs, lengths, strict=True)]
    songs, lengths = data.sequences("val")
    assert all(torch.equal(a, b[:n]) for a, b, n in zip(held_out, songs, lengths, strict=True))


@pytest.mark.parametrize("kind", [JSBChorales, Nottingham])
def test_pieces_cover_every_training_frame_once(real_files: RealFiles, kind: type[PianoRolls]) -> None:
    real_files(kind.dataset)
    whole, cut = kind(), kind(window=50)
    whole.setup()
    cut.setup()
    train, pieces = whole.sources["train"], cut.sources["train"]
    assert isinstance(train, SequenceSource)
    assert isinstance(pieces, SequenceSource)
    assert pieces.shape == (50, 88)
    assert len(pieces) == int((train.lengths + 49).div(50, rounding_mode="floor").sum())
    together = torch.cat([pieces.padded(torch.tensor([i]))[0] for i in range(len(pieces))])
    assert torch.equal(together, train.values)
    assert cut.sources["test"].shape == whole.sources["test"].shape
    assert cut.spec == whole.spec


@pytest.mark.parametrize(("kind", "room"), [(JSBChorales, 12), (Nottingham, 10)])
def test_shifts_that_leave_the_keyboard_are_refused(real_files: RealFiles, kind: type[PianoRolls], room: int) -> None:
    real_files(kind.dataset)
    kind(transpose=room).setup()
    with pytest.raises(ValueError, match=f"transpose={room + 1} .* off the keyboard: take at most {room}"):
        kind(transpose=room + 1).setup()


@pytest.mark.parametrize(("argument", "value"), [("window", 0), ("transpose", -1)])
def test_arguments_out_of_range_are_refused(argument: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{argument}={value} must be at least {value + 1}"):
        JSBChorales(**{argument: value})  # type: ignore[arg-type]


def chorales(**changed: Any) -> dict[str, Any]:
    return {"train": [[[21, 108], []]], "valid": [[[60]]], "test": [[[61, 61]]], **changed}


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
        (b"", "cannot be read as JSON"),
        (json.dumps(chorales()).encode()[:-9], "cannot be read as JSON"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
        pytest.param(b"[" * 100_000, "cannot be read as JSON", id="nested"),
        (b"[1, 2]", "holds a list instead of train, valid, test"),
        (b"7", "holds a int instead of"),
        (json.dumps({"train": [[[60]]], "test": [[[60]]]}).encode(), "lacks valid"),
        (json.dumps(chorales(valid=[])).encode(), "lacks valid"),
        (json.dumps(chorales(valid=None)).encode(), "lacks valid"),
        (json.dumps(chorales(valid=5)).encode(), "lacks valid"),
        (json.dumps(chorales(test={"a": 1})).encode(), "lacks test"),
        (json.dumps(chorales(test=["song"])).encode(), "holds a song that is no list of steps"),
        (json.dumps(chorales(test=[[]])).encode(), "holds a song that is no list of steps"),
        (json.dumps(chorales(test=[[60]])).encode(), "holds a song that is no list of steps"),
        (json.dumps(chorales(test=[[[20]]])).encode(), r"holds the note 20; a piano's are 21\.\.108"),
        (json.dumps(chorales(test=[[[109]]])).encode(), "holds the note 109"),
        (json.dumps(chorales(test=[[[60.5]]])).encode(), r"holds the note 60\.5"),
        (json.dumps(chorales(test=[[[True]]])).encode(), "holds the note True"),
        (json.dumps(chorales(test=[[["C"]]])).encode(), "holds the note 'C'"),
        (json.dumps(chorales(test=[[[math.nan]]])).encode(), "holds the note nan"),
    ],
)
def test_files_that_hold_no_chorales_are_named(tmp_path: Path, body: bytes, message: str) -> None:
    path = tmp_path / "songs.json"
    path.write_bytes(body)
    with pytest.raises(ValueError, match=rf"songs\.json {message}"):
        read_chorales(path)


def cells(*songs: np.ndarray) -> np.ndarray:
    array = np.empty((1, len(songs)), object)
    for i, song in enumerate(songs):
        array[0, i] = song
    return array


def matlab(**changed: Any) -> dict[str, Any]:
    song = np.eye(3, 88)
    return {"traindata": cells(song, song[:1]), "validdata": cells(song), "testdata": cells(song), **changed}


def test_matlab_songs_keep_their_lengths(tmp_path: Path) -> None:
    savemat(tmp_path / "songs.mat", matlab())
    splits = read_piano_rolls(tmp_path / "songs.mat")
    assert [song.shape for song in splits["train"]] == [(3, 88), (1, 88)]
    assert torch.equal(splits["val"][0], torch.eye(3, 88, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"traindata": cells(np.eye(3, 88))}, "lacks validdata, testdata"),
        (matlab(testdata=cells()), "lacks testdata"),
        (matlab(testdata=cells(np.eye(3, 87))), r"no matrix \(T, 88\) of zeros and ones"),
        (matlab(testdata=cells(np.zeros((0, 88)))), "no matrix"),
        (matlab(testdata=cells(0.5 * np.eye(3, 88))), "no matrix"),
        (matlab(testdata=np.eye(3, 88)), "no matrix"),
        (matlab(testdata="song"), "no matrix"),
    ],
)
def test_matlab_files_that_hold_no_songs_are_named(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    savemat(tmp_path / "songs.mat", content)
    with pytest.raises(ValueError, match=rf"songs\.mat .*{message}"):
        read_piano_rolls(tmp_path / "songs.mat")


@pytest.mark.parametrize("keep", [0, 50, 200, -40])
def test_a_truncated_matlab_file_is_named(tmp_path: Path, keep: int) -> None:
    savemat(tmp_path / "songs.mat", matlab(), do_compression=True)
    body = (tmp_path / "songs.mat").read_bytes()
    (tmp_path / "songs.mat").write_bytes(body[:keep])
    with pytest.raises(ValueError, match=r"songs\.mat (cannot be read as a MATLAB file|lacks)"):
        read_piano_rolls(tmp_path / "songs.mat")


@pytest.mark.parametrize("kind", [JSBChorales, Nottingham])
def test_another_file_under_the_public_name_is_not_read(tmp_path: Path, kind: type[PianoRolls]) -> None:
    file = kind.dataset.files[0]
    (tmp_path / file.name).write_bytes(b"0" * file.size)
    with pytest.raises(DamagedDataError, match=rf"{file.name} is damaged: its SHA-256 .* Delete it"):
        kind(data_dir=str(tmp_path)).setup()
