"""Training, listing and sampling by the command, run as a user would run it, and what all commands say of failures."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import zoo
import zoo.cli
from lightning_modules import SNGAN, WGANGP
from tests.zoo.running import RECIPE, fails, run
from zoo.__main__ import main
from zoo.arguments import build_parser
from zoo.cli import train
from zoo.paths import recipe_names


def test_train_saves_what_the_overrides_say(trained: Path) -> None:
    card = zoo.card(trained / "runs/tiny/zoo")
    assert (card.name, card.method, card.data, card.batches) == ("tiny", "WGANGP", "synthetic", 4)
    assert card.hyperparameters["lr"] == 1e-3
    assert card.averaged
    assert not {"_class_path", "_instantiator"} & set(card.hyperparameters)
    assert card.recipe is None, "a file of the user is no recipe of the zoo"
    tracked = json.loads((trained / "runs/tiny/hyperparameters.json").read_text())
    assert tracked["model.class_path"] == "lightning_modules.WGANGP"
    assert tracked["data.init_args.batch_size"] == 16
    assert tracked["lr"] == tracked["model.init_args.lr"] == 1e-3
    config = yaml.safe_load((trained / "runs/tiny/config.yaml").read_text())
    assert config["model"]["init_args"]["lr"] == 1e-3
    assert config["seed_everything"] == 0
    assert card.training["examples"] == 4 * 16
    assert card.training["generator_updates"] == 0  # of WGAN-GP's five critic steps four were taken


def test_the_card_says_how_the_recipe_was_overridden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    monkeypatch.setattr(zoo.cli, "recipes_dir", lambda: tmp_path)
    chosen = ["--model.width=3", "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0"]
    card = train(tmp_path / "tiny.yaml", [*chosen, "--trainer.accelerator", "cpu", "--trainer.logger", "false"])
    assert card is not None
    assert (card.recipe, card.overrides) == ("tiny", tuple(chosen))
    assert zoo.card(card.path).overrides == card.overrides
    command = "python -m zoo train tiny --model.width=3 --trainer.max_steps 1 --trainer.limit_val_batches 0"
    assert f"`{command}`" in (card.path / "README.md").read_text()


def test_parts_of_a_composed_gan_are_given_one_by_one(tmp_path: Path) -> None:
    """Mappings, lists and settings of the parts, over a recipe for another method."""
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    parts = "game=hinge penalties.r1=1.0 penalties.r2=0.5 lazy_every=2 instance_noise=0.1 noise_steps=2 num_classes=3"
    clamping = "jacobian_clamping=2.0 lambda_max=5.0 spectral_norm=true augment=[translation]"
    chosen = [f"--model.{part}" for part in f"{parts} {clamping}".split()]
    settings = ["data.num_classes=3", "trainer.max_steps=2", "trainer.accelerator=cpu", "trainer.logger=false"]
    card = train(tmp_path / "tiny.yaml", ["--model", "ComposedGAN", *chosen, *(f"--{part}" for part in settings)])
    assert card is not None
    assert card.method == "ComposedGAN"
    assert card.hyperparameters["penalties"] == {"r1": 1.0, "r2": 0.5}
    assert card.hyperparameters["augment"] == ["translation"]
    module: Any = zoo.load(str(card.path))
    assert (set(module.penalties), set(module.generator_penalties)) == ({"r1", "r2"}, {"jacobian_clamping"})
    assert module.corrupt.strength(1) == 0.05


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], []),
        (["--model.low", "-1", "--model.lr=1e-3"], ["--model.low", "-1", "--model.lr=1e-3"]),
        (["--trainer.devices", "-1", "--model.lr", "1e-3"], ["--model.lr", "1e-3"]),
        (["--trainer.logger.init_args.name", "x", "--trainer.logger+=Y", "--ckpt_path=a.ckpt", "-c", "b"], ["-c", "b"]),
        (["--trainer.strategy=ddp", "--trainer.precision", "16-mixed"], ["--trainer.precision", "16-mixed"]),
        (["--trainer.devices_of_mine", "2"], ["--trainer.devices_of_mine", "2"]),
        (["--extractor", "x", "--data.batch_size", "8"], ["--data.batch_size", "8"]),
    ],
)
def test_overrides_that_do_not_change_the_result_are_left_out(given: list[str], kept: list[str]) -> None:
    assert zoo.cli.effective(given) == kept


def test_a_recipe_names_its_extractor_which_building_does_not_load(trained: Path, tmp_path: Path) -> None:
    """What measures after the training need not be there before it."""
    (tmp_path / "tiny.yaml").write_text("extractor: classifier.nowhere\n" + RECIPE)
    cli = zoo.cli.ZooCLI(tmp_path / "tiny.yaml", ["--trainer.logger", "false"], tmp_path)
    assert cli.config["extractor"] == "classifier.nowhere"
    other = zoo.cli.ZooCLI(tmp_path / "tiny.yaml", ["--extractor", "null", "--trainer.logger", "false"], tmp_path)
    assert other.config["extractor"] is None


def test_checkpoints_of_the_command_line_load_by_their_class(trained: Path) -> None:
    path = trained / "runs/tiny/checkpoints/step=4.ckpt"
    module = WGANGP.load_from_checkpoint(path, weights_only=True)
    assert type(module) is WGANGP
    assert module.hparams["width"] == 2


def test_a_resumed_run_ends_at_the_same_weights(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    arguments = ["--model.lr", "1e-3", "--trainer.limit_val_batches", "0", "--save-to", "resumed"]
    assert main(["train", "tiny.yaml", *arguments, "--ckpt_path", "runs/tiny/checkpoints/step=2.ckpt"]) == 0
    assert zoo.card("resumed").sha256 == zoo.card("runs/tiny/zoo").sha256


def test_bad_hyperparameters_are_told_in_the_words_of_the_method(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    done = run(tmp_path, "train", "tiny.yaml", "--model.critic_steps", "0", code=1)
    with pytest.raises(ValueError, match="critic_steps=0") as caught:
        WGANGP(critic_steps=0)
    assert done.stderr.strip().endswith(f"error: {caught.value}")


def test_list_and_show(trained: Path) -> None:
    listed = run(trained, "list").stdout
    for name in {*recipe_names(), *zoo.names()}:
        assert name in listed
    shown = run(trained, "show", "runs/tiny/zoo").stdout
    for fact in ("WGANGP", "synthetic", "lr=0.001", "average", zoo.card(trained / "runs/tiny/zoo").sha256):
        assert fact in shown


def test_sample(trained: Path) -> None:
    done = run(trained, "sample", "runs/tiny/zoo", "--num", "9", "--seed", "1", "--out", "images/nine.png")
    assert "images/nine.png" in done.stdout
    with Image.open(trained / "images/nine.png") as image:
        assert image.size == (3 * 30 + 2, 3 * 30 + 2)


def test_sample_depends_on_the_seed_alone(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    for out, seed in (("a.png", "1"), ("b.png", "1"), ("c.png", "2")):
        assert main(["sample", "runs/tiny/zoo", "--num", "4", "--seed", seed, "--out", out]) == 0
    a, b, c = (Path(name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b
    assert a != c


def test_sample_by_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save(SNGAN(width=2, num_classes=3), tmp_path / "conditional")
    assert main(["sample", "conditional", "--labels", "2,0", "--num", "4"]) == 0
    assert main(["sample", "conditional"]) == 0
    assert (tmp_path / "conditional.png").is_file()
    capsys.readouterr()
    error = fails(["sample", "conditional", "--labels", "7"], capsys)
    assert "7" in error
    assert "0 to 2" in error


def test_the_default_file_stays_in_this_folder(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained / "runs/tiny/zoo", tmp_path / "evil"))
    config = json.loads((folder / "config.json").read_text()) | {"name": "../../escaped"}
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["sample", str(folder), "--num", "1"]) == 0
    assert [path.name for path in tmp_path.glob("*.png")] == ["_.._escaped.png"]


@pytest.mark.parametrize("target", ["thesis.tex", "papers", "runs/tiny", "runs"])
def test_train_refuses_a_target_before_it_trains(
    target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("tiny.yaml").write_text(RECIPE)
    Path("thesis.tex").touch()
    Path("papers").mkdir()
    Path("papers/thesis.tex").touch()
    monkeypatch.setattr(zoo.cli.ZooCLI, "fit", lambda self: pytest.fail("it trained"))
    assert f" {target}" in fails(["train", "tiny.yaml", "--save-to", target], capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["lits"],
        ["list", "--wrong"],
        ["sample"],
        ["sample", "x", "--num", "0"],
        ["sample", "x", "--labels", "a"],
        ["fine-tune", "x"],
        ["evaluate", "x", "--num-samples", "many"],
        ["export", "x"],
    ],
)
def test_bad_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["show", "no.such"], "'no.such'"),
        (["sample", "no.such"], "'no.such'"),
        (["evaluate", "no.such"], "'no.such'"),
        (["fine-tune", "no.such", "--data", "."], "'no.such'"),
        (["train", "no.such"], "'no.such'"),
        (["train", "no/such.yaml"], "'no/such.yaml'"),
        (["train", "../recipes/x"], "'../recipes/x'"),
        (["export", "no.ckpt", "out"], "no.ckpt"),
        (["list", "no*such"], "'no*such'"),
    ],
)
def test_failures_are_one_line(arguments: list[str], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in fails(arguments, capsys)


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(KeyError, match=r"no\.such"):
        main(["show", "no.such", "--debug"])


def test_the_former_name_of_the_extractor_is_an_alias() -> None:
    for option in ("--extractor", "--judge"):
        assert build_parser().parse_args(["evaluate", "x", option, "y"]).extractor == "y"


def test_unknown_overrides_are_bad_usage(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    with pytest.raises(SystemExit) as caught:
        main(["train", "tiny.yaml", "--model.colour", "red"])
    assert caught.value.code == 2
    assert "colour" in capsys.readouterr().err


@pytest.mark.parametrize("name", zoo.cli.BATCH_LIMITS)
@pytest.mark.parametrize(("written", "value"), [("1", 1), ("1.0", 1.0), ("0.5", 0.5)])
def test_a_whole_number_of_batches_is_no_fraction(name: str, written: str, value: float, tmp_path: Path) -> None:
    """As an override, and in the recipe."""
    plain, inside = tmp_path / "plain.yaml", tmp_path / "inside.yaml"
    recipe = yaml.safe_load(RECIPE)
    recipe["trainer"] |= {"logger": False}
    plain.write_text(yaml.safe_dump(recipe))
    recipe["trainer"] |= {name: yaml.safe_load(written)}
    inside.write_text(yaml.safe_dump(recipe))
    for path, overrides in ((inside, []), (plain, [f"--trainer.{name}={written}"])):
        found = getattr(zoo.cli.ZooCLI(path, overrides, tmp_path).trainer, name)
        assert (type(found), found) == (type(value), value)


def test_one_batch_between_validations_is_one(tmp_path: Path) -> None:
    recipe = yaml.safe_load(RECIPE)
    recipe["trainer"] |= {"logger": False}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    for written, value in (("1", 1), ("1.0", 1.0), ("0.5", 0.5)):
        found = zoo.cli.ZooCLI(tmp_path / "tiny.yaml", ["--trainer.val_check_interval", written], tmp_path).trainer
        assert (type(found.val_check_interval), found.val_check_interval) == (type(value), value)
