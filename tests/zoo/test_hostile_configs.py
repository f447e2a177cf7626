"""Configs that are damaged, of wrong types or of other data: one clear error each."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import zoo
from datamodules import DataSpec
from tests.zoo.damage import edit_config, edit_hyperparameters, refuses
from tests.zoo.tiny import TinyGAN


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
    refuses(checkpoint, r"config\.json")
    with pytest.raises(zoo.ZooError, match=r"config\.json"):
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
        ("format_version", "3"),
        ("format_version", "0"),
        ("format_version", "1.0"),
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
        ("artists", '"noto"'),
        ("artists", "[1]"),
        ("batches", '"many"'),
        ("planned_batches", '"many"'),
        ("planned_batches", "true"),
        ("name", "3"),
    ],
)
def test_config_of_wrong_types(checkpoint: Path, key: str, text: str) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    rest = {name: value for name, value in config.items() if name != key}
    (checkpoint / "config.json").write_text(json.dumps(rest)[:-1] + f', "{key}": {text}}}')
    refuses(checkpoint, r"config\.json")


@pytest.mark.parametrize("number", ["-1", "1" + "0" * 308, "0.5", "-0.5", "1e300"])
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("batches", "{}"),
        ("planned_batches", "{}"),
        ("networks.a", '{{"a": {}}}'),
        ("training.minutes", '{{"minutes": {}}}'),
        ("training.examples", '{{"examples": {}}}'),
        ("curve[1].batches", '[{{"batches": 3}}, {{"batches": {}}}]'),
    ],
)
def test_counts_that_are_none(checkpoint: Path, name: str, form: str, number: str) -> None:
    key = name.partition(".")[0].partition("[")[0]
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {key: json.loads(form.format(number))}))
    if name.startswith("training") and number == "0.5":
        zoo.load(str(checkpoint))
        return
    refuses(checkpoint, message := rf"config\.json: '{re.escape(name)}' is ")
    with pytest.raises(zoo.ZooError, match=message):
        zoo.card(checkpoint)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    "facts", [{"training": {"minutes": -1}}, {"training": {"minutes": 2**70}}, {"curve": [{"batches": -1}]}]
)
def test_counts_that_are_none_are_not_saved(tmp_path: Path, facts: dict[str, Any]) -> None:
    with pytest.raises(zoo.ZooError, match="(minutes|batches)' is .*: it must be a"):
        zoo.save(TinyGAN(), tmp_path / "saved", **facts)
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    "field", [{"class_counts": [2**70, 1]}, {"shape": [1, 2**70, 8]}, {"mode_scale": -1.0}, {"mode_scale": 10**400}]
)
def test_numbers_of_a_data_spec_that_are_none(checkpoint: Path, field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        DataSpec.from_json(FIELDS | {"num_classes": 2} | field)


def test_deep_nesting_that_json_can_read(checkpoint: Path) -> None:
    nested: list[Any] = []
    for _ in range(30):
        nested = [nested]
    edit_hyperparameters(checkpoint, latent_dim=nested)
    refuses(checkpoint, r"latent_dim.*\b16\b")


def test_wrong_data_spec(checkpoint: Path) -> None:
    edit_config(checkpoint, data_spec={"name": "x", "kind": "image", "shape": ["a"]})
    refuses(checkpoint, "shape")
    edit_config(checkpoint, data_spec={"name": "x", "kind": "image", "shape": [1], "code": "x"})
    refuses(checkpoint, r"\bcode\b")


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
    refuses(checkpoint, field)


def test_data_specs_of_other_data_than_the_method_was_built_for(checkpoint: Path) -> None:
    edit_config(checkpoint, data_spec=FIELDS)
    zoo.load(str(checkpoint))
    edit_config(checkpoint, data_spec=FIELDS | {"shape": [3, 8, 8]})
    refuses(checkpoint, r"TinyGAN.*shape=\[1, 8, 8\].*\[3, 8, 8\]")
    edit_config(checkpoint, data_spec=FIELDS | {"kind": "tokens"})
    refuses(checkpoint, "TinyGAN.*tokens")
