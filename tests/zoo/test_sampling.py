"""Sampling and continuing sequences by the command line: what is written, and what is refused in a sentence."""

import re
from io import BytesIO
from pathlib import Path

import mido
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor

import zoo
import zoo.evaluation
from datamodules import DataSpec, Ring, decode
from datamodules.vocabulary import BYTES, encode
from lightning_modules import WGANGP, MixtureDensityRNN, TeacherForcing
from tests.zoo.tiny import TinyGAN
from zoo.__main__ import main
from zoo.commands import _meaning, _rank
from zoo.exhibits import BETWEEN_TEXTS, Drawn, Exhibit, is_text, medium_of, show_pixels, show_text
from zoo.model_card import readme
from zoo.views import views_of

LETTERS = tuple("\n !`abcdefghijklmnopqrstuvwxyzT")
SPECS = {
    "text": DataSpec("letters", "tokens", (12,), vocabulary=LETTERS),
    "bytes": DataSpec("bytes", "tokens", (12,), vocabulary=BYTES),
    "pixels": DataSpec("bits", "tokens", (16,), vocabulary=("0", "1"), preprocessing="binarized"),
    "music": DataSpec("nottingham", "piano_roll", (24, 88), value_range=(0.0, 1.0)),
    "strokes": DataSpec("pen", "strokes", (10, 3), preprocessing="dequantized", scale=20.0),
    "video": DataSpec("clips", "video", (6, 1, 8, 8), value_range=(0.0, 1.0)),
}
FILES = {
    "text": {"samples.txt", "samples.png"},
    "bytes": {"samples.txt", "samples.png"},
    "pixels": {"samples.png"},
    "music": {"samples.mid", "samples.png"},
    "strokes": {"samples.svg", "samples.png"},
    "video": {"samples.gif", "samples.png"},
}
WRITTEN = {
    "text": ["text.txt"],
    "bytes": ["bytes.txt"],
    "pixels": ["pixels.png"],
    "music": ["music.mid", "music.png"],
    "strokes": ["strokes.svg", "strokes.png"],
    "video": ["video.gif", "video.png"],
}


