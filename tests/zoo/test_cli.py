"""Every command, run as a user would run it."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import zoo
import zoo.cli
import zoo.evaluation
import zoo.fine_tuning
from datamodules import DATAMODULES, Ring, SyntheticImages
from lightning_modules import METHODS, WGANGP, Classifier
from lightning_modules.callbacks.evaluation import train_fid
from lightning_modules.callbacks.real_statistics import compute_statistics, ship_statistics
from zoo import Card
from zoo.__main__ import main
from zoo.cli import train
from zoo.paths import recipe_names

RECIPE = """
model:
  class_path: lightning_modules.WGANGP
  init_args: {shape: [1, 28, 28], width: 2, latent_dim: 4}
data:
  class_path: datamodules.SyntheticImages
  init_args: {batch_size: 16, size: 64, val_size: 16, test_size: 64}
trainer:
  accelerator: cpu
  max_steps: 4
  logger:
    class_path: lightning_modules.tracking.Tracking
    init_args: {name: tiny}
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: lightning_modules.callbacks.EMA
      init_args: {half_life_images: 100}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {every_n_train_steps: 2, save_top_k: -1, filename: "{step}"}
"""


def run(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "zoo", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tiny recipe was trained by the command."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(RECIPE)
    done = run(folder, "train", "tiny.yaml", "--model.lr", "1e-3", "--trainer.limit_val_batches", "0")
    assert "Saved runs/tiny/zoo" in done.stdout
    return folder


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
    assert (card.recipe, card.overrides) == ("tiny", tuple(chosen))
    assert zoo.card(card.path).overrides == card.overrides
    command = "python -m zoo train tiny --model.width=3 --trainer.max_steps 1 --trainer.limit_val_batches 0"
    assert f"`{command}`" in (card.path / "README.md").read_text()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], []),
        (["--model.low", "-1", "--model.lr=1e-3"], ["--model.low", "-1", "--model.lr=1e-3"]),
        (["--trainer.devices", "-1", "--model.lr", "1e-3"], ["--model.lr", "1e-3"]),
        (["--trainer.logger.init_args.name", "x", "--trainer.logger+=Y", "--ckpt_path=a.ckpt", "-c", "b"], ["-c", "b"]),
        (["--trainer.strategy=ddp", "--trainer.precision", "16-mixed"], ["--trainer.precision", "16-mixed"]),
        (["--trainer.devices_of_mine", "2"], ["--trainer.devices_of_mine", "2"]),
    ],
)
def test_overrides_that_do_not_change_the_result_are_left_out(given: list[str], kept: list[str]) -> None:
    assert zoo.cli.effective(given) == kept


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


def test_export_equals_what_training_saved(trained: Path) -> None:
    done = run(trained, "export", "runs/tiny/checkpoints/step=4.ckpt", "exported", "--name", "tiny.exported")
    assert "Saved exported (WGANGP, with averaged weights)" in done.stdout
    card = zoo.card(trained / "exported")
    assert card.sha256 == zoo.card(trained / "runs/tiny/zoo").sha256
    assert (card.name, card.batches, card.data) == ("tiny.exported", 4, "synthetic")


def test_export_runs_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return exec, ("raise SystemExit('the pickle ran')",)

    torch.save({"state_dict": {}, "hyper_parameters": Bomb()}, tmp_path / "bomb.ckpt")
    assert main(["export", "bomb.ckpt", "out"]) == 1
    assert "Nothing of it was run." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_export_without_a_method_asks_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = WGANGP(width=2)
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, tmp_path / "a.ckpt")
    assert main(["export", "a.ckpt", "out"]) == 1
    assert "--method" in capsys.readouterr().err
    assert main(["export", "a.ckpt", "out", "--method", "SNGAN"]) == 1
    assert main(["export", "a.ckpt", "out", "--method", "WGANGP"]) == 0
    assert zoo.card("out").method == "WGANGP"


def test_bad_hyperparameters_are_told_in_the_words_of_the_method(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    done = run(tmp_path, "train", "tiny.yaml", "--model.critic_steps", "0", code=1)
    assert done.stderr.strip().endswith("error: critic_steps=0: the critic needs at least 1 step a generator step.")


def test_list_and_show(trained: Path) -> None:
    listed = run(trained, "list").stdout
    for name in {*recipe_names(), *zoo.names()}:
        assert name in listed
    shown = run(trained, "show", "runs/tiny/zoo").stdout
    for fact in ("WGANGP", "synthetic", "lr=0.001", "average (default)", zoo.card(trained / "runs/tiny/zoo").sha256):
        assert fact in shown


def test_sample(trained: Path) -> None:
    done = run(trained, "sample", "runs/tiny/zoo", "--num", "9", "--seed", "1", "--out", "pictures/nine.png")
    assert "pictures/nine.png" in done.stdout
    with Image.open(trained / "pictures/nine.png") as picture:
        assert picture.size == (3 * 30 + 2, 3 * 30 + 2)


def test_sample_depends_on_the_seed_alone(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    for out, seed in (("a.png", "1"), ("b.png", "1"), ("c.png", "2")):
        assert main(["sample", "runs/tiny/zoo", "--num", "4", "--seed", seed, "--out", out]) == 0
    a, b, c = (Path(name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b
    assert a != c


def test_sample_by_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save(METHODS["SNGAN"](width=2, num_classes=3), tmp_path / "conditional")
    assert main(["sample", "conditional", "--labels", "2,0", "--num", "4"]) == 0
    assert main(["sample", "conditional"]) == 0
    assert (tmp_path / "conditional.png").is_file()
    assert main(["sample", "conditional", "--labels", "7"]) == 1
    assert "the classes are 0 to 2" in capsys.readouterr().err


def test_the_default_file_stays_in_this_folder(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained / "runs/tiny/zoo", tmp_path / "evil"))
    config = json.loads((folder / "config.json").read_text()) | {"name": "../../escaped"}
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["sample", str(folder), "--num", "1"]) == 0
    assert [path.name for path in tmp_path.glob("*.png")] == ["_.._escaped.png"]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of the synthetic pictures, with their real statistics."""
    folder = tmp_path_factory.mktemp("judge") / "classifier.synthetic"
    data = SyntheticImages(num_classes=4, size=64, val_size=16, test_size=64)
    torch.manual_seed(0)
    module = Classifier.for_data(data.spec, width=2)
    zoo.save(module, folder)
    ship_statistics(module.eval(), data, "test", folder / "statistics")
    return folder


