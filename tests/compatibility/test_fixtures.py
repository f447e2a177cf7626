"""Files of former versions load, resume and run: see ``fixtures/README.md``."""

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import zoo
from lightning_modules import METHODS
from lightning_modules.metrics.classifier import Classifier
from tests.training import train
from zoo.__main__ import main
from zoo.loading import load_folder

FIXTURES = Path(__file__).parent / "fixtures"
RUNS = sorted(path.name for path in (FIXTURES / "runs").iterdir())
SAVED = sorted(path.name for path in (FIXTURES / "zoo").iterdir())
CONFIGS = sorted(path.name for path in (FIXTURES / "configs").iterdir())
SIX_BATCHES_LATER = 2e-5
"""Weights after three batches of another build of torch; on the machine that wrote them they are equal bit for bit."""


def hyperparameters(checkpoint: Path) -> dict[str, Any]:
    """Returns what a Lightning checkpoint says that its module was built with, by today's names."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    method = METHODS[checkpoint.parent.name]
    return {key: value for key, value in method.current_names(content["hyper_parameters"]).items()}


@pytest.mark.parametrize("name", SAVED)
def test_a_zoo_checkpoint_loads_and_samples(name: str) -> None:
    for weights in ("raw", "ema"):
        module = load_folder(FIXTURES / "zoo" / name, weights=weights)
        assert type(module).__name__ == name.partition(".")[0]
        state = load_file(FIXTURES / "zoo" / name / "model.safetensors")
        for key, value in module.state_dict().items():
            averaged = weights == "ema" and f"ema.{key}" in state
            assert torch.equal(value, state[f"ema.{key}" if averaged else key])
        if not isinstance(module, Classifier):
            samples = module.sample(3, generator=torch.Generator().manual_seed(0))
            assert samples.shape[0] == 3
            assert torch.isfinite(samples.float()).all()


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_checkpoint_can_be_saved_again(name: str, tmp_path: Path) -> None:
    module = load_folder(FIXTURES / "zoo" / name, weights="raw")
    zoo.save(module, tmp_path / name, samples=False)
    again = load_folder(tmp_path / name, weights="raw")
    for key, value in module.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    assert dict(again.hparams) == dict(module.hparams)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # the fixtures were written elsewhere
@pytest.mark.parametrize("name", RUNS)
def test_a_run_resumes_to_the_weights_that_it_had(name: str, tmp_path: Path) -> None:
    folder = FIXTURES / "runs" / name
    checkpoint = shutil.copy(folder / "last.ckpt", tmp_path)
    overrides = hyperparameters(folder / "last.ckpt")
    shape = tuple(overrides.pop("shape")) if "shape" in overrides else None
    trainer, module, _ = train(
        name, 6, str(tmp_path / "run"), str(checkpoint), every=3, shape=shape, overrides=overrides
    )
    assert trainer.global_step == 6
    expected = load_file(folder / "after-6-batches.safetensors")
    state = module.state_dict()
    assert set(state) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(
            state[key], value, atol=SIX_BATCHES_LATER, rtol=1e-4, msg=lambda m, k=key: f"{k}: {m}"
        )


@pytest.mark.parametrize("name", RUNS)
def test_a_training_checkpoint_loads_by_its_class(name: str) -> None:
    module = METHODS[name].load_from_checkpoint(FIXTURES / "runs" / name / "last.ckpt", weights_only=True)
    assert module.has_data_spec
    assert dict(module.hparams) | hyperparameters(FIXTURES / "runs" / name / "last.ckpt") == dict(module.hparams)


@pytest.mark.parametrize("resumed", [False, True], ids=["fresh", "resumed"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_of_a_user_runs(name: str, resumed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (FIXTURES / "configs" / name).iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    resume = ["--ckpt_path", "last.ckpt", "--trainer.max_steps", "6"] if resumed else []
    assert main(["train", "config.yaml", *resume]) == 0
    card = zoo.card(f"runs/{name}/zoo")
    assert card.batches == (6 if resumed else 4)
    written = yaml.safe_load(next(Path("runs").rglob("config.yaml")).read_text(encoding="utf-8"))
    assert written["trainer"]["logger"]["class_path"] == "lightning_modules.runtime.tracking.Tracking"


def test_configs_name_what_has_moved() -> None:
    """The fixtures hold the former names; a config without them would test nothing."""
    text = "".join((FIXTURES / "configs" / name / "config.yaml").read_text(encoding="utf-8") for name in CONFIGS)
    for former in (
        "lightning_modules.tracking.Tracking",
        "lightning_modules.parts.checkpoint_io.AtomicCheckpointIO",
        "zoo.announcing.AnnounceMeasures",
        "zoo.sample_exhibits.SampleExhibits",
        "class_path: zoo.load\n",
        " clip:",
        " listen_above:",
        " teach_below:",
    ):
        assert former in text


def test_a_program_finds_tracking_where_it_was() -> None:
    from lightning_modules.runtime.tracking import Tracking
    from lightning_modules.tracking import Tracking as Former

    assert Former is Tracking


FORMER = {"WGAN": "clip", "ComposedGAN": "clip", "PixelCNNPlusPlus": "clip", "ProfessorForcing": "listen_above"}


@pytest.mark.parametrize("name", FORMER)
def test_former_hyperparameters_are_read_wherever_a_checkpoint_comes_from(name: str, tmp_path: Path) -> None:
    checkpoint = torch.load(FIXTURES / "runs" / name / "last.ckpt", weights_only=True)
    former = FORMER[name]
    current = METHODS[name].renamed_hyperparameters[former]
    assert former in checkpoint["hyper_parameters"]
    checkpoint["hyper_parameters"][former] = 0.375
    torch.save(checkpoint, tmp_path / "changed.ckpt")
    content = (tmp_path / "changed.ckpt").read_bytes()
    for place in (tmp_path / "changed.ckpt", BytesIO(content), (tmp_path / "changed.ckpt").as_uri()):
        loaded = METHODS[name].load_from_checkpoint(place, weights_only=True)
        assert loaded.hparams[current] == 0.375
    for given in (former, current):
        loaded = METHODS[name].load_from_checkpoint(tmp_path / "changed.ckpt", weights_only=True, **{given: 0.75})
        assert loaded.hparams[current] == 0.75