def built(kind: str) -> TeacherForcing | MixtureDensityRNN:
    torch.manual_seed(0)
    if kind == "strokes":
        return MixtureDensityRNN.for_data(SPECS[kind], width=4, num_components=2)
    return TeacherForcing.for_data(SPECS[kind], width=4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of every kind of sequence, and of a GAN."""
    folder = tmp_path_factory.mktemp("sequences")
    for kind in SPECS:
        zoo.save(built(kind), folder / kind)
    torch.manual_seed(0)
    zoo.save(WGANGP.for_data(Ring().spec, width=8), folder / "ring")
    return folder


@pytest.fixture
def held_out(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Tensor, Tensor]]:
    """Held-out examples of every kind, in place of those of a datamodule."""
    generator = torch.Generator().manual_seed(1)
    rolls = (torch.rand(9, 24, 88, generator=generator) < 0.1).float()
    pen = torch.randn(9, 10, 3, generator=generator)
    pen[..., 2] = (pen[..., 2] > 1).float()
    examples = {
        "letters": torch.randint(len(LETTERS), (9, 12), generator=generator),
        "bits": torch.randint(2, (9, 16), generator=generator),
        "nottingham": rolls,
        "pen": pen,
        "clips": torch.randint(256, (9, 6, 1, 8, 8), generator=generator) / 255,
    }
    lengths = torch.tensor([2, 3, 6, 6, 6, 6, 6, 6, 6])
    sequences = {name: (x, lengths) for name, x in examples.items()}

    class Data:
        def __init__(self, name: str) -> None:
            self.name = name

        def sequences(self, split: str) -> tuple[Tensor, Tensor]:
            assert split == "test"
            return sequences[self.name]

    monkeypatch.setattr(zoo.evaluation, "_datamodule", lambda card, data_dir: Data(card.data))
    return sequences


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


# What lies in a checkpoint


@pytest.mark.parametrize("kind", list(SPECS))
def test_a_checkpoint_has_a_picture_and_the_natural_file(kind: str, saved: Path) -> None:
    found = {path.name for path in (saved / kind).glob("samples.*")}
    assert found == FILES[kind]
    text = (saved / kind / "README.md").read_text()
    for name in found:
        assert f"({name})" in text
    assert "```python" in text


def test_what_is_saved_is_what_the_loaded_module_draws(saved: Path) -> None:
    tokens = zoo.load(str(saved / "text")).sample(2, length=400, generator=torch.Generator().manual_seed(0))
    texts = [decode(row, LETTERS) for row in tokens]
    content = (saved / "text/samples.txt").read_text()
    assert content == BETWEEN_TEXTS.join(texts) + "\n"
    assert texts[0].strip("\n") in (saved / "text/README.md").read_text()


def test_the_model_card_quotes_text_that_has_fences_of_its_own(saved: Path) -> None:
    card = zoo.card(saved / "text")
    text = readme(card, samples=["samples.txt"], quoted="a ```` b")
    assert "\n`````text\na ```` b\n`````\n" in text


@pytest.mark.parametrize("kind", list(SPECS))
def test_the_python_of_a_model_card_runs(kind: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", (saved / kind / "README.md").read_text(), re.DOTALL).group(1)
    names: dict[str, object] = {}
    exec(code.replace("path/to/this/folder", str(saved / kind)), names)
    assert ("prefix" in names) == (kind in ("text", "bytes"))
    if "prefix" not in names:
        length = 128 if kind == "music" else SPECS[kind].shape[0]
        assert names["samples"].shape[1] == names["continued"].shape[1] == length


def test_sequences_without_recorded_data_are_saved_without_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo.save(TeacherForcing(width=4), tmp_path / "plain")
    assert not [*(tmp_path / "plain").glob("samples.*")]
    assert "its data are not recorded" in fails(["sample", "plain"], capsys)


def test_measured_numbers_keep_the_quotation(saved: Path) -> None:
    from zoo.saving import update_metrics

    before = (saved / "bytes/README.md").read_text()
    update_metrics(saved / "bytes", {"test/nats_per_step-exact": 1.5})
    after = (saved / "bytes/README.md").read_text()
    assert after != before
    assert after.replace("| test/nats_per_step-exact | 1.5 |", "") != after
    assert after.split("## Use")[0].split("# bytes")[1] == before.split("## Use")[0].split("# bytes")[1]


# The command


@pytest.mark.parametrize("kind", list(SPECS))
def test_sample_writes_the_files_of_its_kind(kind: str, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(saved / kind), "--num", "2", "--length", "5"]) == 0
    assert re.findall(r"Wrote (\S+)", capsys.readouterr().out) == WRITTEN[kind]
    assert all(Path(name).stat().st_size > 0 for name in WRITTEN[kind])


def test_text_is_printed_and_written(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sample", str(saved / "text"), "--prefix", "The end", "--num", "3", "--length", "9", "--seed", "4"]
    assert main(arguments) == 0
    module = zoo.load(str(saved / "text"))
    prefix = encode("The end", LETTERS).expand(3, -1)
    drawn = module.continue_sequence(prefix, 9, generator=torch.Generator().manual_seed(4))
    texts = [decode(row, LETTERS) for row in drawn]
    assert all(text.startswith("The end") and len(text) == 16 for text in texts)
    printed = capsys.readouterr().out
    assert printed == BETWEEN_TEXTS.join(texts) + "\nWrote text.txt\n"
    assert Path("text.txt").read_text() == BETWEEN_TEXTS.join(texts) + "\n"
    assert not Path("text.png").exists()


def test_an_empty_prefix_is_the_start(saved: Path) -> None:
    for out, more in (("a.txt", ["--prefix", ""]), ("b.txt", [])):
        assert main(["sample", str(saved / "text"), *more, "--length", "30", "--out", out]) == 0
    assert Path("a.txt").read_text() == Path("b.txt").read_text()


def test_out_decides_what_is_written(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(saved / "text"), "--length", "30", "--out", "sub/x.PNG"]) == 0
    assert [path.name for path in Path("sub").iterdir()] == ["x.PNG"]
    assert Path("sub/x.PNG").read_bytes().startswith(b"\x89PNG")
    assert main(["sample", str(saved / "music"), "--num", "1", "--length", "6", "--out", "tune.mid"]) == 0
    file = mido.MidiFile("tune.mid")
    assert file.length == pytest.approx(6 * 60 / 100 / 2), "eighths at 100 quarters a minute"
    assert not Path("tune.png").exists()
    error = fails(["sample", str(saved / "music"), "--out", "tune.wav"], capsys)
    assert "'.wav', but what music samples is written as .mid or .png" in error


def test_controls_of_the_terminal_are_not_printed(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(saved / "bytes"), "--prefix", "\x1b[2Jé", "--length", "200", "--num", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("\ufffd[2Jé")
    assert not set(printed) & {"\x1b", "\x07", "\x08", "\r"}
    assert Path("bytes.txt").read_bytes().startswith("\x1b[2Jé".encode())


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("text", ["--prefix", "Thé 9"], "not in the vocabulary: 'é' (U+00E9), '9' (U+0039)"),
        ("text", ["--temperature", "-1"], "temperature=-1.0 must be a positive number"),
        ("text", ["--temperature", "0"], "temperature=0.0 must be a positive number"),
        ("text", ["--temperature", "nan"], "temperature=nan must be a positive number"),
        ("text", ["--prefix", "a", "--temperature", "-1"], "temperature=-1.0 must be a positive number"),
        ("text", ["--top-k", "0"], "top_k=0 must be at least 1"),
        ("text", ["--top-p", "1.5"], "top_p=1.5 must lie in (0, 1]"),
        ("text", ["--labels", "1"], "labels"),
        ("text", ["--prefix", "a", "--labels", "1"], "goes on from a beginning without labels"),
        ("music", ["--top-k", "3"], "top_k and top_p choose among symbols"),
        ("music", ["--prefix", "a"], "music is a TeacherForcing of nottingham, which is no text"),
        ("music", ["--prefix", ""], "which is no text"),
        ("pixels", ["--prefix", "01"], "which is no text"),
        ("pixels", ["--length", "17"], "17 pixels are more than the 16 of a picture"),
        ("ring", ["--prefix", "a"], "ring is a WGANGP, which does not go on from a beginning"),
        ("ring", ["--prime", "3"], "ring is a WGANGP, which does not go on from a beginning"),
        ("ring", ["--top-k", "3"], "ring is a WGANGP, whose samples have no top-k"),
        ("ring", ["--top-p", "0.5"], "whose samples have no top-p"),
        ("ring", ["--length", "3"], "whose samples have no length"),
        ("ring", ["--prefix", ""], "which is no text"),
        ("text", ["--prime", "3"], "'letters', for which there is no datamodule here"),
    ],
)
def test_what_a_method_cannot_do_is_said_in_one_line(
    kind: str, arguments: list[str], message: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fails(["sample", str(saved / kind), *arguments], capsys)
    assert not [*Path().iterdir()], "nothing is written"


def test_prefix_and_prime_exclude_each_other(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sample", str(saved / "text"), "--prefix", "a", "--prime", "3"])
    assert "not allowed with" in capsys.readouterr().err


def test_a_lower_temperature_and_fewer_symbols_change_the_text(saved: Path) -> None:
    written = set()
    for number, more in enumerate(([], ["--temperature", "0.5"], ["--top-k", "2"], ["--top-p", "0.3"])):
        assert main(["sample", str(saved / "text"), "--length", "50", *more, "--out", f"{number}.txt"]) == 0
        written.add(Path(f"{number}.txt").read_text())
    assert len(written) == 4
    assert main(["sample", str(saved / "text"), "--top-k", "1", "--length", "20", "--out", "x.txt"]) == 0
    first, second = Path("x.txt").read_text()[:-1].split(BETWEEN_TEXTS)
    assert first == second, "the likeliest symbol is the same"


# Going on from held-out examples


def test_prime_goes_on_from_held_out_examples(
    saved: Path, held_out: dict[str, tuple[Tensor, Tensor]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(saved / "text"), "--prime", "4", "--num", "3", "--length", "5"]) == 0
    texts = Path("text.txt").read_text()[:-1].split(BETWEEN_TEXTS)
    # The first two examples have no fifth step.
    assert [text[:4] for text in texts] == [decode(x[:4], LETTERS) for x in held_out["letters"][0][2:5]]
    assert {len(text) for text in texts} == {9}
    assert "has 6 steps: to go on from 6 it must be longer" in fails(
        ["sample", str(saved / "text"), "--prime", "6"], capsys
    )


def test_music_goes_on_from_held_out_frames(saved: Path, held_out: dict[str, tuple[Tensor, Tensor]]) -> None:
    assert main(["sample", str(saved / "music"), "--prime", "5", "--num", "1", "--length", "3"]) == 0
    roll = held_out["nottingham"][0][2, :5]
    sounding = [message for message in mido.MidiFile("music.mid") if not message.is_meta]
    now, first = 0.0, set()
    for message in sounding:
        now += message.time
        if message.type == "note_on" and now == 0:
            first.add(message.note - 21)
    assert first == set(roll[0].nonzero().flatten().tolist())
    assert mido.MidiFile("music.mid").length == pytest.approx(8 * 0.3)


def test_clips_go_on_below_the_true_ones(saved: Path, held_out: dict[str, tuple[Tensor, Tensor]]) -> None:
    assert main(["sample", str(saved / "video"), "--prime", "2", "--num", "2"]) == 0
    with Image.open("video.png") as picture:
        assert picture.size == (6 * 10 + 2, 4 * 10 + 2)
        shown = np.asarray(picture.convert("L"))
    true = (held_out["clips"][0][1] * 255).round()
    true[3:] = 255  # the first clip that is longer than 2 frames has 3
    for t in range(6):
        above, below = (shown[top : top + 8, 2 + 10 * t : 10 + 10 * t] for top in (2, 12))
        assert (above == true[t, 0].numpy()).all()
        assert (below == above).all() == (t < 2)
    with Image.open("video.gif") as gif:
        assert len([*ImageSequence.Iterator(gif)]) == 6


def test_pictures_are_completed(saved: Path, held_out: dict[str, tuple[Tensor, Tensor]]) -> None:
    held_out["bits"][1].fill_(16)
    assert main(["sample", str(saved / "pixels"), "--prime", "8", "--num", "3"]) == 0
    with Image.open("pixels.png") as picture:
        shown = np.asarray(picture.convert("L"))
    true = held_out["bits"][0][:3].view(3, 4, 4).numpy() * 255
    cells = shown[2:, 2:].reshape(3, 6, 8, 6)[:, :4, :, :4].transpose(0, 2, 1, 3)
    assert (cells[:, 0] == true).all()
    assert (cells[:, 1:, :2] == true[:, None, :2]).all()
    assert (cells[:, 1, 2:] == 128).all()
    assert set(np.unique(cells[:, 2:])) == {0, 255}
    assert not (cells[:, 2:] == cells[:, 2:3]).all(), "each is drawn anew"


def test_drawings_go_on_beside_the_true_ones(saved: Path, held_out: dict[str, tuple[Tensor, Tensor]]) -> None:
    assert main(["sample", str(saved / "strokes"), "--prime", "3", "--num", "2", "--out", "x.svg"]) == 0
    groups = Path("x.svg").read_text().split("<g transform=")[1:]
    assert len(groups) == 2 * 8
    colours = [set(re.findall(r'stroke="(rgb[^"]+)"', group)) for group in groups]
    assert colours[0] == colours[8] == {"rgb(25, 25, 25)"}
    assert all("rgb(200, 60, 30)" in colour for index, colour in enumerate(colours) if index % 8)


@pytest.mark.parametrize(
    ("kind", "size"), [("text", None), ("music", None), ("pixels", (8 * 6 + 2, 7 * 6 + 2)), ("video", (62, 142))]
)
def test_draw_continuation(
    kind: str, size: tuple[int, int] | None, saved: Path, held_out: dict[str, tuple[Tensor, Tensor]]
) -> None:
    x, lengths = held_out[SPECS[kind].name]
    lengths.fill_(x.shape[1])
    assert main(["draw", str(saved / kind), "continuation", "--num", "7"]) == 0
    with Image.open(f"{kind}.continuation.png") as picture:
        assert size in (None, picture.size)


def test_every_sequence_has_the_view_and_no_picture_has(saved: Path) -> None:
    assert all("continuation" in views_of(built(kind)) for kind in SPECS)
    assert "continuation" not in views_of(zoo.load(str(saved / "ring")))


# Exhibits


def test_bits_are_pictures_and_other_tokens_are_text() -> None:
    assert [kind for kind in ("text", "bytes", "pixels", "music") if is_text(SPECS[kind])] == ["text", "bytes"]
    chain = DataSpec("markov_source", "tokens", (16,), vocabulary=("0", "1"))
    assert is_text(chain), "two symbols alone make no picture"
    assert medium_of(TinyGAN()).extensions == (".png",)


def test_bits_lie_in_rows_from_the_top_left() -> None:
    bits = torch.zeros(2, 16, dtype=torch.int64)
    bits[0, [1, 4]] = 1
    shown = np.asarray(show_pixels(Drawn(bits[:, :10], SPECS["pixels"])).picture)[2:6, 2:6, 0]
    assert shown.tolist() == [[0, 255, 0, 0], [255, 0, 0, 0], [0, 0, 128, 128], [128] * 4]


def test_bytes_that_are_no_text_are_written_all_the_same() -> None:
    tokens = torch.tensor([[0xFF, 0x41, 0xC3, 0xA9, 0x0A]])
    exhibit = show_text(Drawn(tokens, SPECS["bytes"], given=2))
    assert exhibit.texts == ("\ufffdAé\n",)
    assert exhibit.content(".txt") == "\ufffdAé\n\n".encode()
    with Image.open(BytesIO(exhibit.content(".png"))) as picture:
        assert picture.size == exhibit.picture.size


def test_an_exhibit_has_no_other_files() -> None:
    with pytest.raises(KeyError):
        Exhibit(Image.new("L", (1, 1))).content(".mid")


# What lists and tables say


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("test/nats_per_step-exact", "-log p, nats a step, exact"),
        ("test/nats_per_step-exact_state_carried", "-log p, nats a step, exact (state carried)"),
        ("test/nats_per_step-exact_pixels", "-log p, nats a step, exact (pixels)"),
        ("test/bits_per_step-exact_windows_256", "-log2 p, bits a step, exact (windows 256)"),
        ("test/nll-exact", "-log p, nats an example, exact"),
        ("test/nll-upper_bound_k5", "-log p, nats an example, upper bound: log p is bounded below with k = 5 samples"),
        ("test/nll-ais", "-log p, nats an example, estimate: see its standard error"),
        ("test/nats_per_step", ""),
        ("test/fid-x-10k", ""),
    ],
)
def test_the_command_says_what_a_likelihood_is(name: str, meaning: str) -> None:
    assert _meaning(name) == meaning


def test_a_list_leads_with_nats_a_step() -> None:
    names = ["test/nll-exact", "test/copied_10grams_of_real", "test/bits_per_step-exact", "test/nats_per_step-exact"]
    assert min(names, key=_rank) == "test/nats_per_step-exact"


def test_the_readme_shows_nats_a_step() -> None:
    from tests.packaging.readme_tables import numbers

    shown = numbers({"test/nats_per_step-exact": 1.5, "test/bits_per_step-exact": 2.1, "test/copied_10grams": 0.1})
    assert shown == "nats_per_step-exact **1.5**"
