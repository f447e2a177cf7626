"""A recipe that is resumed with other hyperparameters uses them, and its records are those of the optimizers."""

import json
from pathlib import Path

import pytest
import torch

from tests.zoo.running import RECIPE
from zoo.cli import train


@pytest.fixture
def began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A recipe, and the checkpoint of its first run."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    train(recipe, [])
    (checkpoint,) = tmp_path.glob("runs/**/step=4.ckpt")
    return recipe, str(checkpoint)


@pytest.mark.filterwarnings("ignore")
def test_a_rate_given_on_resume_is_used_and_recorded(began: tuple[Path, str]) -> None:
    recipe, checkpoint = began
    given = ["--ckpt_path", checkpoint, "--trainer.max_steps", "6", "--model.lr", "1e-6", "--model.betas", "[0.3,0.4]"]
    card = train(recipe, given, Path("second"))
    assert card is not None
    (last,) = Path("runs").glob("**/step=6.ckpt")
    saved = torch.load(last, weights_only=True)
    for state in saved["optimizer_states"]:
        (group,) = state["param_groups"]
        assert (group["lr"], list(group["betas"])) == (1e-6, [0.3, 0.4])
    assert saved["hyper_parameters"]["lr"] == card.hyperparameters["lr"] == 1e-6
    recorded = json.loads(Path("runs/tiny/hyperparameters.json").read_text())
    assert recorded["model.init_args.lr"] == 1e-6
    assert "Resumed after 4 batches with" in card.notes
    assert "lr=1e-06 (was 0.0001)" in card.notes


@pytest.mark.filterwarnings("ignore")
def test_a_width_given_on_resume_is_refused(began: tuple[Path, str]) -> None:
    recipe, checkpoint = began
    with pytest.raises(ValueError, match=r"width=2 \(now 4\)"):
        train(recipe, ["--ckpt_path", checkpoint, "--trainer.max_steps", "6", "--model.width", "4"], Path("second"))
