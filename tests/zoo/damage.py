"""Damages the files of a checkpoint, and says how loading refuses it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def edit_hyperparameters(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit_config(folder, hyperparameters=config["hyperparameters"] | changes)


def replace_weights(folder: Path, content: bytes) -> None:
    """Writes other weights and the digest that fits them: the digest is no protection against an attacker."""
    (folder / "model.safetensors").write_bytes(content)
    edit_config(folder, sha256=hashlib.sha256(content).hexdigest())


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    replace_weights(folder, (folder / "model.safetensors").read_bytes())


def refuses(folder: Path, match: str) -> str:
    """Returns the message of the error, which says what ``match`` says."""
    with pytest.raises(zoo.ZooError, match=match) as caught:
        zoo.load(str(folder))
    assert len(str(caught.value)) < 700, "an error is a sentence"
    return str(caught.value)


def refuses_the_format(folder: Path) -> None:
    """The file is refused for what it is, before any of its tensors is named."""
    assert "generator" not in refuses(folder, r"model\.safetensors")
