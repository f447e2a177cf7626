"""Help that can be found, names that were mistyped, and values that cannot be: each said in one line."""

import inspect
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

import zoo
from datamodules import DATAMODULES, Ring
from lightning_modules import METHODS, NCE, WGANGP, TeacherForcing
from lightning_modules.parts.files import replace_file
from tests.processes import result_of, started
from tests.zoo.running import RECIPE, ROOT, fails, into_closed_pipe
from tests.zoo.sequence_checkpoints import LETTERS
from zoo.__main__ import main
from zoo.arguments import build_parser
from zoo.messages import one_line
from zoo.paths import did_you_mean, recipe_names, recipe_path
from zoo.recipe import read_recipe


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)


def usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command that is bad usage, and returns its last line; nothing is written."""
    before = sorted(Path().iterdir())
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert sorted(Path().iterdir()) == before
    return capsys.readouterr().err.splitlines()[-1]


# Help


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"generative-zoo {version('generative-zoo')}\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_of_a_recipe_has_every_argument_with_its_value(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "wgan_gp.ring8", flag]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for part, called in (("model", WGANGP), ("data", Ring), ("trainer", Trainer)):
        for name in inspect.signature(called).parameters:
            assert any(f"{line} ".startswith(f"--{part}.{name} ") for line in lines), name
    for line in (
        "--model.critic_steps 5",
        "--model.lr 0.0005",
        "--model.betas [0.0, 0.9]",
        "--model.num_classes null",  # a default
        "--data.batch_size 256",
        "--trainer.max_steps 40000",
        "--seed_everything 0",
        "--save-to FOLDER",
    ):
        assert line in lines
    assert "Discriminator steps per generator step." in lines
    assert any(line.startswith("--ckpt_path") for line in lines)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", name, "--help"]) == 0
    shown = capsys.readouterr().out
    for part in ("model", "data"):
        for argument in read_recipe(name)[part].get("init_args", {}):
            assert f"--{part}.{argument} " in shown


def test_the_help_is_that_of_the_classes_and_values_that_were_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny.yaml", "--model", "VAE", "--model.latent_dim=7", "--data=Ring", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--model.latent_dim 7\n" in shown
    assert "--model.likelihood " in shown
    assert "--model.critic_steps" not in shown
    assert "--data.fresh " in shown


def test_help_without_a_recipe_says_where_more_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "train RECIPE --help" in shown
    assert "runs/RECIPE/checkpoints/last.ckpt" in shown
    assert "zoo list" in usage(["train"], capsys)


def test_the_readme_and_the_help_have_one_path() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "runs/sngan.fashion_mnist/checkpoints/last.ckpt" in text
    assert "python -m zoo resume sngan.fashion_mnist" in text
    for source in (text, build_parser().subcommand("train").format_help()):
        assert "last.ckpt" not in source.replace("/checkpoints/last.ckpt", "")


def test_lists_have_the_minutes_of_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "wgan_gp.ring8"])
    heading, row = (line.split() for line in capsys.readouterr().out.splitlines())
    minutes = zoo.card("wgan_gp.ring8").training["minutes"]
    assert float(row[heading.index("MINUTES")]) == pytest.approx(minutes, abs=0.5)
    main(["show", "wgan_gp.ring8"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("minutes")]
    assert f"{minutes:.0f}" in line.split()


# Names


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--model.widht", "3"], ["--model.widht", "--model.width"]),
        (["--model.init_args.widht=3"], ["--model.widht", "--model.width"]),
        (["--model.batch_size", "3"], ["--model.batch_size", "--data.batch_size"]),
        (["--batch_size", "3"], ["--batch_size", "--data.batch_size"]),
        (["--data.batchsize=3"], ["--data.batchsize", "--data.batch_size"]),
        (["--trainer.max_step", "3"], ["--trainer.max_step.", "--trainer.max_steps"]),
        (["--trainer.precison", "32"], ["--trainer.precision"]),
        (["--modl.width", "3"], ["--modl", "--model"]),
        (["--ckpt-path", "x"], ["--ckpt-path", "--ckpt_path"]),
        (["--nonsense"], ["--nonsense", "--help"]),
        (["--data", "Foo"], ["'Foo'", *DATAMODULES]),
        (["--data=FashionMNIS"], ["'FashionMNIS'", "Did you mean FashionMNIST"]),
        (["--data", "datamodules.Fashion"], ["'datamodules.Fashion'", *DATAMODULES]),
        (["--data"], ["--data"]),
        (["--model", "WGANPG"], ["'WGANPG'", "Did you mean WGANGP", *METHODS]),
        (["--model.class_path", "lightning_modules.Wgan"], ["Wgan", "WGAN"]),
        (["--model", "mine.Foo"], ["mine.Foo", "mine"]),
        (["--trainer.callbacks+=Emma"], ["--trainer.callbacks", "'Emma'"]),
        (["--trainer.logger", "Nope"], ["--trainer.logger", "'Nope'"]),
        (["--model.width", "abc"], ["--model.width", "whole number", "'abc'"]),
        (["--trainer.max_steps", "x"], ["--trainer.max_steps", "whole number", "'x'"]),
        (["--trainer.precision", "8"], ["--trainer.precision", "bf16-mixed", "8"]),
        (["stray"], ["stray"]),
    ],
)
def test_arguments_of_a_training_that_do_not_exist(
    arguments: list[str], facts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "tiny.yaml", *arguments])
    assert caught.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Seed set")]
    for fact in facts:
        assert fact in line
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["trian", "x"], "train"),
        (["lits"], "list"),
        (["sample", "x", "--nmu", "3"], "--num"),
        (["evaluate", "x", "--extracter", "y"], "--extractor"),
        (["draw", "x", "filters", "--sed", "1"], "--seed"),
    ],
)
def test_commands_and_options_that_do_not_exist(
    arguments: list[str], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"Did you mean {near}" in usage(arguments, capsys)


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["train", "wgan_pg.ring8"], "wgan_gp.ring8"),
        (["train", "WGAN_GP.Ring8"], "wgan_gp.ring8"),
        (["train", "tinny.yaml"], "tiny.yaml"),
        (["train", "wgan_gp.ring8.yaml"], "wgan_gp.ring8"),
        (["show", "wgan_pg.ring8"], "wgan_gp.ring8"),
        (["sample", "wgan_gp.ring"], "wgan_gp.ring8"),
        (["draw", "vae.fashionmnist", "filters"], "vae.fashion_mnist"),
        (["evaluate", "sngan.fashion_mnist", "--judge", "clasifier.fashion_mnist"], "classifier.fashion_mnist"),
        (["fine-tune", "sngan.fashion_mnits", "--data", "."], "sngan.fashion_mnist"),
        (["list", "wgan_gp.ring"], "wgan_gp.ring8"),
        (["export", "x.ckpt", "x", "--recipe", "wgan_pg.ring8"], "wgan_gp.ring8"),
    ],
)
def test_names_that_do_not_exist(arguments: list[str], near: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = fails(arguments, capsys)
    assert "Did you mean " in error
    assert near in error.partition("Did you mean ")[2].partition("?")[0]


def test_names_that_are_near_nothing_have_no_hint() -> None:
    assert did_you_mean("qqqq", recipe_names()) == ""
    assert recipe_path("wgan_gp.ring8").is_file()


# Values


@pytest.mark.parametrize("value", ["abc", "0", "-3", "1.5", "", "1e3", "9" * 30])
@pytest.mark.parametrize("option", ["--num", "--length", "--prime"])
def test_counts_in_plain_words(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = usage(["sample", "x", f"{option}={value}"], capsys)
    assert option in error
    assert "whole number from 1" in error
    assert value[:30] in error
    assert "_positive" not in error


@pytest.mark.parametrize("value", ["abc", "-1", "4294967296", "9" * 40])
@pytest.mark.parametrize("command", [["sample", "x"], ["draw", "x", "y"], ["evaluate", "x"]])
def test_seeds_in_plain_words(command: list[str], value: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = usage([*command, f"--seed={value}"], capsys)
    assert "--seed" in error
    assert "whole number from 0 to 4,294,967,295" in error


@pytest.mark.parametrize(
    "arguments", [["--labels", "9" * 30], ["--labels", "1,,2"], ["--labels=-1"], ["--top-k", "x"], ["--top-p", "x"]]
)
def test_other_values_in_plain_words(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    error = usage(["sample", "x", *arguments], capsys)
    assert arguments[0].partition("=")[0] in error
    assert "such as" in error or "whole number" in error


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["--model.decay_steps", "-5"], "decay_steps=-5"),
        (["--data.batch_size", "-3"], "batch_size=-3"),
        (["--trainer.max_steps", "-5"], "-5"),
        (["--seed_everything", "9" * 20], "9" * 20),
        (["--trainer.callbacks.half_life_images", "-1"], "half_life_images"),
    ],
)
def test_negative_counts_and_huge_seeds_of_a_training(
    arguments: list[str], fact: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("tiny.yaml")
    if arguments[0].startswith("--trainer.callbacks"):
        path.write_text(RECIPE.replace("half_life_images: 100", "half_life_images: -1"))
        arguments = []
    assert main(["train", "tiny.yaml", *arguments]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert fact in error
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model.noise_steps", "1.5"], "--model.noise_steps must be a whole number or null, not '1.5'."),
        (["--model.noise_steps", "nan"], "--model.noise_steps must be a whole number or null, not 'nan'."),
        (["--model.clip_norm", "x"], "--model.clip_norm must be a number or null, not 'x'."),
        (["--model.lr", "x"], "--model.lr must be a number, not 'x'."),
        (["--model.betas", "0.5"], "--model.betas must be a list such as [0.5], not '0.5'."),
        (["--model.augment", "cutout"], "--model.augment must be a list such as [cutout] or null, not 'cutout'."),
        (["--model.penalties.r1", "x"], "--model.penalties.r1 must be a number, not 'x'."),
        (["--model.penalties", "5"], "--model.penalties must be a mapping of names to values or null, not '5'."),
        (["--model.spectral_norm", "5"], "--model.spectral_norm must be true or false, not '5'."),
        (
            ["--trainer.callbacks", "EMA", "--trainer.callbacks.half_life_images", "many"],
            "--trainer.callbacks.half_life_images must be a number or a function, not 'many'.",
        ),
    ],
)
def test_values_of_a_training_of_another_type(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert usage(["train", "tiny.yaml", "--model", "ComposedGAN", *arguments], capsys) == f"error: {said}"


def test_an_argument_without_effect_is_refused(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ring, text = str(saved / "ring"), str(saved / "text")
    for arguments, option in (
        (["sample", text, "--data-dir", "nope"], "--data-dir"),
        (["sample", text, "--prime", "2", "--data-dir", "nope"], "nope"),
        (["evaluate", ring, "--data-dir", "nope"], "nope"),
        (["evaluate", ring, "--data-dir", "."], "--data-dir"),
        (["evaluate", ring, "--judge", "classifier.fashion_mnist"], "--extractor"),
        (["evaluate", ring, "--extractor", "nowhere"], "--extractor"),
        (["evaluate", text, "--samples-only", "--num-samples", "4"], "--num-samples"),
        (["draw", str(saved / "text"), "continuation", "--data-dir", "nope"], "nope"),
    ):
        assert option in usage(arguments, capsys)


def test_views_refuse_what_they_do_not_use(capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save(NCE.for_data(Ring().spec), "nce")
    for arguments, option in ((["--data-dir", "."], "--data-dir"), (["--num", "3"], "--num")):
        assert option in usage(["draw", "nce", "energy", *arguments], capsys)


@pytest.mark.parametrize("length", [0, -1])
def test_lengths_of_samples_are_positive(length: int) -> None:
    poet = TeacherForcing(vocabulary_size=len(LETTERS), width=4)
    for call in (
        lambda: poet.sample(2, length=length),
        lambda: poet.continue_sequence(torch.zeros(1, 3, dtype=torch.long), length),
    ):
        with pytest.raises(ValueError, match=f"={length}"):
            call()


# Output


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "x", "--out=~/y"],
        ["draw", "x", "grid", "--out=~/y"],
        ["fine-tune", "x", "--data", "d", "--out=~/y"],
        ["compare", "gans", "--out=~/y"],
        ["compare", "gans", "--runs=~/y"],
        ["texture", "x.png", "--out=~/y"],
        ["study", "--out=~/y"],
        ["train", "x", "--save-to=~/y"],
        ["resume", "x", "--save-to=~/y"],
        ["restore", "x.png", "--mask=~/y"],
        ["stylize", "x.png", "y.png", "--gif=~/y"],
    ],
)
def test_the_home_folder_is_known_where_the_shell_leaves_its_sign(arguments: list[str]) -> None:
    option = arguments[-1].split("=")[0].removeprefix("--").replace("-", "_")
    assert vars(build_parser().parse_args(arguments))[option] == str(Path.home() / "y")


def test_a_closed_pipe_comes_after_the_file(saved: Path, tmp_path: Path) -> None:
    """``sample ... | head`` with a reader that reads nothing."""
    process, receive = started(into_closed_pipe, ["sample", str(saved / "text"), "--num", "4", "--out", "x.txt"])
    assert result_of(process, receive) == 0
    assert (tmp_path / "x.txt").stat().st_size > 0


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on every file that is opened to be written is on a disk without space."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no device that is always full")
    opened = Path.open

    def on_a_full_disk(path: Path, mode: str = "r", *arguments: Any, **settings: Any) -> Any:
        if "w" not in mode and "a" not in mode:
            return opened(path, mode, *arguments, **settings)
        path.touch()
        return opened(Path("/dev/full"), mode, *arguments, **settings)

    monkeypatch.setattr(Path, "open", on_a_full_disk)


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "./text", "--out", "x.txt"],
        ["sample", "./ring", "--out", "x.png"],
        ["sample", "./strokes", "--out", "x.svg"],
        ["draw", "./nce", "energy", "--out", "x.png"],
        ["evaluate", "./ring", "--num-samples", "100", "--write"],
        ["export", "x.ckpt", "x"],
        ["train", "tiny.yaml"],
    ],
)
def test_a_full_disk_is_said_and_leaves_no_empty_file(
    arguments: list[str],
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    shutil.copytree(saved, ".", dirs_exist_ok=True)
    zoo.save(NCE.for_data(Ring().spec), "nce")
    gan = WGANGP.for_data(Ring().spec, width=2)
    content = {"state_dict": gan.state_dict(), "hyper_parameters": dict(gan.hparams), "method": "WGANGP"}
    torch.save({**content, "global_step": 1}, "x.ckpt")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    fill_the_disk(monkeypatch)
    assert main(arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: No space left on device")
    left = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert [path.name for path in left if path.suffix in (".partial", ".png", ".svg", ".txt", ".safetensors")] == []


def test_a_file_is_replaced_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file("folder/x.bin", b"content")
    fill_the_disk(monkeypatch)
    with pytest.raises(OSError, match=r"No space left.*x\.bin"):
        replace_file("folder/x.bin", b"other")
    assert {path.name: path.read_bytes() for path in Path("folder").iterdir()} == {"x.bin": b"content"}


def test_errors_in_one_line() -> None:
    assert "'fit_loop'" in one_line(KeyError("fit_loop"))
    assert one_line(KeyError("fit_loop")) != "'fit_loop'"
    assert one_line(FileNotFoundError(2, "No such file or directory", "x")) == "x: No such file or directory"
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(ZeroDivisionError()) == "ZeroDivisionError"
    assert "memory" in one_line(MemoryError())
    error = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert one_line(error).startswith("No space left on device")
