"""Text of a stranger's checkpoint in terminals, errors and model cards; numbers and weights that are none."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import zoo
import zoo.hub
import zoo.paths
from tests.zoo.damage import edit_config, edit_tensors, refuses
from tests.zoo.running import fails
from zoo.__main__ import main
from zoo.escaping import code_span, markdown, paragraphs, printable
from zoo.model_card import readme
from zoo.saving import update_metrics

EVIL = "a\x1b[2Jb\x07\x9bc\u202ed\u200be\r\nf\x00"
HTML = "<script>alert(1)</script> [click](javascript:x) ![](http://x/y.png) `code` | a * b"


def edit_everything(folder: Path, text: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit_config(
        folder,
        name=text,
        recipe=text,
        overrides=[text],
        notes=text,
        data_spec=config["data_spec"] | {"name": text},
        networks={text: 3},
        metrics={text: 1.5},
        training={text: 2},
        batches=1,
        curve=[{text: 1.0}],
        versions={text: text},
        datamodule={"class": text, "arguments": {text: text}, "digest": None},
    )


@pytest.mark.parametrize("command", ["show", "list", "evaluate", "draw"])
def test_commands_print_no_control_characters(
    command: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_everything(checkpoint, EVIL)
    for module in (zoo.paths, zoo.hub):
        monkeypatch.setattr(module, "checkpoints_dir", lambda: checkpoint.parent)
    main([command, *({"list": [], "draw": [str(checkpoint), "energy"]}.get(command, [str(checkpoint)]))])
    shown = "".join(capsys.readouterr())
    assert shown.replace("\n", "").isprintable()
    assert r"\x1b[2J" in shown
    assert r"\u202e" in shown


@pytest.mark.parametrize("key", ["method", "sha256", "versions", "name"])
def test_errors_hold_no_control_characters(key: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_config(checkpoint, **{key: EVIL})
    if key == "name":
        edit_config(checkpoint, data_spec={"name": EVIL, "kind": EVIL, "shape": [1]})
    message = refuses(checkpoint, r"config|TinyGAN|method|tiny")
    assert message.isprintable()
    assert fails(["sample", str(checkpoint)], capsys).strip().isprintable()


def test_an_error_lists_tensors_without_control_characters(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: tensors.update({EVIL: torch.zeros(1)}))
    assert refuses(checkpoint, r"x1b").isprintable()


def test_a_written_model_card_has_no_control_characters_and_no_markup(checkpoint: Path) -> None:
    for text in (EVIL, HTML):
        edit_everything(checkpoint, text)
        update_metrics(checkpoint, {"test/x": 1.0})
        written = (checkpoint / "README.md").read_text()
        assert written.replace("\n", "").isprintable()
        _, front, body = written.split("---\n", 2)
        values = yaml.safe_load(front)
        assert set(values) <= {"license", "library_name", "tags", "datasets", "pipeline_tag", "model-index"}
        assert values["license"] == "apache-2.0"
        prose = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", body.replace(r"\`", ""), flags=re.DOTALL)
        assert "<script" not in prose
        assert not re.search(r"(?<!\\)\[", prose.replace("![samples](samples.png)", ""))
    assert "&lt;script&gt;" in written


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("wgan_gp.fashion_mnist", "wgan_gp.fashion_mnist"),
        ("<b>", "&lt;b&gt;"),
        ("[a](b)", r"\[a\](b)"),
        ("a | b", r"a \| b"),
        ("a\nb", r"a\\nb"),
        ("C:\\x", r"C:\\x"),
    ],
)
def test_a_line_of_markdown(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_paragraphs_of_markdown_begin_no_blocks() -> None:
    text = "# a\n---\n1. b\n> c\n\n    code\n```\nd. 0.07 nats, -0.1.\n"
    lines = paragraphs(text).splitlines()
    assert lines == [r"\# a", r"\---", r"1\. b", "&gt; c", "", "code", r"\`\`\`", "d. 0.07 nats, -0.1."]


@pytest.mark.parametrize("text", ["plain", "a`b", "``", "`a", "a``b`c"])
def test_a_code_span_is_not_left(text: str) -> None:
    span = code_span(text)
    fence = re.match("`+", span)
    assert fence is not None
    inner = span[len(fence[0]) : -len(fence[0])]
    assert inner.strip(" ") == text
    assert fence[0] not in inner


def test_printable_keeps_what_can_be_read() -> None:
    for text in ("Ärger, 漢字, 🌲", "", "a b"):
        assert printable(text) == text
    assert printable("a\tb\nc", keep="\n") == "a\\tb\nc"
    assert printable("\ud800") == r"\ud800"


def write_config(folder: Path, key: str, text: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    rest = {name: value for name, value in config.items() if name != key}
    (folder / "config.json").write_text(json.dumps(rest)[:-1] + f', "{key}": {text}}}')


@pytest.mark.parametrize(
    ("key", "text", "name"),
    [
        ("metrics", f'{{"fid": 1{"0" * 400}}}', r"metrics\.fid"),
        ("metrics", f'{{"fid": -1{"0" * 350}}}', r"metrics\.fid"),
        ("metrics", f'{{"fid": 1{"0" * 9000}}}', r"metrics\.fid"),
        ("metrics", '{"fid": 1e400}', r"metrics\.fid"),
        ("batches", "9" * 310, "batches"),
        ("networks", f'{{"a": 1{"0" * 309}}}', r"networks\.a"),
        ("hyperparameters", f'{{"width": [1, {"9" * 5000}]}}', r"hyperparameters\.width\[1\]"),
        ("data_spec", f'{{"name": "x", "entropy_rate": {"9" * 400}}}', r"data_spec\.entropy_rate"),
        ("name", r'"\ud800"', "name"),
        ("notes", r'"a\udc00b"', "notes"),
        ("versions", r'{"torch": "\udfff"}', r"versions\.torch"),
        ("overrides", r'["a", "\ud800"]', r"overrides\[1\]"),
        ("metrics", r'{"\ud800": 1}', r"metrics"),
        ("curve", r'[{"\ud800": 1}]', r"curve\[0\]"),
        ("future", r'{"a": "\ud800"}', r"future\.a"),
    ],
)
def test_numbers_and_text_that_are_none_are_refused_by_name(checkpoint: Path, key: str, text: str, name: str) -> None:
    write_config(checkpoint, key, text)
    assert refuses(checkpoint, name).isprintable()


def test_pairs_of_surrogates_are_text(checkpoint: Path) -> None:
    write_config(checkpoint, "notes", r'"\ud83c\udf32"')
    assert zoo.card(checkpoint).notes == "🌲"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["generator.0.bias", "generator.2.running_var"])
def test_weights_that_are_not_finite_are_said_at_load(checkpoint: Path, key: str, value: float) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[key][0] = value

    edit_tensors(checkpoint, spoil)
    with pytest.warns(UserWarning, match=rf"tiny.*{key}"):
        zoo.load(str(checkpoint))


@pytest.mark.filterwarnings("error")
def test_of_finite_weights_nothing_is_said(checkpoint: Path) -> None:
    zoo.load(str(checkpoint))


def test_the_cards_of_the_zoo_are_as_they_were() -> None:
    """What a card of ours says holds no markup, so that its text stays what its author wrote."""
    for name in zoo.names():
        card: Any = zoo.card(name)
        assert card.notes in readme(card)
        assert f"# {name}\n" in readme(replace(card, notes=""))
