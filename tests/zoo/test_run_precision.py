"""Recipes are trained in bfloat16 where the machine has units for it, and a resumed run keeps its precision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from lightning_modules import TeacherForcing
from lightning_modules.networks.bfloat16 import has_bfloat16_units
from lightning_modules.networks.sequence_cores import CausalTransformer, ConvLSTM, Recurrent
from tests.processes import result_of, started
from tests.standins import quiet_trainer
from tests.training import TinyData, train
from tests.zoo.running import RECIPE
from zoo.cli import train as train_recipe
from zoo.paths import recipe_names
from zoo.recipe import read_recipe
from zoo.run_precision import RecipeTrainer, fastest_precision

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2"}


def machine(monkeypatch: pytest.MonkeyPatch, bf16: bool = False, amx: bool = False, cuda: bool | None = None) -> None:
    """Makes this machine one with the given units; ``cuda`` says whether a GPU has them; ``None`` is for no GPU."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bool(cuda))


@pytest.mark.parametrize(
    ("units", "accelerator", "expected"),
    [
        ({}, "cpu", "32-true"),
        ({}, "auto", "32-true"),
        ({"bf16": True}, "cpu", "bf16-mixed"),
        ({"amx": True}, "auto", "bf16-mixed"),
        ({"cuda": True}, "auto", "bf16-mixed"),
        ({"cuda": True}, "gpu", "bf16-mixed"),
        ({"cuda": True}, "cpu", "32-true"),
        ({"bf16": True, "cuda": False}, "auto", "32-true"),
    ],
)
def test_bfloat16_is_chosen_where_there_are_units_for_it(
    units: dict[str, Any],
    accelerator: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine(monkeypatch, **units)
    with caplog.at_level("INFO"):
        assert fastest_precision(accelerator) == expected
    (line,) = caplog.messages
    assert expected in line
    assert "units" in line


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", False),
        ("ONEDNN_MAX_CPU_ISA", "avx512_core", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", True),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", True),
        ("ATEN_CPU_CAPABILITY", "avx2", False),
        ("ATEN_CPU_CAPABILITY", "avx512", True),
    ],
)
def test_units_that_the_environment_keeps_from_use_do_not_count(
    name: str, value: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, bf16=True)
    assert has_bfloat16_units()
    monkeypatch.setenv(name, value)
    assert has_bfloat16_units() == expected


def test_no_recipe_insists_on_bfloat16() -> None:
    given = {read_recipe(name)["trainer"].get("precision", "32-true") for name in recipe_names()}
    assert given == {"auto", "32-true"}


def test_the_trainer_of_recipes_takes_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    quiet: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    assert RecipeTrainer(precision="auto", **quiet).precision == "32-true"
    assert RecipeTrainer(precision="bf16-mixed", **quiet).precision == "bf16-mixed"
    assert RecipeTrainer(**quiet).precision == "32-true"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE.replace("  max_steps: 4\n", "  max_steps: 4\n  precision: auto\n"))
    return path


def checkpoint_of(recipe: Path, step: int) -> str:
    (path,) = recipe.parent.glob(f"runs/**/step={step}.ckpt")
    return str(path)


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_recipe_keeps_the_precision_that_it_began_with(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(monkeypatch, bf16=True)
    card = train_recipe(recipe, [])
    assert card is not None
    assert card.precision == zoo.card("runs/tiny/zoo").precision == "bf16-mixed"
    assert "bf16-mixed" in Path("runs/tiny/zoo/README.md").read_text()
    began = checkpoint_of(recipe, 4)
    assert torch.load(began, weights_only=True)["precision"] == "bf16-mixed"

    machine(monkeypatch, bf16=False)
    caplog.clear()
    with caplog.at_level("INFO"):
        card = train_recipe(recipe, ["--trainer.max_steps", "5", "--ckpt_path", began], Path("second"))
    assert card is not None
    assert card.precision == "bf16-mixed"
    (line,) = [message for message in caplog.messages if "precision=" in message]
    assert "began" in line
    assert "slow" in line

    # Another precision that is asked for is used, said and recorded.
    caplog.clear()
    with caplog.at_level("INFO"):
        given = ["--trainer.max_steps", "6", "--trainer.precision", "32-true", "--ckpt_path", began]
        card = train_recipe(recipe, given, Path("third"))
    assert card is not None
    assert card.precision == "32-true"
    assert "precision=32-true (was bf16-mixed)" in card.notes
    assert any("precision=32-true (was bf16-mixed)" in message for message in caplog.messages)


@pytest.mark.filterwarnings("ignore")
def test_recipes_of_former_versions_began_in_bfloat16(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(monkeypatch)
    train_recipe(recipe, [])
    former = torch.load(checkpoint_of(recipe, 2), weights_only=True)
    del former["precision"]
    torch.save(former, "former.ckpt")
    card = train_recipe(recipe, ["--ckpt_path", "former.ckpt"], Path("second"))
    assert card is not None
    assert card.precision == "bf16-mixed"


@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
def test_python_says_that_a_precision_changes(caplog: pytest.LogCaptureFixture) -> None:
    train("VAE", 2, "run")
    module = torch.load("run/last.ckpt", weights_only=True)
    assert module["precision"] == "32-true"
    module["precision"] = "bf16-mixed"
    torch.save(module, "run/last.ckpt")
    with caplog.at_level("INFO"):
        train("VAE", 3, "rest", ckpt_path="run/last.ckpt")
    assert any("precision=32-true (was bf16-mixed)" in message for message in caplog.messages)


def trained_in_bfloat16() -> tuple[bool, float]:
    """Trains a recurrent network in bfloat16."""
    data = TinyData((6,), sequences="tokens")
    module = TeacherForcing.for_data(data.spec, width=4)
    trainer = quiet_trainer(max_epochs=-1, max_steps=2, precision="bf16-mixed", limit_val_batches=1)
    trainer.fit(module, data)
    return has_bfloat16_units(), trainer.callback_metrics["train/nats_per_step"].item()


def test_recurrent_networks_are_trained_in_bfloat16_also_without_units() -> None:
    units, loss = result_of(*started(trained_in_bfloat16, environment=AVX2))
    assert not units
    assert 0 < loss < 10


CORES: dict[str, Callable[[], Any]] = {
    "lstm": lambda: Recurrent("lstm", 4, 8),
    "gru": lambda: Recurrent("gru", 4, 8),
    "transformer": lambda: CausalTransformer(4, 8, 1),
    "conv_lstm": lambda: ConvLSTM(1, 4),
}


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("began_in_bfloat16", [True, False])
def test_a_carried_state_goes_into_another_precision(name: str, began_in_bfloat16: bool) -> None:
    """In streams a resumed run takes along the state of its last batch."""
    core = CORES[name]()
    x = torch.randn(2, 3, 1, 8, 8) if isinstance(core, ConvLSTM) else torch.randn(2, 3, 4)
    expected, _ = core(x, core(x)[1])
    with torch.autocast("cpu", torch.bfloat16, enabled=began_in_bfloat16):
        _, state = core(x)
    with torch.autocast("cpu", torch.bfloat16, enabled=not began_in_bfloat16):
        found, _ = core(x, state)
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.05)