@pytest.mark.filterwarnings("ignore:.*samples")
def test_evaluate_and_write(trained: Path, judge: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained / "runs/tiny/zoo", tmp_path / "tiny"))
    done = run(tmp_path, "evaluate", "tiny", "--judge", str(judge), "--num-samples", "64", "--write")
    metrics = zoo.card(folder).metrics
    assert {"test/fid-synthetic-64", "test/inception_score-synthetic-64"} <= set(metrics)
    assert metrics["test/fid-synthetic-64"] > 0
    assert f"{metrics['test/fid-synthetic-64']:.5g}" in done.stdout
    assert "test/fid-synthetic-64" in (folder / "README.md").read_text()
    zoo.load(str(folder))


def test_evaluate_without_a_judge_names_it(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    assert main(["evaluate", "runs/tiny/zoo"]) == 1
    assert "classifier.synthetic" in capsys.readouterr().err


def test_evaluate_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save(WGANGP.for_data(Ring().spec, width=8), tmp_path / "ring")
    assert main(["evaluate", "ring", "--num-samples", "500", "--write"]) == 0
    assert 0 <= zoo.card("ring").metrics["test/modes-500"] <= 8
    assert main(["evaluate", "ring"]) == 0
    assert "test/modes-2500" in capsys.readouterr().out


@pytest.mark.parametrize("data", ["synthetic", "../synthetic", "someone/synthetic", "/synthetic", "synthetic\x00"])
def test_no_config_chooses_its_judge(
    data: str, trained: Path, judge: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(judge, "classifier.synthetic")
    Path("classifier.").mkdir()
    shutil.copytree(trained / "runs/tiny/zoo", "tiny")
    config = json.loads(Path("tiny/config.json").read_text())
    config["data_spec"]["name"] = data
    Path("tiny/config.json").write_text(json.dumps(config))
    monkeypatch.setattr(zoo.evaluation, "load", lambda *_, **__: pytest.fail("a judge was loaded"))
    assert main(["evaluate", "tiny"]) == 1
    assert "Give one with --judge" in capsys.readouterr().err


class Named(SyntheticImages):
    """Synthetic pictures that a datamodule is found for by their name."""

    name = "synthetic"

    def __init__(self) -> None:
        super().__init__(num_classes=4, size=64, val_size=16, test_size=50)


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATAMODULES, "Named", Named)
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))


