"""Damaged, swapped and malicious checkpoints: one clear error each, nothing run, nothing large allocated."""

import hashlib
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
import zoo.exporting
from datamodules import DataSpec
from lightning_modules import Classifier
from tests.zoo.tiny import TinyGAN
from zoo.exporting import export

RAN = "the pickle ran"


class Bomb:
    """Unpickling it raises, which would show that it was unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"raise SystemExit({RAN!r})",)


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


def refuses(folder: Path, match: str) -> None:
    with pytest.raises(zoo.ZooError, match=match) as caught:
        zoo.load(str(folder))
    assert len(str(caught.value)) < 700, "an error is a sentence"


def test_the_helpers_themselves_break_nothing(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: None)
    edit_hyperparameters(checkpoint)
    zoo.load(str(checkpoint))


# The weights


def test_wrong_digest(checkpoint: Path) -> None:
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (checkpoint / "model.safetensors").write_bytes(content)
    refuses(checkpoint, r"damaged, truncated or was exchanged")


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -1])
def test_truncated_file(checkpoint: Path, keep: int) -> None:
    content = (checkpoint / "model.safetensors").read_bytes()[:keep]
    (checkpoint / "model.safetensors").write_bytes(content)
    refuses(checkpoint, "damaged, truncated or was exchanged")
    replace_weights(checkpoint, content)
    refuses(checkpoint, "safetensors file")


def test_pickle_in_place_of_safetensors(checkpoint: Path) -> None:
    replace_weights(checkpoint, pickle.dumps(Bomb()))
    refuses(checkpoint, "safetensors file")


def test_torch_and_zip_files_in_place_of_safetensors(checkpoint: Path, tmp_path: Path) -> None:
    torch.save({"state": Bomb()}, tmp_path / "x.pt")
    replace_weights(checkpoint, (tmp_path / "x.pt").read_bytes())
    refuses(checkpoint, "safetensors file")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("../../evil", "x")
    replace_weights(checkpoint, (tmp_path / "x.zip").read_bytes())
    refuses(checkpoint, "safetensors file")


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
    refuses(checkpoint, "safetensors file")


def test_a_header_larger_than_any_real_one(checkpoint: Path) -> None:
    replace_weights(checkpoint, header(b"{}" + b" " * (17 << 20)))
    refuses(checkpoint, "its header would have")


def test_missing_tensors_are_named(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: tensors.pop("generator.0.bias"))
    refuses(checkpoint, r"lacks generator\.0\.bias")


def test_extra_tensors_are_named(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: tensors.update({"../../etc/passwd": torch.zeros(1)}))
    refuses(checkpoint, r"does not have: \.\./\.\./etc/passwd")


def test_extra_averages_are_named(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: tensors.update({"ema.nothing": torch.zeros(1)}))
    refuses(checkpoint, r"does not have: ema\.nothing")


def test_averages_of_another_shape(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: tensors.update({"ema.generator.0.bias": torch.zeros(1)}))
    refuses(checkpoint, r"'ema\.generator\.0\.bias' is \[1\]")


def test_wrong_shape_and_type_are_named(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: tensors.update({"generator.0.bias": torch.zeros(7)}))
    refuses(checkpoint, r"'generator\.0\.bias' is \[7\] torch\.float32, but .* has \[192\]")
    edit_tensors(checkpoint, lambda t: t.update({"generator.0.bias": torch.zeros(192, dtype=torch.float64)}))
    refuses(checkpoint, r"torch\.float64, but .* has \[192\] torch\.float32")


# The hyperparameters


@pytest.mark.parametrize(
    ("width", "match"),
    [
        (
            10**8,
            "but the method with these hyperparameters has",
        ),  # 360 000 TiB: the shapes are known, nothing is asked for
        (10**9, "cannot be built"),
        (10**15, "cannot be built"),
        (2**70, "cannot be built"),
    ],
)
def test_absurd_sizes_allocate_nothing(checkpoint: Path, width: int, match: str) -> None:
    edit_hyperparameters(checkpoint, width=width)
    refuses(checkpoint, match)


def test_absurd_depth_stops_early(checkpoint: Path) -> None:
    edit_hyperparameters(checkpoint, depth=10**6)
    tracemalloc.start()
    refuses(checkpoint, "more than .* tensors, where the file has")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 << 20


def test_the_limit_of_tensors_is_lifted_afterwards(checkpoint: Path) -> None:
    edit_hyperparameters(checkpoint, depth=10**6)
    refuses(checkpoint, "more than")
    edit_hyperparameters(checkpoint, depth=1)
    zoo.load(str(checkpoint))
    torch.nn.Sequential(*[torch.nn.Linear(1, 1) for _ in range(3000)])


@pytest.mark.parametrize("width", [0, -1, "wide", None, [], {}])
def test_senseless_values(checkpoint: Path, width: object) -> None:
    edit_hyperparameters(checkpoint, width=width)
    refuses(checkpoint, "TinyGAN cannot be built from the checkpoint's hyperparameters")


def test_unknown_hyperparameters(checkpoint: Path) -> None:
    edit_hyperparameters(checkpoint, colour="red")
    refuses(checkpoint, "colour")


@pytest.mark.parametrize("method", ["NoSuchGAN", "os.system", "lightning_modules.WGANGP", "", "__class__"])
def test_unknown_methods_list_the_known_ones(checkpoint: Path, method: str) -> None:
    edit_config(checkpoint, method=method)
    refuses(checkpoint, r"Unknown method .*WGANGP")


# The config


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'{"format_version": 1}',
        b"[" * 100_000,
        b'{"format_version": 1, "method": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        b" " * (2 << 20),
    ],
    ids=["empty", "text", "bytes", "list", "null", "bare", "brackets", "objects", "huge"],
)
def test_config_that_is_none(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "config.json").write_bytes(content)
    refuses(checkpoint, "config.json")
    with pytest.raises(zoo.ZooError, match="config.json"):
        zoo.card(checkpoint)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("metrics", '{"fid": NaN}'),
        ("metrics", '{"fid": 1e999}'),
        ("metrics", '{"fid": "12"}'),
        ("metrics", '{"fid": true}'),
        ("metrics", "[]"),
        ("hyperparameters", "[]"),
        ("hyperparameters", '{"width": -Infinity}'),
        ("hyperparameters", "[" * 20 + "]" * 20),
        ("method", "1"),
        ("sha256", '"abc"'),
        ("sha256", "null"),
        ("format_version", "2"),
        ("format_version", "true"),
        ("format_version", "null"),
        ("data_spec", "[]"),
        ("data_spec", '{"name": 3}'),
        ("versions", '{"torch": 2}'),
        ("networks", '{"a": null}'),
        ("notes", "3"),
        ("curve", '[["a"]]'),
        ("recipe", "{}"),
        ("overrides", '"--model.lr"'),
        ("overrides", "[1]"),
        ("batches", '"many"'),
        ("name", "3"),
    ],
)
def test_config_of_wrong_types(checkpoint: Path, key: str, text: str) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    rest = {name: value for name, value in config.items() if name != key}
    (checkpoint / "config.json").write_text(json.dumps(rest)[:-1] + f', "{key}": {text}}}')
    refuses(checkpoint, "config.json")


def test_deep_nesting_that_json_can_read(checkpoint: Path) -> None:
    nested: list[Any] = []
    for _ in range(30):
        nested = [nested]
    edit_hyperparameters(checkpoint, latent_dim=nested)
    refuses(checkpoint, "nests deeper than")


def test_wrong_data_spec(checkpoint: Path) -> None:
    edit_config(checkpoint, data_spec={"name": "x", "kind": "image", "shape": ["a"]})
    refuses(checkpoint, "data spec")
    edit_config(checkpoint, data_spec={"name": "x", "kind": "image", "shape": [1], "code": "x"})
    refuses(checkpoint, "data spec")


FIELDS = {"name": "x", "kind": "image", "shape": [1, 8, 8]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", 3),
        ("shape", [1.0, 8.0, 8.0]),
        ("shape", [True, 8, 8]),
        ("shape", "188"),
        ("shape", None),
        ("value_range", [1]),
        ("value_range", {}),
        ("value_range", ["-1", "1"]),
        ("value_range", [-1, 0, 1]),
        ("num_classes", "ten"),
        ("class_names", "ab"),
        ("class_names", [1, 2]),
        ("class_counts", ["1", "2"]),
        ("class_counts", [-1, 2]),
        ("preprocessing", None),
        ("vocabulary", {"a": 1}),
        ("modes", 5),
        ("modes", [5]),
        ("modes", [[0, "a"]]),
        ("modes", [[0.0, 1.0]]),
        ("mode_scale", [1]),
    ],
)
def test_data_specs_of_wrong_types(checkpoint: Path, field: str, value: object) -> None:
    spec = FIELDS | {"num_classes": 2, field: value}
    with pytest.raises(ValueError, match=field):
        DataSpec.from_json(spec)
    edit_config(checkpoint, data_spec=spec)
    refuses(checkpoint, f"data spec is wrong: .*{field}")


def test_data_specs_of_other_data_than_the_method_was_built_for(checkpoint: Path) -> None:
    edit_config(checkpoint, data_spec=FIELDS)
    zoo.load(str(checkpoint))
    edit_config(checkpoint, data_spec=FIELDS | {"shape": [3, 8, 8]})
    refuses(checkpoint, r"data spec is wrong: TinyGAN was built for shape=\[1, 8, 8\]")
    edit_config(checkpoint, data_spec=FIELDS | {"kind": "tokens"})
    refuses(checkpoint, "data spec is wrong: TinyGAN models")


# Lightning checkpoints, which export reads


@pytest.fixture
def lightning_file(registered: None, tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        module = TinyGAN()
        content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)} | changes
        torch.save(content, tmp_path / "tiny.ckpt")
        return tmp_path / "tiny.ckpt"

    return write


def refuses_to_export(ckpt: Path, match: str) -> None:
    with pytest.raises(zoo.ZooError, match=match):
        export(ckpt, ckpt.parent / "out", method="TinyGAN")
    assert not (ckpt.parent / "out").exists()


def test_export_allocates_nothing_before_it_has_compared(
    lightning_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    export(lightning_file(), Path("fine"), method="TinyGAN")
    built = []
    real = zoo.exporting.build

    def watched(*arguments: Any, device: str = "cpu", **settings: Any) -> Any:
        built.append(device)
        return real(*arguments, device=device, **settings)

    monkeypatch.setattr(zoo.exporting, "build", watched)
    refuses_to_export(lightning_file(hyper_parameters={"width": 10**8}), "but the method with these hyperparameters")
    refuses_to_export(lightning_file(hyper_parameters={"depth": 10**6}), "more than .* tensors, where the file has")
    refuses_to_export(lightning_file(state_dict={"nothing": torch.zeros(1)}), "lacks")
    assert set(built) == {"meta"}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"state_dict": [1]}, "its state_dict must map"),
        ({"state_dict": {1: torch.zeros(1)}}, "its state_dict must map"),
        ({"state_dict": {"a": 1}}, "'a' in its state_dict is a int"),
        ({"hyper_parameters": "width"}, "its hyper_parameters must map"),
        ({"hyper_parameters": {3: 1}}, "its hyper_parameters must map"),
        ({"callbacks": []}, "its callbacks must map"),
        ({"callbacks": {"EMA": 3}}, "EMA callback holds no averages"),
        ({"callbacks": {"EMA": {"averages": {"nothing": torch.zeros(1)}}}}, "averages 'nothing', which is not in"),
        ({"callbacks": {"EMA": {"averages": {"generator.0.bias": 1}}}}, "in its averages is a int"),
        ({"callbacks": {"EMA": {"averages": {"generator.0.bias": torch.zeros(7)}}}}, r"'ema\.generator\.0\.bias' is"),
        ({"callbacks": {"TrainingRecord": {}}}, "its TrainingRecord is damaged"),
        ({"global_step": "many"}, "its global_step"),
        ({"data_spec": [1]}, "its data spec is wrong"),
        ({"data_spec": FIELDS | {"shape": [3, 8, 8]}}, "its data spec is wrong"),
    ],
)
def test_export_of_senseless_values(lightning_file: Callable[..., Path], changes: dict[str, Any], match: str) -> None:
    refuses_to_export(lightning_file(**changes), match)


# The folder


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_files(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    refuses(checkpoint, f"it has no file {name}")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_that_lead_out(checkpoint: Path, tmp_path: Path, name: str) -> None:
    (checkpoint / name).rename(tmp_path / "elsewhere")
    (checkpoint / name).symlink_to(tmp_path / "elsewhere")
    refuses(checkpoint, "leads out")


def test_a_pipe_is_not_read(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    os.mkfifo(checkpoint / "config.json")
    refuses(checkpoint, "no file config.json")


def test_statistics_that_lead_out(tmp_path: Path) -> None:
    judge = tmp_path / "judge"
    zoo.save(Classifier(shape=(1, 8, 8), width=2), judge)
    (judge / "statistics").mkdir()
    (judge / "statistics/x.safetensors").symlink_to(tmp_path / "elsewhere")
    refuses(judge, "leads out")
    (judge / "statistics/x.safetensors").unlink()
    (judge / "statistics").rmdir()
    (judge / "statistics").symlink_to(tmp_path)
    refuses(judge, "leads out")


@pytest.mark.parametrize(
    "name",
    ["../tiny", "..", "../../etc", "/etc", "/nonexistent/x", "a/../../b", "", ".", "tiny\x00", "hf://", "hf://../x",
     "hf:///etc", "hf://a/b/c", "hf://a/b@../x", "~"],
)  # fmt: skip
def test_names_that_are_paths(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(zoo.ZooError):
        zoo.load(name)
