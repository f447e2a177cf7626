"""The licence of a checkpoint follows its data, and the artists of emoji are named in its card."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import zoo
from datamodules import Emoji
from lightning_modules import METHODS
from tests.datamodules.small_data import image_folder
from zoo.__main__ import main
from zoo.cards import Card
from zoo.licences import ARTISTS, licence_of
from zoo.model_card import readme

SPEC = {"name": "emoji", "kind": "image", "shape": [3, 16, 16]}
SHEEP, NOTO, TWEMOJI = (text for _, text in ARTISTS.values())
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("record", "licence", "named"),
    [
        (
            {"class": "Emoji", "arguments": {"styles": ["noto", "twemoji"]}, "digest": None},
            "cc-by-4.0",
            [NOTO, TWEMOJI],
        ),
        ({"class": "Emoji", "arguments": {"styles": ["twemoji"]}, "digest": None}, "cc-by-4.0", [TWEMOJI]),
        ({"class": "Emoji", "arguments": {"styles": ["noto"]}, "digest": None}, "apache-2.0", [NOTO]),
        (None, "cc-by-4.0", [NOTO, TWEMOJI]),
    ],
)
def test_cards_of_emoji_name_the_artists(record: dict[str, Any] | None, licence: str, named: list[str]) -> None:
    text = readme(Card("some", Path("some"), "VAE", {}, "", SPEC, datamodule=record))
    assert yaml.safe_load(text.split("---")[1])["license"] == licence
    assert [artist for artist in (NOTO, TWEMOJI) if artist in text] == named


@pytest.mark.parametrize(
    ("form", "named"),
    [("noto-resized-16-random", [NOTO]), ("noto-twemoji-resized-16-random", [NOTO, TWEMOJI]), ("resized-16", [])],
)
def test_a_card_without_a_record_of_its_data_has_the_styles_of_their_form(form: str, named: list[str]) -> None:
    card = Card("some", Path("some"), "VAE", {}, "", SPEC | {"preprocessing": form})
    assert licence_of(card)[1] == tuple(named)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("dataset", ["omniglot", "aaron_sheep", "omniglot_and_aaron_sheep"])
def test_models_of_sheep_are_not_for_commercial_use(dataset: str, recorded: bool) -> None:
    spec = {"name": f"{dataset}_strokes", "kind": "strokes", "shape": [250, 3]}
    record = {"class": "Strokes", "arguments": {"dataset": dataset}, "digest": None} if recorded else None
    card = Card("some", Path("some"), "MixtureDensityRNN", {}, "", spec, datamodule=record)
    assert licence_of(card) == (("cc-by-nc-4.0", (SHEEP,)) if "sheep" in dataset else ("apache-2.0", ()))


def test_a_folder_of_the_users_own_has_no_artists() -> None:
    record = {"class": "ImageFolder", "arguments": {}, "digest": None}
    assert licence_of(Card("some", Path("some"), "VAE", {}, "", SPEC, datamodule=record)) == ("apache-2.0", ())


def test_what_is_fine_tuned_from_emoji_names_their_artists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))
    image_folder(tmp_path / "pets")
    module = METHODS["Gaussian"].for_data(Emoji(image_size=16, styles=["twemoji"]).spec)
    zoo.save(module, "start", samples=False)
    for start, out in (("./start", "once"), ("./once", "twice")):
        arguments = ["--data", "pets", "--steps", "1", "--batch-size", "4", "--out", out]
        assert main(["fine-tune", start, *arguments]) == 0
        assert (zoo.card(out).data, zoo.card(out).artists) == ("pets", ("twemoji",))
        text = Path(out, "README.md").read_text()
        assert yaml.safe_load(text.split("---")[1])["license"] == "cc-by-4.0"
        assert TWEMOJI in text
        assert NOTO not in text


def test_other_cards_have_the_licence_of_the_library() -> None:
    text = readme(Card("some", Path("some"), "VAE", {}, "", SPEC | {"name": "fashion_mnist"}))
    assert yaml.safe_load(text.split("---")[1])["license"] == "apache-2.0"
    assert "Twemoji" not in text


def test_the_notice_names_both_artists() -> None:
    notice = (ROOT / "NOTICE").read_text()
    assert all(artist in notice for artist in (NOTO, TWEMOJI))
