"""Checkpoints whose weights are NaN: every command that would compute with them says so, and writes nothing."""

import shutil
from pathlib import Path

import pytest
import torch

import zoo
from tests.zoo.damage import edit_tensors
from tests.zoo.running import ROOT, fails

COMMANDS = {
    "gaussian_mixture.grid25": [["sample"], ["evaluate", "--samples-only"]],
    "ebm.ring8": [["sample"], ["draw", "energy"], ["evaluate"]],
    "nce.ring8": [["sample"], ["draw", "energy"]],
    "rbm.fashion_mnist": [["sample"], ["draw", "filters"], ["evaluate", "--samples-only"]],  # its samples are bits
    "iwae.fashion_mnist_binary": [["sample"], ["draw", "interpolation"], ["evaluate", "--samples-only"]],
    "mixture_density_rnn.omniglot_strokes": [["sample"], ["draw", "continuation"], ["evaluate"]],
    "classifier.fashion_mnist": [["evaluate"]],
}


def diverge(tensors: dict[str, torch.Tensor]) -> None:
    for tensor in tensors.values():
        if tensor.is_floating_point():
            tensor.fill_(torch.nan)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_diverged_checkpoint_is_refused_by_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "checkpoints" / name, "diverged")
    edit_tensors(Path("diverged"), diverge)
    for command, *options in COMMANDS[name]:
        line = fails([command, "./diverged", *options], capsys)
        assert "diverged/model.safetensors holds weights that are NaN or infinite" in line
        assert "take an earlier checkpoint" in line
    assert {path.name for path in Path().iterdir()} == {"diverged"}
    with pytest.warns(UserWarning, match="NaN or infinite"):
        zoo.load("./diverged") if "classifier" not in name else zoo.load_classifier("./diverged")
