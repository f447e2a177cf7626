"""Data specs: that of every datamodule survives JSON and hashes; contradictions are refused; text is read."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from datamodules import DATAMODULES, DataSpec, ZooDataModule
from datamodules.spec import BYTES, KINDS

IMAGES = DataSpec("some", "image", (1, 4, 4), value_range=(-1.0, 1.0), num_classes=2)
FULL = DataSpec(
    name="all",
    kind="points",
    shape=(2,),
    value_range=(-0.1, 0.3),
    num_classes=2,
    class_names=("a", "b"),
    class_counts=(3, 4),
    preprocessing="resized-8-dequantized",
    vocabulary=("x", "\n", "é", "🌲", "\x00"),
    modes=((0.1, 1 / 3), (1e-300, -2.0)),
    mode_scale=0.1 + 0.2,
    entropy_rate=0.1,
    scale=18.5,
    captions=("x é", "🌲"),
    caption_classes=(1, 0),
    attributes=(("tone", ("none", "dark")), ("style", ("noto",))),
)


def check_json(spec: DataSpec) -> None:
    """Checks that nothing is lost on the way through JSON values and through JSON text."""
    text = json.dumps(spec.to_json(), allow_nan=False)
    assert json.loads(text) == spec.to_json()  # lists and not tuples, strings as keys
    for again in (DataSpec.from_json(spec.to_json()), DataSpec.from_json(json.loads(text))):
        assert again == spec
        assert hash(again) == hash(spec)
        assert again.to_json() == spec.to_json()
        assert repr(again) == repr(spec)  # the types are equal, too: 1 == 1.0


def test_every_field_survives_json() -> None:
    defaults = DataSpec("plain", "points", (2,))
    assert all(
        value != defaults.to_json()[key] for key, value in FULL.to_json().items() if key not in ("kind", "shape")
    )
    check_json(FULL)
    check_json(defaults)


@pytest.mark.parametrize("name", sorted(DATAMODULES))
def test_the_spec_of_every_datamodule_survives_json(name: str, small_data: Callable[..., ZooDataModule]) -> None:
    data = small_data(name)
    before = data.spec
    check_json(before)
    data.setup("fit")
    check_json(data.spec)
    assert (data.spec.name, data.spec.shape, data.spec.kind) == (before.name, before.shape, before.kind)
    if data.spec.num_classes is not None:
        assert len(data.spec.class_counts) == data.spec.num_classes
        assert sum(data.spec.class_counts) == len(data.source("train"))


@pytest.mark.parametrize("name", ["TinyShakespeare", "JSBChorales", "Nottingham", "Strokes", "FashionMNIST"])
def test_the_spec_of_real_data_survives_json(name: str, on_disk: Callable[[ZooDataModule], None]) -> None:
    data = DATAMODULES[name]()
    on_disk(data)
    data.setup("fit")
    check_json(data.spec)


def test_specs_are_equal_and_hash_alike_if_all_fields_are_equal() -> None:
    assert len({IMAGES, replace(IMAGES), replace(IMAGES, name="other"), replace(IMAGES, class_counts=(1, 2))}) == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "picture"}, "kind='picture' .*image"),
        ({"shape": ()}, r"shape=\(\)"),
        ({"shape": (1, 0, 4)}, r"shape=\(1, 0, 4\)"),
        ({"value_range": (1.0, 1.0)}, r"value_range=\(1\.0, 1\.0\)"),
        ({"class_names": ("a",)}, "class_names .* 1 .*num_classes=2"),
        ({"class_counts": (1, 2, 3)}, "class_counts .* 3 .*num_classes=2"),
        ({"num_classes": None, "class_names": ("a",)}, "num_classes=None"),
        ({"entropy_rate": -0.1}, r"entropy_rate=-0\.1"),
        ({"entropy_rate": float("nan")}, "entropy_rate=nan"),
        ({"scale": 0.0}, r"scale=0\.0"),
        ({"scale": float("inf")}, "scale=inf"),
        ({"captions": ("a",)}, "captions need a vocabulary"),
        ({"captions": ("a",), "vocabulary": ("a",), "kind": "tokens"}, "captions need .* image or points"),
        ({"captions": ("a",), "vocabulary": ("a",), "caption_classes": (0, 1)}, "caption_classes .* 2 .* 1 captions"),
        ({"captions": ("a",), "vocabulary": ("a",), "caption_classes": (2,)}, "caption_classes .*num_classes=2"),
        ({"attributes": (("tone", ("a",)), ("tone", ("b",)))}, "attributes .*tone, tone"),
        ({"modes": ((0.0, 1.0),)}, r"modes .*\(0\.0, 1\.0\).*shape=\(1, 4, 4\)"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(IMAGES, **changed)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2], "list"),
        ({**IMAGES.to_json(), "colour": 1, "age": 2}, "age, colour"),
        ({"kind": "image"}, "name, shape"),
        ({**IMAGES.to_json(), "name": 3}, "name .* 3"),
        ({**IMAGES.to_json(), "shape": [1, 4.0, 4]}, r"shape .*4\.0"),
        ({**IMAGES.to_json(), "shape": [True, 4, 4]}, "shape .*True"),
        ({**IMAGES.to_json(), "shape": "144"}, "shape .*'144'"),
        ({**IMAGES.to_json(), "shape": [1, -4, 4]}, "shape .*-4"),
        ({**IMAGES.to_json(), "value_range": [0, 1, 2]}, r"value_range .*\[0, 1, 2\]"),
        ({**IMAGES.to_json(), "value_range": [0, float("inf")]}, "value_range .*inf"),
        ({**IMAGES.to_json(), "num_classes": "2"}, "num_classes .*'2'"),
        ({**IMAGES.to_json(), "class_names": [1, 2]}, r"class_names .*\[1, 2\]"),
        ({**IMAGES.to_json(), "class_names": "ab"}, "class_names .*'ab'"),
        ({**IMAGES.to_json(), "class_counts": [1, -2]}, "class_counts .*-2"),
        ({**IMAGES.to_json(), "vocabulary": {"a": 0}}, "vocabulary .*'a'"),
        ({**IMAGES.to_json(), "modes": [0.0, 1.0]}, "modes .*0\\.0"),
        ({**IMAGES.to_json(), "mode_scale": True}, "mode_scale .*True"),
        ({**IMAGES.to_json(), "captions": [["a"]]}, "captions .*'a'"),
        ({**IMAGES.to_json(), "caption_classes": [0.5]}, "caption_classes .*0\\.5"),
        ({**IMAGES.to_json(), "attributes": [["tone", "dark"]]}, "attributes .*'dark'"),
        ({**IMAGES.to_json(), "kind": "picture"}, "kind='picture'"),
    ],
)
def test_json_that_is_not_a_spec_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataSpec.from_json(values)


@pytest.mark.parametrize("kind", KINDS)
def test_specs_of_older_checkpoints_may_lack_later_fields(kind: str) -> None:
    """Only these three fields are required; the others have the value that means nothing is known."""
    assert DataSpec.from_json({"name": "n", "kind": kind, "shape": [3]}) == DataSpec("n", kind, (3,))


def test_what_was_done_to_the_data_is_read_off_the_preprocessing() -> None:
    forms = {"": (False, False), "resized-8": (False, False), "binarized": (True, False), "dequantized": (False, True)}
    for preprocessing, expected in forms.items():
        for spec in (
            replace(IMAGES, preprocessing=preprocessing),
            replace(IMAGES, preprocessing=f"resized-8-{preprocessing}"),
        ):
            assert (spec.is_binarized, spec.is_dequantized) == expected


def test_text_is_told_from_images_that_are_read_pixel_by_pixel() -> None:
    bits = DataSpec("bits", "tokens", (16,), vocabulary=("0", "1"), preprocessing="binarized")
    assert not bits.is_text
    assert replace(bits, shape=(15,)).is_text  # not a square
    assert replace(bits, preprocessing="").is_text  # a chain of two symbols
    assert replace(bits, vocabulary=("a", "b")).is_text
    assert not IMAGES.is_text
    assert not DataSpec("songs", "piano_roll", (24, 88)).is_text


def test_tokens_are_read_as_text() -> None:
    letters, octets = (DataSpec("t", "tokens", (4,), vocabulary=vocabulary) for vocabulary in (("a", "é"), BYTES))
    assert letters.text([1, 0, 1]) == "éaé"
    assert octets.text("é🌲".encode()) == "é🌲"
    assert octets.text([0xC3, 97]) == "\ufffda"  # half a character
    assert letters.text([]) == octets.text([]) == ""
    for wrong in (2, -1):
        with pytest.raises(ValueError, match=rf"{wrong} .*2"):
            letters.text([0, wrong])


EMOJI = DataSpec("emoji", "image", (3, 16, 16), vocabulary=("skin", "tone", "medium-dark", "woman", "running", "x-ray"))


def test_captions_are_read_as_words() -> None:
    assert EMOJI.is_captioned
    assert not IMAGES.is_captioned
    assert not DataSpec("text", "tokens", (4,), vocabulary=("a",)).is_captioned
    assert EMOJI.tokens("Woman running,  medium-dark skin tone.") == [4, 5, 3, 1, 2]
    assert EMOJI.tokens('"x-ray"!') == [6]


def test_words_that_are_not_known_are_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'women' \(did you mean 'woman'\?\), 'qqq'\.$"):
        EMOJI.tokens("women running qqq women")
    for empty in ("", " , "):
        with pytest.raises(ValueError, match="has no words"):
            EMOJI.tokens(empty)
    with pytest.raises(ValueError, match="some have no captions"):
        IMAGES.tokens("woman")
