"""``stylize``, ``texture`` and ``restore``: files in, files out, in time, and bad input is refused before the work."""

import re
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo.features
import zoo.image_plans
import zoo.image_runs
from datamodules.sources.photographs import Photograph
from lightning_modules import DeepImagePrior, StyleTransfer
from tests.image.small_images import SmallFeatures, opened, pixels, write_image
from tests.zoo.running import fails
from zoo.__main__ import main
from zoo.arguments import build_parser
from zoo.image_runs import Bounds, clock

TINY = ["--width", "4", "--depth", "2"]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images in the present folder, and features that take milliseconds."""
    write_image(tmp_path / "photo.png", 0, (64, 48))
    write_image(tmp_path / "style.png", 1, (40, 40))
    mask = Image.new("L", (64, 48), 255)
    mask.paste(0, (20, 10, 40, 30))
    mask.save(tmp_path / "mask.png")
    monkeypatch.setattr(zoo.features, "load_features", lambda name: SmallFeatures())


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command that fails, with code 1, or 2 for bad usage, and returns what it says."""
    try:
        code: Any = main(words)
    except SystemExit as end:
        code = end.code
    assert code in (1, 2)
    return capsys.readouterr().err


def test_stylize_writes_an_image_of_the_size_and_an_animation(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["stylize", "photo.png", "style.png", "photo.png", "--style-weights", "2,1", "--size", "64"]
    assert main([*words, "--scales", "1", "--steps", "6", "--out", "out.jpg", "--gif", "out.gif"]) == 0
    image, shown = opened("out.jpg"), capsys.readouterr()
    assert (image.format, image.size, image.mode) == ("JPEG", (64, 48), "RGB")
    assert np.abs(pixels("out.jpg") - pixels("photo.png")).mean() > 1
    with Image.open("out.gif") as animation:
        assert animation.n_frames > 3
    assert re.search(r"Wrote out\.jpg: 64 x 48, 6 steps in 0:\d\d, features small\n", shown.out)
    assert "Wrote out.gif" in shown.out
    assert re.search(r"stylize: step \d, 0:\d\d left", shown.err)


def test_texture_writes_any_size(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["texture", "photo.png", "--exemplar-size", "48", "--size", "80x64", "--seamless", "--steps", "4"]
    assert main(words) == 0
    assert opened("photo-texture.png").size == (80, 64)
    assert "Gram distance" in capsys.readouterr().out
    opened("photo.png").convert("LA").save("grey.png")
    assert main(["texture", "grey.png", "--size", "64", "--steps", "1", "--out", "out.png"]) == 0
    assert (opened("out.png").size, opened("out.png").mode) == ((64, 64), "L")


@pytest.mark.parametrize(
    ("options", "size", "said"),
    [
        (["--noise", "25", "--degrade"], (64, 48), r"psnr \d+"),
        (["--noise", "25"], (64, 48), r"Early stopping has chosen nothing"),
        (["--mask", "mask.png", "--degrade"], (64, 48), r"psnr_hidden \d+"),
        (["--scale", "2"], (128, 96), r"Wrote"),
        (["--scale", "2", "--degrade"], (64, 48), r"psnr \d+"),
        (["--scale", "2", "--size", "32"], (64, 48), r"Wrote"),
    ],
)
def test_restore_writes_the_restored_image(
    options: list[str], size: tuple[int, int], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", "photo.png", *options, *TINY, "--steps", "4", "--out", "out.png"]) == 0
    assert opened("out.png").size == size
    assert re.search(said, capsys.readouterr().out)


def test_black_is_filled_and_white_with_invert_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    fit = zoo.image_runs.fit

    def noted(module: Any, data: Any, *arguments: Any, **settings: Any) -> Any:
        kept.append(data.mask)
        return fit(module, data, *arguments, **settings)

    monkeypatch.setattr(zoo.image_runs, "fit", noted)
    for options in ([], ["--invert-mask"]):
        assert main(["restore", "photo.png", "--mask", "mask.png", *options, *TINY, "--steps", "1"]) == 0
    assert torch.equal(kept[0], torch.from_numpy(pixels("mask.png") == 255))
    assert torch.equal(kept[1], ~kept[0])


def test_the_same_seed_gives_the_same_file() -> None:
    for out, seed in (("a.png", "0"), ("b.png", "0"), ("c.png", "1")):
        main(
            ["restore", "photo.png", "--noise", "25", "--degrade", *TINY, "--steps", "3", "--seed", seed, "--out", out]
        )
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert Path("a.png").read_bytes() != Path("c.png").read_bytes()


def test_grey_stays_grey_and_opacity_is_kept(tmp_path: Path) -> None:
    image = Image.open("photo.png").convert("LA")
    image.putalpha(Image.open("mask.png"))
    image.save("grey.png")
    words = ["restore", "grey.png", "--noise", "25", *TINY, "--steps", "2", "--out"]
    assert main([*words, "out.png"]) == main([*words, "out.jpg"]) == 0
    assert opened("out.png").mode == "LA"
    assert np.array_equal(np.asarray(opened("out.png").getchannel("A")), np.asarray(opened("mask.png")))
    assert opened("out.jpg").mode == "L"
    assert pixels("out.jpg")[15:25, 25:35].min() > 250  # transparent parts are white


def psnr(first: str, second: str) -> float:
    return float(10 * np.log10(255**2 / ((pixels(first) - pixels(second)) ** 2).mean()))


def test_the_psnr_is_that_of_what_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Where early stopping ends the run, it is said; and where it chose an output, that one is measured."""
    Image.open("photo.png").convert("L").save("grey.png")
    words, end = ["--noise", "25", "--degrade", *TINY, "--out", "out.png"], ", ended by early stopping"
    for name, options, ended in (
        ("photo.png", ["--patience", "1"], end),
        ("photo.png", ["--steps", "101"], ""),
        ("grey.png", ["--steps", "20"], ""),
    ):
        assert main(["restore", name, *words, *options]) == 0
        found = re.search(r"\d+ steps in \d:\d\d(.*), psnr ([\d.]+) dB", capsys.readouterr().out)
        assert found is not None
        assert found[1] == ended
        assert float(found[2]) == pytest.approx(psnr(name, "out.png"), abs=0.1 if name == "photo.png" else 0.02)


def test_pixels_that_are_kept_are_kept() -> None:
    """Bit for bit, in colours and greys."""
    kept = pixels("mask.png") == 255
    Image.open("photo.png").convert("L").save("grey.png")
    for name in ("photo.png", "grey.png"):
        words = ["restore", name, "--mask", "mask.png", *TINY, "--steps", "2", "--out", "out.png"]
        for options, where in (([], kept), (["--invert-mask"], ~kept)):
            assert main([*words, *options]) == 0
            assert np.array_equal(pixels("out.png")[where], pixels(name)[where])
            assert not np.array_equal(pixels("out.png")[~where], pixels(name)[~where])


def test_opacity_is_cropped_with_the_image() -> None:
    image = Image.open("photo.png").crop((0, 0, 63, 48))
    opacity = Image.new("L", (63, 48), 255)
    opacity.paste(0, (0, 0, 31, 48))
    image.putalpha(opacity)
    image.save("clear.png")
    words = ["restore", "clear.png", "--scale", "8", "--degrade", "--width", "4", "--depth", "1", "--steps", "1"]
    assert main([*words, "--out", "out.png"]) == 0
    assert np.array_equal(np.asarray(opened("out.png").getchannel("A")), np.asarray(opacity.crop((3, 0, 59, 48))))


@pytest.mark.parametrize(
    ("content", "style", "options", "mode"),
    [
        ("grey.png", "style.png", [], "RGB"),
        ("grey.png", "grey.png", [], "L"),
        ("grey.png", "style.png", ["--keep-colours", "luminance"], "L"),
        ("photo.png", "grey.png", [], "RGB"),
    ],
)
def test_a_grey_content_takes_the_colours_of_a_style(content: str, style: str, options: list[str], mode: str) -> None:
    Image.open("photo.png").convert("L").save("grey.png")
    words = ["stylize", content, style, *options, "--size", "64", "--scales", "1", "--steps", "1", "--out", "out.png"]
    assert main(words) == 0
    assert opened("out.png").mode == mode


@pytest.mark.parametrize("words", [["stylize", "photo.png", "thin.png"], ["texture", "thin.png"]])
def test_an_image_too_small_for_the_features_is_named_before_the_work(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Halving(SmallFeatures):
        def compute(self, x: torch.Tensor, layers: Any) -> dict[str, torch.Tensor]:
            if min(x.shape[2:]) < 16:
                raise ValueError(f"second of small needs at least 16 pixels, not {list(x.shape[2:])}")
            return super().compute(x, layers)

    monkeypatch.setattr(zoo.features, "load_features", lambda name: Halving())
    monkeypatch.setattr(zoo.image_runs, "fit", lambda *arguments, **settings: pytest.fail("the work has begun"))
    write_image(Path("thin.png"), 2, (256, 24))
    error = fails([*words, "--size", "256"], capsys)
    assert re.search(r"thin\.png has 128 x 12 pixels at the coarsest scale.*needs at least 16 pixels", error)


def test_minutes_bound_a_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes by in steps of the test's own: 10 seconds for each look at the clock."""
    now = iter(range(0, 10**6, 10))
    monkeypatch.setattr(zoo.image_runs.time, "monotonic", lambda: float(next(now)))
    assert main(["restore", "photo.png", "--scale", "2", *TINY, "--minutes", "2", "--out", "out.png"]) == 0
    steps = re.search(r"(\d+) steps in \d:\d\d, ended by --minutes", capsys.readouterr().out)
    assert steps is not None
    assert 5 <= int(steps[1]) <= 12
    assert opened("out.png").size == (128, 96)


def test_a_signal_ends_a_run_after_the_step_and_what_there_is_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    moved = Bounds.on_train_batch_end

    def interrupted(self: Bounds, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 3:
            signal.raise_signal(signal.SIGINT)
        moved(self, trainer, *arguments)

    monkeypatch.setattr(Bounds, "on_train_batch_end", interrupted)
    assert main(["restore", "photo.png", "--scale", "2", *TINY, "--out", "out.png"]) == 130
    assert re.search(r"Wrote out\.png: .*3 steps in 0:\d\d, ended by SIGINT", capsys.readouterr().out)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_second_signal_ends_a_run_at_once(
    name: str, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    step = DeepImagePrior.training_step

    def interrupted(self: DeepImagePrior, *arguments: Any) -> torch.Tensor:
        for _ in range(2):
            signal.raise_signal(signal.Signals[name])
        return step(self, *arguments)

    monkeypatch.setattr(DeepImagePrior, "training_step", interrupted)
    with pytest.raises(SystemExit) as end:
        main(["restore", "photo.png", "--scale", "2", *TINY, "--out", "out.png"])
    assert end.value.code == code
    assert "\nInterrupted. Nothing was saved." in capsys.readouterr().err
    assert not Path("out.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stylize", "photo.png", "nowhere.png"], r"nowhere\.png"),
        (["stylize", "text.png", "style.png"], r"text\.png is no image"),
        (["stylize", "photo.png", "moving.gif"], r"moving\.gif is an animation of 2 frames"),
        (["stylize", "photo.png", "style.png", "--style-weight", "-1"], r"style_weight=-1"),
        (["stylize", "photo.png", "style.png", "--style-weights", "1,2"], r"2 weights for 1 styles"),
        (
            ["stylize", "photo.png", "style.png", "--style-layers", "conv9"],
            r"no layer 'conv9'; its layers are first, sec",
        ),
        (["stylize", "photo.png", "style.png", "--size", "40"], r"num_scales=2 begins with 20 x 15"),
        (["stylize", "photo.png", "style.png", "--tile", "50"], r"tile=50 must be a multiple of 32"),
        (["stylize", "photo.png", "style.png", "--out", "out.bmp"], r"out\.bmp must end in \.png or \.jpg or \.jpeg"),
        (["stylize", "photo.png", "style.png", "--gif", "out.png"], r"out\.png must end in \.gif"),
        (["stylize", "photo.png", "style.png", "--out", "no.txt/out.png"], r"cannot be written"),
        (
            ["stylize", "photo.png", "style.png", "--out", 250 * "a" + ".png"],
            r"aaa\.\.\. is too long for the name of a file",
        ),
        (["restore", "photo.png", "--noise", "0", "--degrade"], r"--degrade has no effect with --noise 0"),
        (["stylize", "photo.png", "style.png", "--minutes", "0"], r"--minutes 0\.0 must be above 0"),
        (["texture", "photo.png", "--size", "0"], r"'0' is not a number of pixels"),
        (["texture", "photo.png", "--size", "1x2x3"], r"'1x2x3' is not a size"),
        (["restore", "photo.png"], r"Give one of --mask, --noise and --scale"),
        (["restore", "photo.png", "--noise", "25", "--scale", "2"], r"Give one of --mask, --noise and --scale"),
        (["restore", "photo.png", "--noise", "25", "--invert-mask"], r"--invert-mask has no effect"),
        (["restore", "photo.png", "--noise", "-3"], r"--noise -3\.0 must lie in 0\.\.255"),
        (["restore", "photo.png", "--scale", "1"], r"--scale 1 must be at least 2"),
        (["restore", "photo.png", "--mask", "style.png"], r"style\.png has 40 x 40 pixels, but the image .* 64 x 48"),
        (["restore", "photo.png", "--noise", "25", "--depth", "6"], r"at least 128 pixels a side, not 64 x 48"),
        (["restore", "photo.png", "--noise", "25", "--depth", "30"], r"depth=30 halves the sides 30 times"),
        (
            ["restore", "photo.png", "--noise", "25", "--width", "100000", "--depth", "2"],
            r"pixels takes about [\d.]+ GiB.*smaller --width",
        ),
        (["restore", "photo.png", "--noise", "25", "--width", "9" * 9], r"width=9{9}: its size may be"),
        (
            ["restore", "photo.png", "--scale", "9" * 9],
            r"--scale 9{9} gives \d+ x \d+ pixels: a side may have 20,000",
        ),
        (["restore", "photo.png", "--scale", "2", "--patience", "9"], r"--patience has no effect without --noise"),
        (
            ["restore", "photo.png", "--mask", "mask.png", "--patience", "9"],
            r"--patience has no effect without --noise",
        ),
    ],
)
def test_bad_input_is_refused_before_the_work(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("text.png").write_text("no image")
    Path("no.txt").write_text("no folder")
    frames = [Image.new("L", (4, 4), value) for value in (0, 255)]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(zoo.image_runs, "fit", lambda *arguments, **settings: pytest.fail("the work has begun"))
    assert re.search(said, refused(words, capsys))


def test_an_image_larger_than_the_memory_is_refused_with_an_estimate_and_a_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (zoo.image_plans, zoo.image_runs):
        monkeypatch.setattr(place, "available_bytes", lambda device: 2**29)
    error = fails(["stylize", "photo.png", "style.png", "--size", "4000"], capsys)
    found = re.search(r"4000 x 3000 pixels takes about [\d.]+ GiB, and 0\.5 GiB are free: .*--size (\d+)", error)
    assert found is not None
    assert 128 <= int(found[1]) < 4000
    for options in (["--tile", "512", "--size", "4000"], ["--size", "64", "--style-size", "2000", "--tile", "1984"]):
        error = fails(["stylize", "photo.png", "style.png", "--scales", "1", *options], capsys)
        assert re.search(r"(4000 x 3000|2000 x 2000) pixels takes about .*(--size|--tile) \d+", error)
    error = fails(["texture", "photo.png", "--exemplar-size", "2000", "--tile", "1984"], capsys)
    assert re.search(r"2000 x 1500 pixels takes about .*--tile 128", error)
    error = fails(["restore", "photo.png", "--noise", "25", "--size", "2000", "--width", "128"], capsys)
    assert re.search(r"2000 x 1500 pixels takes about [\d.]+ GiB.*smaller --width \(64\) or --size \(1000\)", error)
    monkeypatch.setattr(Photograph, "resized", lambda *size: pytest.fail("it takes minutes"))
    for words in (["stylize", "photo.png", "style.png", "--style-size"], ["texture", "photo.png", "--exemplar-size"]):
        error = fails([*words, "20000"], capsys)
        assert re.search(rf"20000 x \d+ pixels takes about \d\d\.\d GiB.*a smaller size of {words[-2]}", error)


def test_a_duration_is_shown_in_minutes_and_seconds() -> None:
    assert [clock(seconds) for seconds in (-3, 0.4, 59.7, 65, 3600)] == ["0:00", "0:00", "1:00", "1:05", "60:00"]


def test_the_defaults_of_the_command_are_those_of_the_method() -> None:
    command = {
        action.dest: action.default for action in build_parser().subcommand("stylize")._actions if action.dest != "help"
    }
    own = {name: parameter.default for name, parameter in signature(StyleTransfer).parameters.items()}
    names = {"smooth": "variation_weight", "scales": "num_scales", "keep_colours": "preserve_colour"}
    shared = {name: names.get(name, name) for name in command if names.get(name, name) in own}
    assert {"style_weight", "content_weight", "smooth", "optimizer"} <= shared.keys()
    assert {name: command[name] for name in shared} == {
        name: own[hyperparameter] for name, hyperparameter in shared.items()
    }
