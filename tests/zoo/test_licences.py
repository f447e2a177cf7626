"""The licence of a checkpoint follows its data, and the artists of emoji are named in its card."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.cards import Card
from zoo.licences import ARTISTS
from zoo.model_card import readme

SPEC = {"name": "emoji", "kind": "image", "shape": [3, 16, 16]}
NOTO, TWEMOJI = (text for _, text in ARTISTS.values())
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


def test_other_cards_have_the_licence_of_the_library() -> None:
    text = readme(Card("some", Path("some"), "VAE", {}, "", SPEC | {"name": "fashion_mnist"}))
    assert yaml.safe_load(text.split("---")[1])["license"] == "apache-2.0"
    assert "Twemoji" not in text


def test_the_notice_names_both_artists() -> None:
    notice = (ROOT / "NOTICE").read_text()
    assert all(artist in notice for artist in (NOTO, TWEMOJI))
