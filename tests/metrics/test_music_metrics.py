"""Statistics of rolls that were written by hand, and numbers of the chorales that the literature agrees on."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from datamodules import JSBChorales
from datamodules.sources.public_files import JSB_CHORALES, PublicDataset
from lightning_modules import TeacherForcing
from lightning_modules.metrics.music_metrics import (
    LONGEST,
    melodic_intervals,
    music_histograms,
    music_rates,
    top_voice,
)

C4, E4, G4, C5 = (midi - 21 for midi in (60, 64, 67, 72))


def roll(*frames: list[int], steps: int = 8) -> Tensor:
    x = torch.zeros(steps, 88)
    for t, notes in enumerate(frames):
        x[t, notes] = 1
    return x


def songs() -> tuple[Tensor, Tensor]:
    """A song of six frames, one of two, and junk where they have ended."""
    first = roll([C4, E4], [C4, E4], [C4, G4], [], [C5], [E4, C5])
    second = roll([C4], [E4])
    first[6:], second[2:] = 1, 1
    return torch.stack([first, second]), torch.tensor([6, 2])


def nonzero(counts: Tensor) -> dict[int, int]:
    return {int(index): int(counts[index]) for index in counts.nonzero().flatten()}


def test_histograms_are_those_counted_by_hand() -> None:
    found = music_histograms(*songs())
    assert nonzero(found["polyphony"]) == {0: 1, 1: 3, 2: 4}
    assert nonzero(found["pitch"]) == {C4: 4, E4: 4, G4: 1, C5: 2}
    assert nonzero(found["pitch_class"]) == {0: 6, 4: 4, 7: 1}
    # C4 for three frames and one, E4 for two and one and one, G4 for one, C5 for two
    assert nonzero(found["note_length"]) == {1 - 1: 4, 2 - 1: 2, 3 - 1: 1}
    # E4 E4 G4 (silence) C5 C5, and C4 E4: no interval leads into or out of a silence
    assert nonzero(found["melodic_interval"]) == {87 + 0: 2, 87 + 3: 1, 87 + 4: 1}
    assert [len(found[name]) for name in found] == [89, 88, 12, LONGEST, 175]


def test_rates_are_those_counted_by_hand() -> None:
    rates = music_rates(*songs())
    assert rates == pytest.approx(
        {
            "notes_per_frame": 11 / 8,
            "silent_frames": 1 / 8,
            "repeated_frames": 1 / 6,
            "pitch_range": (12 + 4) / 2,
        }
    )
    silent = music_rates(torch.zeros(1, 1, 88), torch.tensor([1]))
    assert silent == {"notes_per_frame": 0, "silent_frames": 1, "repeated_frames": 0, "pitch_range": 0}


def test_the_melody_is_the_highest_voice() -> None:
    x, lengths = songs()
    assert top_voice(x, lengths).tolist() == [[E4, E4, G4, 88, C5, C5, -1, -1], [C4, E4, *[-1] * 6]]
    intervals = [[87, 87 + 3, 175, 175, 87, -1, -1], [87 + 4, *[-1] * 6]]
    assert melodic_intervals(x, lengths).tolist() == intervals
    assert melodic_intervals(x.roll(5, 2), lengths).tolist() == intervals  # in another key


def test_a_note_that_never_ends_is_counted_with_the_longest() -> None:
    x = torch.zeros(1, 50, 88)
    x[0, :, C4] = 1
    assert nonzero(music_histograms(x, torch.tensor([50]))["note_length"]) == {LONGEST - 1: 1}


def test_padding_changes_nothing_and_shapes_are_checked() -> None:
    x, lengths = songs()
    clean = x * (torch.arange(8) < lengths[:, None])[..., None]
    for name, counts in music_histograms(clean, lengths).items():
        assert torch.equal(counts, music_histograms(x, lengths)[name])
    for wrong in (torch.tensor([6]), torch.tensor([6, 9]), torch.tensor([0, 2])):
        with pytest.raises(ValueError, match="lengths"):
            music_rates(x, wrong)


def test_nats_per_frame_of_the_chorales_are_those_of_the_literature(
    real_files: Callable[[PublicDataset], list[Path]],
) -> None:
    """Fair coins for 88 notes have 88 ln 2 = 60.997; the training frequencies of notes have 11.06 (published: 11.05).

    All frames count, the first of a song too: without those, both tables of the literature are missed.
    """
    real_files(JSB_CHORALES)
    data = JSBChorales()
    rolls, lengths = data.sequences("train")
    frames = rolls.sum((0, 1)).double()
    module = TeacherForcing.for_data(data.spec, architecture="gru", width=4)
    head = module.network.emission.head
    assert isinstance(head, nn.Linear)
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    found = []
    for on in (torch.full((88,), 0.5), (frames + 0.1) / (lengths.sum() + 0.2)):
        with torch.no_grad():
            head.weight.zero_()
            head.bias.copy_(on.logit())
        (values,) = trainer.test(module, data, verbose=False)
        found.append(values["test/nats_per_step-exact"])
    assert found[0] == pytest.approx(88 * math.log(2), abs=1e-3)
    assert found[1] == pytest.approx(11.059, abs=0.01)
