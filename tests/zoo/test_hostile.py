"""Damaged, swapped and malicious checkpoints: one clear error each, nothing run, nothing large allocated."""

import hashlib
import json
import os
import pickle
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from lightning_modules import Classifier
from tests.zoo.damage import (
    edit_config,
    edit_hyperparameters,
    edit_tensors,
    refuses,
    refuses_the_format,
    replace_weights,
)
from tests.zoo.tiny import TinyGAN

RAN = "the pickle ran"


class Bomb:
    """Unpickling it raises, which would show that it was unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"raise SystemExit({RAN!r})",)


def test_the_helpers_themselves_break_nothing(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: None)
    edit_hyperparameters(checkpoint)
    zoo.load(str(checkpoint))


# The weights


def test_wrong_digest(checkpoint: Path) -> None:
    recorded = zoo.card(checkpoint).sha256
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (checkpoint / "model.safetensors").write_bytes(content)
    refuses(checkpoint, f"{hashlib.sha256(content).hexdigest()[:12]}.*{recorded[:12]}")


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -1])
def test_truncated_file(checkpoint: Path, keep: int) -> None:
    content = (checkpoint / "model.safetensors").read_bytes()[:keep]
    (checkpoint / "model.safetensors").write_bytes(content)
    refuses(checkpoint, zoo.card(checkpoint).sha256[:12])
    replace_weights(checkpoint, content)
    refuses_the_format(checkpoint)


def test_pickle_in_place_of_safetensors(checkpoint: Path) -> None:
    replace_weights(checkpoint, pickle.dumps(Bomb()))
    refuses_the_format(checkpoint)


def test_torch_and_zip_files_in_place_of_safetensors(checkpoint: Path, tmp_path: Path) -> None:
    torch.save({"state": Bomb()}, tmp_path / "x.pt")
    replace_weights(checkpoint, (tmp_path / "x.pt").read_bytes())
    refuses_the_format(checkpoint)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("../../evil", "x")
    replace_weights(checkpoint, (tmp_path / "x.zip").read_bytes())
    refuses_the_format(checkpoint)


def header(content: dict[str, Any] | bytes) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 90 << 20) + b"{" + b" " * 200,
        header(b"[" * 50_000),
        header(b'{"a": NaN}'),
        header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}) + b"1234",
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1 << 40]}}) + b"1234",
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}) + b"1234",
    ],
)
def test_broken_headers(checkpoint: Path, content: bytes) -> None:
    replace_weights(checkpoint, content)
    refuses_the_format(checkpoint)


def test_a_header_larger_than_any_real_one(checkpoint: Path) -> None:
    replace_weights(checkpoint, header(b"{}" + b" " * (17 << 20)))
    refuses(checkpoint, str(2 + (17 << 20)))


def test_missing_tensors_are_named(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: tensors.pop("generator.0.bias"))
    refuses(checkpoint, r"model\.safetensors.*generator\.0\.bias")


def test_extra_tensors_are_named(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: tensors.update({"../../etc/passwd": torch.zeros(1)}))
    refuses(checkpoint, r"model\.safetensors.*\.\./\.\./etc/passwd")


def test_extra_averages_are_named(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: tensors.update({"ema.nothing": torch.zeros(1)}))
    refuses(checkpoint, r"ema\.nothing")


def test_averages_of_another_shape(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: tensors.update({"ema.generator.0.bias": torch.zeros(1)}))
    refuses(checkpoint, r"'ema\.generator\.0\.bias'.*\[1\].*\[192\]")


def test_wrong_shape_and_type_are_named(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: tensors.update({"generator.0.bias": torch.zeros(7)}))
    refuses(checkpoint, r"'generator\.0\.bias'.*\[7\] torch\.float32.*\[192\]")
    edit_tensors(checkpoint, lambda t: t.update({"generator.0.bias": torch.zeros(192, dtype=torch.float64)}))
    refuses(checkpoint, r"'generator\.0\.bias'.*torch\.float64.*\[192\] torch\.float32")


# The hyperparameters


@pytest.mark.parametrize(
    ("width", "match"),
    [
        (2 * 10**6, r"'generator\.0\.weight'.*\[128000000, 4\]"),  # the shapes are known: 2 GB for it alone
        (10**9, "TinyGAN"),
        (10**15, "TinyGAN"),
        (2**70, "TinyGAN"),
    ],
)
def test_absurd_sizes_allocate_nothing(checkpoint: Path, width: int, match: str) -> None:
    edit_hyperparameters(checkpoint, width=width)
    refuses(checkpoint, match)


NUM_TENSORS = len(TinyGAN().state_dict())


def test_absurd_depth_stops_early(checkpoint: Path) -> None:
    edit_hyperparameters(checkpoint, depth=10**6)
    tracemalloc.start()
    refuses(checkpoint, rf"TinyGAN.*\b{NUM_TENSORS}\b")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 << 20


def test_the_limit_of_tensors_is_lifted_afterwards(checkpoint: Path) -> None:
    edit_hyperparameters(checkpoint, depth=10**6)
    refuses(checkpoint, rf"TinyGAN.*\b{NUM_TENSORS}\b")
    edit_hyperparameters(checkpoint, depth=1)
    zoo.load(str(checkpoint))
    torch.nn.Sequential(*[torch.nn.Linear(1, 1) for _ in range(3000)])


@pytest.mark.parametrize("width", [0, -1, "wide", None, [], {}])
def test_senseless_values(checkpoint: Path, width: object) -> None:
    edit_hyperparameters(checkpoint, width=width)
    refuses(checkpoint, "TinyGAN")


def test_unknown_hyperparameters(checkpoint: Path) -> None:
    edit_hyperparameters(checkpoint, colour="red")
    refuses(checkpoint, "colour")


@pytest.mark.parametrize("method", ["NoSuchGAN", "os.system", "lightning_modules.WGANGP", "", "__class__"])
def test_unknown_methods_list_the_known_ones(checkpoint: Path, method: str) -> None:
    edit_config(checkpoint, method=method)
    refuses(checkpoint, re.escape(repr(method)) + ".*WGANGP")


# The folder


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_files(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    refuses(checkpoint, re.escape(name))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_that_lead_out(checkpoint: Path, tmp_path: Path, name: str) -> None:
    (checkpoint / name).rename(tmp_path / "elsewhere")
    (checkpoint / name).symlink_to(tmp_path / "elsewhere")
    refuses(checkpoint, re.escape(str(checkpoint / name)))


def test_a_pipe_is_not_read(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    os.mkfifo(checkpoint / "config.json")
    refuses(checkpoint, r"config\.json")


def test_statistics_that_lead_out(tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    zoo.save(Classifier(shape=(1, 8, 8), width=2), folder)
    (folder / "statistics").mkdir()
    (folder / "statistics/x.safetensors").symlink_to(tmp_path / "elsewhere")
    refuses(folder, r"statistics/x\.safetensors")
    (folder / "statistics/x.safetensors").unlink()
    (folder / "statistics").rmdir()
    (folder / "statistics").symlink_to(tmp_path)
    refuses(folder, "classifier/statistics")


@pytest.mark.parametrize(
    "name",
    ["../tiny", "..", "../../etc", "/etc", "/nonexistent/x", "a/../../b", "", ".", "tiny\x00", "hf://", "hf://../x",
     "hf:///etc", "hf://a/b/c", "hf://a/b@../x", "~"],
)  # fmt: skip
def test_names_that_are_paths(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(zoo.ZooError):
        zoo.load(name)
