"""Sampling and continuing sequences by the command line: what is written, and what is refused in a sentence."""

import re
from pathlib import Path

import mido
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor

import zoo
from datamodules import Ring, decode
from datamodules.sequences.vocabulary import encode
from lightning_modules import FlowMatching, GibbsNet, TeacherForcing
from lightning_modules.rendering.renderers import BETWEEN_TEXTS
from tests.zoo.running import fails
from tests.zoo.sequence_checkpoints import LETTERS, SPECS
from zoo.__main__ import main

WRITTEN = {
    "text": ["text.txt"],
    "bytes": ["bytes.txt"],
    "pixels": ["pixels.png"],
    "music": ["music.mid", "music.png"],
    "strokes": ["strokes.svg", "strokes.png"],
    "video": ["video.gif", "video.png"],
}


@pytest.mark.parametrize("kind", list(SPECS))
def test_sample_writes_the_files_of_its_kind(kind: str, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(saved / kind), "--num", "2", "--length", "5"]) == 0
    assert re.findall(r"Wrote (\S+)", capsys.readouterr().out) == WRITTEN[kind]
    assert all(Path(name).stat().st_size > 0 for name in WRITTEN[kind])


def test_text_is_printed_and_written(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sample", str(saved / "text"), "--prefix", "The end", "--num", "3", "--length", "9", "--seed", "4"]
    assert main(arguments) == 0
    module = zoo.load(str(saved / "text"), TeacherForcing)
    prefix = encode("The end", LETTERS).expand(3, -1)
    continued = module.continue_sequence(prefix, 9, generator=torch.Generator().manual_seed(4))
    texts = [decode(row, LETTERS) for row in continued]
    assert all(text.startswith("The end") and len(text) == 16 for text in texts)
    printed = capsys.readouterr().out
    assert printed == BETWEEN_TEXTS.join(texts) + "\nWrote text.txt\n"
    assert Path("text.txt").read_text() == BETWEEN_TEXTS.join(texts) + "\n"
    assert not Path("text.png").exists()


@pytest.mark.parametrize("command", [["sample", "text"], ["draw", "ring", "energy"]])
@pytest.mark.parametrize("place", ["a file/x", "folder"])
def test_a_place_that_cannot_be_written_to_is_said_first(
    command: list[str], place: str, saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a file").touch()
    out = f"{place}.png"
    if place == "folder":
        Path(out).mkdir()
    monkeypatch.setattr("zoo.sample_command.sampled", None)  # so much as to call it would fail
    arguments = [command[0], str(saved / command[1]), *command[2:], "--out", out]
    reason = "is a folder" if place == "folder" else "cannot be written: "
    assert f"{out} {reason}" in (error := fails(arguments, capsys))
    assert "--out" in error


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
    for fact in ("tune.wav", "'.wav'", "music", ".mid", ".png"):
        assert fact in error


def test_controls_of_the_terminal_are_not_printed(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(saved / "bytes"), "--prefix", "\x1b[2Jé", "--length", "200", "--num", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("\ufffd[2Jé")
    assert not set(printed) & {"\x1b", "\x07", "\x08", "\r"}
    assert Path("bytes.txt").read_bytes().startswith("\x1b[2Jé".encode())


@pytest.mark.parametrize(
    ("kind", "arguments", "facts"),
    [
        ("text", ["--prefix", "Thé 9"], ["'é' (U+00E9), '9' (U+0039)"]),
        ("text", ["--temperature", "-1"], ["temperature=-1.0"]),
        ("text", ["--temperature", "0"], ["temperature=0.0"]),
        ("text", ["--temperature", "nan"], ["temperature=nan"]),
        ("text", ["--prefix", "a", "--temperature", "-1"], ["temperature=-1.0"]),
        ("text", ["--top-k", "0"], ["top_k=0"]),
        ("text", ["--top-p", "1.5"], ["top_p=1.5", "(0, 1]"]),
        ("text", ["--labels", "1"], ["labels"]),
        ("text", ["--prefix", "a", "--labels", "1"], ["text", "TeacherForcing", "labels"]),
        ("music", ["--top-k", "3"], ["top_k", "temperature"]),
        ("music", ["--prefix", "a"], ["music", "TeacherForcing", "nottingham", "--prefix"]),
        ("music", ["--prefix", ""], ["nottingham", "--prefix"]),
        ("pixels", ["--prefix", "01"], ["pixels", "--prefix"]),
        ("pixels", ["--length", "17"], ["17", "16"]),
        ("ring", ["--prefix", "a"], ["ring", "WGANGP"]),
        ("ring", ["--prime", "3"], ["ring", "WGANGP"]),
        ("ring", ["--top-k", "3"], ["ring", "WGANGP", "top-k"]),
        ("ring", ["--top-p", "0.5"], ["WGANGP", "top-p"]),
        ("ring", ["--length", "3"], ["WGANGP", "length"]),
        ("ring", ["--steps", "3"], ["ring", "WGANGP", "steps"]),
        ("ring", ["--guidance", "2"], ["ring", "WGANGP", "guidance"]),
        ("ring", ["--prefix", ""], ["WGANGP", "ring8", "--prefix"]),
        ("text", ["--prime", "3"], ["'letters'"]),
    ],
)
def test_what_a_method_cannot_do_is_said_in_one_line(
    kind: str, arguments: list[str], facts: list[str], saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = fails(["sample", str(saved / kind), *arguments], capsys)
    for fact in facts:
        assert fact in error
    assert not [*Path().iterdir()], "nothing is written"


def test_a_flow_takes_steps_and_guidance(capsys: pytest.CaptureFixture[str]) -> None:
    data = Ring(num_modes=3, batch_size=8, train_size=8, val_size=8, test_size=8)
    flow = FlowMatching.for_data(data.spec, width=2, num_classes=3)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    zoo.save(flow, "flow", samples=False)
    pictures = []
    for number, more in enumerate(([], ["--steps", "1"], ["--guidance", "3"], ["--steps", "10", "--guidance", "1"])):
        assert main(["sample", "flow", "--labels", "0,1", "--out", f"{number}.png", *more]) == 0
        pictures.append(Path(f"{number}.png").read_bytes())
    assert pictures[0] == pictures[3]
    assert len(set(pictures)) == 3
    assert "guidance=-1.0" in fails(["sample", "flow", "--guidance", "-1", "--out", "x.png"], capsys)
    too_many = fails(["sample", "flow", "--labels", "0,1,2", "--num", "2", "--out", "x.png"], capsys)
    assert "--labels has 3 classes, more than --num 2" in too_many


def test_a_classifier_does_not_sample(classified: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Classifier" in fails(["sample", str(classified)], capsys)


def test_prefix_and_prime_exclude_each_other(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sample", str(saved / "text"), "--prefix", "a", "--prime", "3"])
    error = capsys.readouterr().err
    assert "--prefix" in error.splitlines()[-1]
    assert "--prime" in error.splitlines()[-1]


def test_a_lower_temperature_and_fewer_symbols_change_the_text(saved: Path) -> None:
    written = set()
    for number, more in enumerate(([], ["--temperature", "0.5"], ["--top-k", "2"], ["--top-p", "0.3"])):
        assert main(["sample", str(saved / "text"), "--length", "50", *more, "--out", f"{number}.txt"]) == 0
        written.add(Path(f"{number}.txt").read_text())
    assert len(written) == 4
    assert main(["sample", str(saved / "text"), "--top-k", "1", "--length", "20", "--out", "x.txt"]) == 0
    first, second = Path("x.txt").read_text()[:-1].split(BETWEEN_TEXTS)
    assert first == second, "the likeliest symbol is the same"


# Continuations of held-out examples


def test_prime_continues_held_out_examples(
    saved: Path, held_out: dict[str, tuple[Tensor, Tensor]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(saved / "text"), "--prime", "4", "--num", "3", "--length", "5"]) == 0
    texts = Path("text.txt").read_text()[:-1].split(BETWEEN_TEXTS)
    # The first two examples have no fifth step.
    assert [text[:4] for text in texts] == [decode(x[:4], LETTERS) for x in held_out["letters"][0][2:5]]
    assert {len(text) for text in texts} == {9}
    capsys.readouterr()
    assert re.findall(r"\d+", fails(["sample", str(saved / "text"), "--prime", "6"], capsys)) == ["6", "6"]


def test_music_continues_held_out_frames(saved: Path, held_out: dict[str, tuple[Tensor, Tensor]]) -> None:
    assert main(["sample", str(saved / "music"), "--prime", "5", "--num", "1", "--length", "3"]) == 0
    roll = held_out["nottingham"][0][2, :5]
    sounding = [message for message in mido.MidiFile("music.mid") if not message.is_meta]
    now = 0.0
    first: set[int] = set()
    for message in sounding:
        now += message.time
        if message.type == "note_on" and now == 0:
            first.add(message.note - 21)
    assert first == set(roll[0].nonzero().flatten().tolist())
    assert mido.MidiFile("music.mid").length == pytest.approx(8 * 0.3)


def test_clips_continue_below_the_true_ones(saved: Path, held_out: dict[str, tuple[Tensor, Tensor]]) -> None:
    assert main(["sample", str(saved / "video"), "--prime", "2", "--num", "2"]) == 0
    with Image.open("video.png") as image:
        assert image.size == (6 * 10 + 2, 4 * 10 + 2)
        shown = np.asarray(image.convert("L"))
    true = (held_out["clips"][0][1] * 255).round()
    true[3:] = 255  # the first clip that is longer than 2 frames has 3
    for t in range(6):
        above, below = (shown[top : top + 8, 2 + 10 * t : 10 + 10 * t] for top in (2, 12))
        assert (above == true[t, 0].numpy()).all()
        assert (below == above).all() == (t < 2)
    with Image.open("video.gif") as gif:
        assert len([*ImageSequence.Iterator(gif)]) == 6


def test_images_are_completed(saved: Path, held_out: dict[str, tuple[Tensor, Tensor]]) -> None:
    held_out["bits"][1].fill_(16)
    assert main(["sample", str(saved / "pixels"), "--prime", "8", "--num", "3"]) == 0
    with Image.open("pixels.png") as image:
        shown = np.asarray(image.convert("L"))
    true = held_out["bits"][0][:3].view(3, 4, 4).numpy() * 255
    cells = shown[2:, 2:].reshape(3, 6, 8, 6)[:, :4, :, :4].transpose(0, 2, 1, 3)
    assert (cells[:, 0] == true).all()
    assert (cells[:, 1:, :2] == true[:, None, :2]).all()
    assert (cells[:, 1, 2:] == 128).all()
    assert set(np.unique(cells[:, 2:])) == {0, 255}
    assert not (cells[:, 2:] == cells[:, 2:3]).all(), "each is another sample"


def test_drawings_continue_beside_the_true_ones(saved: Path, held_out: dict[str, tuple[Tensor, Tensor]]) -> None:
    assert main(["sample", str(saved / "strokes"), "--prime", "3", "--num", "2", "--out", "x.svg"]) == 0
    groups = Path("x.svg").read_text().split("<g transform=")[1:]
    assert len(groups) == 2 * 8
    colours = [set(re.findall(r'stroke="(rgb[^"]+)"', group)) for group in groups]
    assert colours[0] == colours[8] == {"rgb(25, 25, 25)"}
    assert all("rgb(200, 60, 30)" in colour for index, colour in enumerate(colours) if index % 8)


def test_a_chain_of_no_steps_is_ancestral_sampling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save(GibbsNet(shape=(1, 8, 8), architecture="mlp", width=2, latent_dim=2), tmp_path / "chain", samples=False)
    ask = ["sample", str(tmp_path / "chain"), "--num", "2", "--out", str(tmp_path / "x.png")]
    with pytest.warns(UserWarning, match="3 steps of its chain: 0 steps, ancestral sampling, yield another"):
        assert main([*ask, "--steps", "0"]) == 0
    assert main([*ask, "--steps", "3"]) == 0
    assert (tmp_path / "x.png").is_file()
    assert "steps=-1" in fails(["sample", str(tmp_path / "chain"), "--steps=-1"], capsys)