def test_evaluate_a_classifier(
    judge: Path, named: None, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    log.addHandler(caplog.handler)
    try:
        assert main(["evaluate", str(judge), "--write"]) == 0
    finally:
        log.removeHandler(caplog.handler)
    metrics = zoo.card(judge).metrics
    accuracy = metrics["test/accuracy"]
    assert accuracy == pytest.approx(round(accuracy * 50) / 50), "a share of the 50 test pictures"
    assert "available" not in caplog.text
    assert log.isEnabledFor(logging.INFO), "only for this command"
    assert "Testing" not in "".join(capfd.readouterr()), "no progress bar where nobody watches"
    real = compute_statistics(zoo.load(str(judge)), Named().images("test")[0])
    assert metrics["test/inception_score_of_real_pictures-synthetic"] == pytest.approx(real.inception_score.mean)
    assert not any("fid_of_training_pictures" in name for name in metrics), "there are 64, not 10 000"


def test_evaluate_a_judge_with_enough_training_pictures(
    judge: Path, named: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo.evaluation, "NUM_PICTURES", 40)
    measured = zoo.evaluation.evaluate(zoo.card(judge))
    expected = train_fid(zoo.load(str(judge)), Named(), num_samples=40)
    assert measured["test/fid_of_training_pictures-synthetic-40"] == pytest.approx(expected)
    assert expected > 0


@pytest.mark.parametrize(
    ("device", "accelerator", "devices"), [("cpu", "cpu", 1), ("cuda", "cuda", 1), ("cuda:1", "cuda", [1])]
)
def test_a_judge_is_tested_on_the_device_that_was_asked_for(
    device: str, accelerator: str, devices: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {}

    class Recorded:
        def __init__(self, **settings: object) -> None:
            chosen.update(settings)

        def test(self, *_: object, **__: object) -> list[dict[str, float]]:
            return [{"test/accuracy": 0.5}]

    monkeypatch.setattr(zoo.evaluation, "Trainer", Recorded)
    assert zoo.evaluation._test(Classifier(width=2), Named(), device) == {"test/accuracy": 0.5}
    assert (chosen["accelerator"], chosen["devices"]) == (accelerator, devices)


def test_the_data_of_a_checkpoint_are_its_own_and_not_the_recipes() -> None:
    card = Card("x", Path(), "WGANGP", {}, "", {"name": "ring8"}, recipe="wgan_gp.ring8")
    assert type(zoo.evaluation._datamodule(card, None)) is Ring
    other = replace(card, data_spec={"name": "mnist"})
    assert type(zoo.evaluation._datamodule(other, None)) is DATAMODULES["MNIST"]
    for spec in ({"name": "holiday"}, None):
        with pytest.raises(zoo.ZooError, match="no datamodule here"):
            zoo.evaluation._datamodule(replace(card, data_spec=spec), None)


def test_fine_tune(trained: Path) -> None:
    pictures = trained / "pictures-of-mine"
    pictures.mkdir()
    for index in range(20):
        Image.new("RGB", (40, 30), (index * 10, 255 - index * 10, 90)).save(pictures / f"{index}.png")
    done = run(
        trained, "fine-tune", "runs/tiny/zoo", "--data", str(pictures), "--steps", "5", "--batch-size", "8",
        "--out", "tuned",
    )  # fmt: skip
    assert "fresh optimizers" in done.stdout
    tuned, start = zoo.load(str(trained / "tuned")), zoo.load(str(trained / "runs/tiny/zoo"), weights="raw")
    assert tuned.data_spec.name == "pictures-of-mine"
    assert zoo.card(trained / "tuned").name == "tiny.fine-tuned"
    assert zoo.card(trained / "tuned").averaged
    for network in ("generator", "discriminator"):
        pairs = zip(getattr(tuned, network).parameters(), getattr(start, network).parameters(), strict=True)
        assert any(not torch.equal(new, old) for new, old in pairs), network
    assert "Fine-tuned from tiny for 5 batches" in (trained / "tuned/README.md").read_text()
    assert (trained / "tuned-run/metrics.csv").is_file()


@pytest.mark.parametrize("target", ["thesis.tex", "papers", "runs/tiny", "runs"])
def test_train_refuses_a_target_before_it_trains(
    target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("tiny.yaml").write_text(RECIPE)
    Path("thesis.tex").touch()
    Path("papers").mkdir()
    Path("papers/thesis.tex").touch()
    monkeypatch.setattr(zoo.cli.ZooCLI, "fit", lambda self: pytest.fail("it trained"))
    assert main(["train", "tiny.yaml", "--save-to", target]) == 1
    assert "Choose another folder" in capsys.readouterr().err


def test_fine_tune_refuses_a_target_before_it_trains(
    judge: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("thesis.tex").touch()
    monkeypatch.setattr(zoo.fine_tuning, "load_folder", lambda *_, **__: pytest.fail("it went on"))
    assert main(["fine-tune", str(judge), "--data", ".", "--out", "thesis.tex"]) == 1
    assert "Choose another folder" in capsys.readouterr().err


def test_ctrl_c_in_fine_tuning_is_130(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (30, 30)).save(tmp_path / "pictures/0.png")
    Image.new("RGB", (30, 30)).save(tmp_path / "pictures/1.png")
    monkeypatch.setattr(WGANGP, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    try:  # Lightning ignores the signal from here on
        code = main(["fine-tune", str(trained / "runs/tiny/zoo"), "--data", "pictures", "--batch-size", "2"])
    finally:
        signal.signal(signal.SIGINT, handler)
    assert code == 130
    assert capsys.readouterr().err.rstrip().endswith("Interrupted.")
    assert not (tmp_path / "runs/fine-tune/tiny").exists()


def test_fine_tune_needs_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save(WGANGP.for_data(Ring().spec, width=8), tmp_path / "ring")
    assert main(["fine-tune", "ring", "--data", "."]) == 1
    assert "draws no pictures" in capsys.readouterr().err


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
    ("arguments", "message"),
    [
        (["show", "no.such"], "'no.such' is not in the zoo"),
        (["sample", "no.such"], "'no.such' is not in the zoo"),
        (["evaluate", "no.such"], "'no.such' is not in the zoo"),
        (["fine-tune", "no.such", "--data", "."], "'no.such' is not in the zoo"),
        (["train", "no.such"], "has no recipe 'no.such'"),
        (["train", "no/such.yaml"], "no recipe file 'no/such.yaml'"),
        (["train", "../recipes/x"], "has no recipe"),
        (["export", "no.ckpt", "out"], "no file no.ckpt"),
        (["list", "no*such"], "Nothing in the zoo matches"),
    ],
)
def test_failures_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(KeyError, match=r"no\.such"):
        main(["show", "no.such", "--debug"])


def test_unknown_overrides_are_bad_usage(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    with pytest.raises(SystemExit) as caught:
        main(["train", "tiny.yaml", "--model.colour", "red"])
    assert caught.value.code == 2
    assert "colour" in capsys.readouterr().err


def test_ctrl_c_is_130(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo", "train", "tiny.yaml", "--trainer.max_steps", "1000000"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        for _ in range(600):
            if [*tmp_path.glob("runs/tiny/checkpoints/*.ckpt")]:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, error
    assert "Interrupted." in error.splitlines()  # W&B may have a last word of its own
    assert not (tmp_path / "runs/tiny/zoo").exists()
