"""Piano rolls: the published songs and a published baseline, transposition, and damaged files."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules import DamagedDataError, JSBChorales, Nottingham
from datamodules.sequences.music import PianoRolls, TransposedRolls
from datamodules.sequences.sequence_sources import SequenceSource
from datamodules.sources.public_files import JSB_CHORALES, NOTTINGHAM, PublicDataset

RealFiles = Callable[[PublicDataset], list[Path]]


def rolls(num: int = 40) -> SequenceSource:
    """Songs of 1 to 12 steps whose notes lie between the 6th lowest and the 6th highest key."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 13, (num,), generator=generator).tolist()
    songs = [torch.zeros(length, 88, dtype=torch.uint8) for length in lengths]
    for song in songs:
        song[:, 5:83] = (torch.rand(len(song), 78, generator=generator) < 0.1).to(torch.uint8)
        song[:, [5, 82]] = 1
    return SequenceSource.of(songs)


def test_each_song_is_shifted_by_its_own_number_of_semitones() -> None:
    """Each of the 11 shifts of at most 5 occurs among 4 000; false alarms below 1e-100."""
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
    """The published counts; 88 ln 2 and 11.059 nats per frame are 61.00 and 11.05 in the literature."""
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

    def nats_per_frame(p: Tensor) -> float:
        return -(test * p.log() + (1 - test) * (1 - p).log()).sum(1).mean().item()

    assert nats_per_frame((train.sum(0) + 0.5) / (len(train) + 1)) == pytest.approx(11.059, abs=0.01)
    assert nats_per_frame(torch.full((88,), 0.5, dtype=torch.float64)) == pytest.approx(88 * math.log(2), abs=1e-9)


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
    with pytest.raises(ValueError, match=rf"transpose={room + 1} .*\b{room}\b"):
        kind(transpose=room + 1).setup()


@pytest.mark.parametrize(("argument", "value"), [("window", 0), ("transpose", -1)])
def test_arguments_out_of_range_are_refused(argument: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"{argument}={value} .*\b{value + 1}\b"):
        JSBChorales(**{argument: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [JSBChorales, Nottingham])
def test_another_file_under_the_public_name_is_not_read(tmp_path: Path, kind: type[PianoRolls]) -> None:
    file = kind.dataset.files[0]
    (tmp_path / file.name).write_bytes(b"0" * file.size)
    with pytest.raises(DamagedDataError, match=rf"{file.name} .*SHA-256"):
        kind(data_dir=str(tmp_path)).setup()
