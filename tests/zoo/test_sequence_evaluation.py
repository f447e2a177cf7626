"""Metrics of sequence checkpoints: both protocols of text, copying, music, pixels as images, and the command."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import Generator, Tensor, nn

import zoo
import zoo.data
import zoo.evaluation
import zoo.evaluation_request
from datamodules import MarkovSource, TextFile
from datamodules.spec import DataSpec
from lightning_modules import TeacherForcing
from lightning_modules.rendering.curves import DOTS, PANEL
from zoo import sequence_evaluation
from zoo.__main__ import main
from zoo.cards import card
from zoo.evaluation import Request, evaluate
from zoo.sequence_evaluation import AsImages, evaluate_sequences, music, nats_by_share_seen, text_windows


def random_text() -> TextFile:
    letters = torch.randint(4, (9000,), generator=torch.Generator().manual_seed(0)).tolist()
    Path("text.txt").write_text("".join("abcd"[letter] for letter in letters))
    return TextFile("text.txt", window=64, val_fraction=0.2, test_fraction=0.4, batch_size=4)


@pytest.fixture
def text() -> TextFile:
    return random_text()


def read_as_random_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a random text the data of every checkpoint."""
    for module in (zoo.data, zoo.evaluation_request):
        monkeypatch.setattr(module, "datamodule_of", lambda card, data_dir=None: random_text())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol that random texts of a few thousand letters are long enough for."""
    settings = {"prefix": 8, "steps": 40, "window": 20, "orders": (1, 2)}
    monkeypatch.setitem(sequence_evaluation.EXPOSURE, "tokens", settings)


def built(text: TextFile) -> TeacherForcing:
    text.setup()
    torch.manual_seed(1)
    return TeacherForcing.for_data(text.spec, width=8).eval()


def windows_by_hand(module: TeacherForcing, record: Tensor) -> float:
    """Each prediction on its own, of a window that was read from its first step."""
    losses = []
    with torch.no_grad():
        for i in range(0, len(record) - 256, 256):
            window = record[i : i + 257][None].long()
            losses.append(-module.log_prob(window) + module.log_prob(window[:, :1]))
    return float(torch.cat(losses).mean() / 256)


def test_windows_of_text_are_nano_gpts(text: TextFile) -> None:
    module = built(text)
    values = text_windows(module, text, "test")
    expected = windows_by_hand(module, text.tokens["test"])
    assert values["nats_per_step-exact_windows_256"] == pytest.approx(expected, rel=1e-5)
    assert values["bits_per_step-exact_windows_256"] == pytest.approx(expected / math.log(2), rel=1e-5)


def test_a_text_checkpoint_is_measured_by_both_protocols(
    text: TextFile, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = built(text)
    zoo.save(module, "text", recipe=None)
    read_as_random_text(monkeypatch)
    values = evaluate(card("./text"), num_samples=20)
    with torch.no_grad():  # the whole split as one sequence
        whole = -module.log_prob(text.tokens["test"].long()[None]) / len(text.tokens["test"])
    assert values["test/nats_per_step-exact_state_carried"] == pytest.approx(whole.item(), rel=1e-5)
    assert values["test/nats_per_step-exact_windows_256"] != values["test/nats_per_step-exact_state_carried"]
    # Four letters, each as likely as the others: of 4^10 10-grams the training text holds 3600.
    assert values["test/copied_10grams-20x512"] == pytest.approx(3600 / 4**10, abs=3e-3)
    num = 3600 // 48 // 2
    assert values[f"test/js_2gram_floor-prefix8-steps20to40-{num}"] > 0
    assert all(math.isfinite(value) for value in values.values())
    assert evaluate(card("./text"), samples_only=True) == {}


def test_a_song_book_has_no_distance_from_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(20, 40, (12,), generator=generator)
    songs = (torch.rand(12, 40, 88, generator=generator) < 0.04).float()

    class Remembers(nn.Module):
        def sample(self, num: int, *, length: int, generator: Generator) -> Tensor:
            return songs[:num, :length]

    data = SimpleNamespace(sequences=lambda split: (songs, lengths))
    values = music(Remembers(), data, "test", None, 0)
    assert values["copied_melody_8grams-12"] == values["copied_melody_8grams_of_real"] == 1
    for name, value in values.items():
        if "distance" in name:
            assert value == 0
    assert values["notes_per_frame-12"] == values["notes_per_frame_of_real"] > 3
    fewer = music(Remembers(), data, "test", 5, 0)
    assert fewer["pitch_distance-5"] > 0 == fewer["pitch_distance_of_real-12"]


def test_songs_are_grouped_by_what_is_known_of_their_melody() -> None:
    """One song is in the training set, one is not, and one is too short to tell."""
    generator = torch.Generator().manual_seed(0)
    rolls = (torch.rand(4, 30, 88, generator=generator) < 0.04).float()
    training, test = rolls[:2], rolls[1:]
    lengths = torch.tensor([30, 20, 5])
    data = SimpleNamespace(
        sequences=lambda split: (training, torch.tensor([30, 30])) if split == "train" else (test, lengths)
    )
    module = TeacherForcing.for_data(DataSpec("songs", "piano_roll", (30, 88), value_range=(0.0, 1.0)), width=4)
    nats = -module.eval().log_prob(test, lengths).detach() / lengths
    assert nats_by_share_seen(module, data, "test") == {
        "nats_per_step_seen_0_to_10_percent-1": pytest.approx(nats[1].item()),
        "nats_per_step_seen_90_to_100_percent-1": pytest.approx(nats[0].item()),
    }


def test_pixels_are_measured_as_images() -> None:
    module = TeacherForcing(length=36, vocabulary_size=2, width=4)
    images = AsImages(module, (1, 6, 6)).sample(3, generator=torch.Generator().manual_seed(0))
    tokens = module.sample(3, generator=torch.Generator().manual_seed(0))
    assert images.shape == (3, 1, 6, 6)
    assert images.dtype == torch.float32
    assert torch.equal(images[:, 0, 2], tokens[:, 12:18].float())


def test_a_pixel_checkpoint_has_an_fid_with_the_classifier_of_its_images() -> None:
    spec = DataSpec("fashion_mnist_pixels", "tokens", (784,), vocabulary=("0", "1"), preprocessing="binarized")
    module = TeacherForcing.for_data(spec, architecture="gru", width=4)
    zoo.save(module, "pixels")
    values = evaluate(card("./pixels"), num_samples=260, samples_only=True)
    assert values["test/fid-fashion_mnist_binarized-260"] > 10  # noise is no clothing
    assert "test/inception_score-fashion_mnist_binarized-260" in values
    assert Request(card("./pixels"), zoo.load("./pixels")).images[1].is_binarized


def test_the_command_plots_the_curve_of_a_checkpoint(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo.save(built(random_text()), "text")
    read_as_random_text(monkeypatch)
    assert main(["draw", "./text", "exposure_bias", "--num", "9", "--out", "curve.png"]) == 0
    with Image.open("curve.png") as image:
        # Two orders, and the hidden states.
        assert image.size == (round(3 * DOTS * PANEL[0]), round(DOTS * PANEL[1]))


def test_other_sequences_have_their_likelihood_only() -> None:
    data = MarkovSource(length=10, test_size=8)
    assert evaluate_sequences(TeacherForcing.for_data(data.spec, width=4), data) == {}


class Turning:
    """Clips of 6 frames, each the one before turned by a quarter."""

    spec = DataSpec("turning", "video", (6, 1, 12, 12), (0.0, 1.0))

    def sequences(self, split: str) -> tuple[Tensor, Tensor]:
        first = (torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(3)) * 255).round() / 255
        return torch.stack([first.rot90(t, (2, 3)) for t in range(6)], 1), torch.full((5,), 6)


class Turner(nn.Module):
    """Knows how frames turn, but its samples are noisy."""

    device = torch.device("cpu")

    def continue_sequence(self, prefix: Tensor, length: int, *, generator: Generator, temperature: float) -> Tensor:
        frames = [prefix[:, -1].rot90(t, (2, 3)) for t in range(1, length + 1)]
        continued = torch.stack(frames, 1)
        noise = 0.1 * temperature * torch.randn(continued.shape, generator=generator)
        return torch.cat([prefix, continued + noise], 1)


def test_forecasts_of_video_are_compared_with_the_second_half_of_clips() -> None:
    values = evaluate_sequences(Turner(), Turning(), num_samples=4)
    assert values["test/frame_mse-3to3-4"] == pytest.approx(144 * 0.1**2, rel=0.1)
    assert values["test/frame_psnr_of_centres-3to3-4"] > 55
    assert values["test/frame_ssim_at_3_of_centres-3to3-4"] == pytest.approx(1, abs=1e-3)
    assert values["test/frame_mse_of_last_frame-3to3-4"] > 5 * values["test/frame_mse-3to3-4"]
    assert evaluate_sequences(Turner(), Turning(), num_samples=4) == values


class FewClips(Turning):
    """As many clips as are asked for, and one that ends early."""

    def __init__(self, num: int, num_frames: int) -> None:
        self.num, self.num_frames = num, num_frames

    def sequences(self, split: str) -> tuple[Tensor, Tensor]:
        clips, lengths = super().sequences(split)
        clips, lengths = clips[: self.num + 1, : self.num_frames], lengths.clamp(max=self.num_frames)[: self.num + 1]
        return clips, torch.cat([lengths[:-1], lengths[-1:] - 1])


def test_a_model_of_video_forecasts_whole_clips_only() -> None:
    module = TeacherForcing.for_data(Turning.spec, width=4)
    values = evaluate_sequences(module, FewClips(3, 6))
    assert {key.rpartition("-")[2] for key in values} == {"3"}
    assert all(math.isfinite(value) for value in values.values())
    assert len(values) == 3 * 3 * 4  # ways to forecast, errors, and their mean with three horizons
    with pytest.warns(UserWarning, match="Forecasts were not measured. .* 3 whole clips of 1 frames"):
        assert evaluate_sequences(module, FewClips(3, 1)) == {}
