"""The README of a checkpoint: its samples, code that runs, and how far its run had come."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from datamodules import decode
from lightning_modules import TeacherForcing
from lightning_modules.rendering.renderers import BETWEEN_TEXTS
from tests.zoo.running import fails
from tests.zoo.sequence_checkpoints import LETTERS, SPECS
from zoo.model_card import published_type, readme
from zoo.saving import update_metrics

FILES = {
    "text": {"samples.txt", "samples.png"},
    "bytes": {"samples.txt", "samples.png"},
    "pixels": {"samples.png"},
    "music": {"samples.mid", "samples.png"},
    "strokes": {"samples.svg", "samples.png"},
    "video": {"samples.gif", "samples.png"},
}


@pytest.mark.parametrize("kind", list(SPECS))
def test_a_checkpoint_has_an_image_and_the_file_of_its_kind(kind: str, saved: Path) -> None:
    found = {path.name for path in (saved / kind).glob("samples.*")}
    assert found == FILES[kind]
    text = (saved / kind / "README.md").read_text()
    for name in found:
        assert f"({name})" in text
    assert "```python" in text


def test_what_is_saved_is_what_the_loaded_module_samples(saved: Path) -> None:
    tokens = zoo.load(str(saved / "text"), TeacherForcing).sample(
        2, length=400, generator=torch.Generator().manual_seed(0)
    )
    texts = [decode(row, LETTERS) for row in tokens]
    content = (saved / "text/samples.txt").read_text()
    assert content == BETWEEN_TEXTS.join(texts) + "\n"
    assert texts[0].strip("\n") in (saved / "text/README.md").read_text()


def test_the_model_card_quotes_text_that_has_fences_of_its_own(saved: Path) -> None:
    card = zoo.card(saved / "text")
    text = readme(card, samples=["samples.txt"], quoted="a ```` b")
    assert "\n`````text\na ```` b\n`````\n" in text


@pytest.mark.parametrize("kind", list(SPECS))
def test_the_python_of_a_model_card_runs(kind: str, saved: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (saved / kind / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("path/to/this/folder", str(saved / kind)), names)
    assert ("prefix" in names) == (kind in ("text", "bytes"))
    if "prefix" not in names:
        length = 128 if kind == "music" else SPECS[kind].shape[0]
        assert names["samples"].shape[1] == names["continued"].shape[1] == length


def test_sequences_without_recorded_data_are_saved_without_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo.save(TeacherForcing(width=4), tmp_path / "plain")
    assert not [*(tmp_path / "plain").glob("samples.*")]
    assert "TeacherForcing" in fails(["sample", "plain"], capsys)


def test_measured_numbers_keep_the_quotation(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "bytes", tmp_path / "bytes"))
    before = (folder / "README.md").read_text()
    update_metrics(folder, {"test/nats_per_step-exact": 1.5})
    after = (folder / "README.md").read_text()
    assert "| test/nats_per_step-exact | 1.5 |" not in before
    assert "| test/nats_per_step-exact | 1.5 |" in after
    assert after.split("## Use")[0].split("# bytes")[1] == before.split("## Use")[0].split("# bytes")[1]


@pytest.mark.parametrize(
    ("batches", "planned", "expected"),
    [
        (1500, 20_000, "1,500 of 20,000 planned"),  # stopped early, or the best that validation found
        (20_000, 20_000, "20,000 of 20,000 planned"),
        (1500, None, "1,500"),  # a run without an end, or a card of a former version
        (None, None, None),
        (None, 20_000, None),
    ],
)
def test_the_chosen_and_the_planned_batch_are_stated(
    batches: int | None, planned: int | None, expected: str | None, saved: Path
) -> None:
    card = replace(zoo.card(saved / "ring"), batches=batches, planned_batches=planned, training={"examples": 96_000})
    lines = [line for line in readme(card).splitlines() if line.startswith("- Batches: ")]
    assert lines == ([] if expected is None else [f"- Batches: {expected} (96,000 examples)"])


def test_a_classifier_is_loaded_as_one(classified: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (classified / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("path/to/this/folder", str(classified)), names)
    assert type(names["module"]).__name__ == "Classifier"
    assert "load_classifier" in code


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("test/fid-fashion_mnist-10k", "fid_fashion_mnist_classifier"),
        ("val/fid-fashion_mnist_binarized-2500", "fid_fashion_mnist_classifier"),
        ("test/kid_std-my-own-pictures-1k", "kid_std_my-own-pictures_classifier"),
        ("test/fid_over_real-fashion_mnist-10k", "fid_over_real_fashion_mnist_classifier"),
        ("test/fid-efficientnet_lite0-10k", "fid_efficientnet_lite0"),
        ("test/fid_of_training_pictures-x-2k", "fid_of_training_pictures_x_classifier"),
        ("test/inception_score_of_real_pictures-x", "inception_score_of_real_pictures_x_classifier"),
        ("test/kid-emoji-10k-all", "kid_emoji_classifier"),
        ("test/fid-inception-10k", "fid"),
        ("test/inception_score-inception-50k", "inception_score"),
        ("test/nll-exact", "nll"),
        ("test/modes-2500", "modes"),
        ("test/accuracy", "accuracy"),
        ("test/precision", "precision"),
    ],
)
def test_metrics_are_published_as_inceptions_only_if_they_are(metric: str, expected: str) -> None:
    assert published_type(metric) == expected


def test_the_model_card_states_fid_over_that_of_real_images(saved: Path) -> None:
    card = zoo.card(saved / "ring")
    metrics = {"test/fid-x-10k": 5.0, "test/fid_over_real-x-10k": 123.456}
    text = readme(replace(card, metrics=metrics))
    assert "123 (x-10k)" in text
    assert "type: fid_x_classifier" in text
    assert "type: fid\n" not in text
    alone = readme(replace(card, metrics={"val/fid-x-250": 5.0}))
    assert "not known yet: `python -m zoo evaluate`" in alone
    for others in ({"test/modes-10": 8.0}, {"test/fid-inception-10k": 5.0}):
        assert "classifier of such images" not in readme(replace(card, metrics=others))
