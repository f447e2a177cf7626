"""What each split holds out of the real emoji: always the same, and of a combination every part is seen."""

from collections import Counter

import pytest

from datamodules.images.emoji_captions import DescribedEmoji
from datamodules.images.emoji_splits import digest, held_out
from tests.datamodules.real_emoji import real_emoji

STYLES = ("noto", "twemoji")
DIGESTS = {
    "random": "b4464b22a4f781f634b3932ccfc1d4f8a423a764bfa6b802e5c1c70718447389",
    "composition": "e9aeedeffbc1c0c3c4343ff17dcaee23a84bd6b2188a9c8fb2b77f047f085c6d",
    "style": "5b3cfe059ba8287bca5f0703a704095eb910d4a934bdd6362025f70a52f34c36",
}


@pytest.fixture(scope="module")
def emoji() -> list[DescribedEmoji]:
    return real_emoji()


@pytest.mark.parametrize("split", DIGESTS)
def test_a_split_never_changes(split: str, emoji: list[DescribedEmoji]) -> None:
    assert digest(held_out(emoji, STYLES, split)) == DIGESTS[split]
    assert held_out(emoji[::-1], STYLES, split) == held_out(emoji, STYLES, split)


def test_random_holds_out_a_tenth_in_every_style(emoji: list[DescribedEmoji]) -> None:
    held = held_out(emoji, STYLES, "random")
    assert Counter(style for _, style in held) == {"noto": 378, "twemoji": 378}
    assert len({image for image, _ in held}) == 378


def test_style_holds_out_a_tenth_in_one_style_each(emoji: list[DescribedEmoji]) -> None:
    held = held_out(emoji, STYLES, "style")
    assert Counter(style for _, style in held) == {"noto": 189, "twemoji": 189}
    assert len({image for image, _ in held}) == 378


@pytest.mark.parametrize("styles", [STYLES, ("twemoji",)])
def test_of_a_held_out_composition_every_part_is_seen_and_the_combination_never(
    styles: tuple[str, ...], emoji: list[DescribedEmoji]
) -> None:
    held = held_out(emoji, styles, "composition")
    assert len(held) >= 150
    images = {image for image, _ in held}
    assert held == {(image, style) for image in images for style in styles}
    unseen = [one for one in emoji if one.image in images]
    seen = [one for one in emoji if one.image not in images]
    combinations = {(one.person, one.role, one.tone) for one in seen}
    assert all((one.person, one.role, one.tone) not in combinations for one in unseen)
    for part in ("person", "role", "tone"):
        assert {getattr(one, part) for one in unseen} <= {getattr(one, part) for one in seen}
    assert {(one.person, one.tone) for one in unseen} <= {(one.person, one.tone) for one in seen}
    pairs = {(one.person, one.role) for one in unseen}
    whole = pairs - {(one.person, one.role) for one in seen}
    assert len(whole) == len({role for _, role in whole}) == 10
    forms = Counter((one.person, one.role) for one in unseen)
    assert {forms[pair] for pair in whole} == {6}
    assert {forms[pair] for pair in pairs - whole} == {1}
    assert all(one.tone for one in unseen if (one.person, one.role) not in whole)
    assert len(pairs - whole) == len({(one.person, one.role) for one in emoji if one.role and one.tone}) // 2
