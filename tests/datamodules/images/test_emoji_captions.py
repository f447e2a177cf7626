"""Captions of all 3 786 real emoji: no two are equal, and people are read off code points."""

import re
from collections import Counter

import pytest

from datamodules.images.emoji import CATEGORIES
from datamodules.images.emoji_captions import DescribedEmoji, code_points, read_emoji
from datamodules.spec import words_of
from tests.datamodules.real_emoji import real_emoji
from tests.datamodules.small_emoji import small_table


@pytest.fixture(scope="module")
def emoji() -> list[DescribedEmoji]:
    return real_emoji()


def test_no_two_emoji_have_one_caption_even_as_words(emoji: list[DescribedEmoji]) -> None:
    assert len(emoji) == len({one.image for one in emoji}) == 3786
    assert len({tuple(words_of(one.caption)) for one in emoji}) == 3786


def test_every_part_is_in_the_caption(emoji: list[DescribedEmoji]) -> None:
    assert {one.category for one in emoji} == set(CATEGORIES)
    for one in emoji:
        words = words_of(one.caption)
        assert set(one.tone.replace(",", "").split()) <= set(words)
        assert set(words_of(one.role)) <= set(words)
        assert one.person in (*words, "") or {"women", "men", "people"} & set(words)


def test_men_women_and_people_of_a_role_are_equally_many(emoji: list[DescribedEmoji]) -> None:
    forms = Counter((one.person, one.role) for one in emoji if one.role)
    roles = {role for _, role in forms}
    assert len(roles) == 81
    for role in roles:
        assert forms["man", role] == forms["woman", role] == forms["person", role] in (1, 6)


CAPTIONS = {
    "1F469-1F3FE-200D-1F692": ("woman firefighter, medium-dark skin tone", "medium-dark", "woman", "firefighter"),
    "1F9D1-200D-1F692": ("person firefighter", "", "person", "firefighter"),
    "1F935-200D-2642-FE0F": ("man in tuxedo", "", "man", "in tuxedo"),
    "1F935": ("person in tuxedo", "", "person", "in tuxedo"),  # whose name is MAN IN TUXEDO, too
    "1F468-1F3FB-200D-1F9B0": ("man with red hair, light skin tone", "light", "man", "with red hair"),
    "1F9CF-200D-2640-FE0F": ("deaf woman", "", "woman", "deaf"),
    "1F9DC-200D-2640-FE0F": ("woman merperson", "", "woman", "merperson"),
    "1F46F": ("people with bunny ears", "", "person", "with bunny ears"),
    "1F3C3-1F3FF-200D-2642-FE0F-200D-27A1-FE0F": (
        "man running facing right, dark skin tone",
        "dark",
        "man",
        "running facing right",
    ),
    "1F469": ("woman", "", "woman", ""),
    "1F469-1F3FB-200D-2764-FE0F-200D-1F468-1F3FF": (
        "couple with heart, woman with light skin tone and man with dark skin tone",
        "light, dark",
        "",
        "",
    ),
    "1F468-1F3FF-200D-1F9BD": (
        "man in manual wheelchair, dark skin tone",
        "dark",
        "man",
        "in manual wheelchair",
    ),
    "1F46C-1F3FD": (
        "holding hands, man with medium skin tone and man with medium skin tone",
        "medium",
        "",
        "",
    ),
    "1F1F0-1F1EA": ("flag of Kenya", "", "", ""),
    "2640-FE0F": ("female sign, gender", "", "", ""),
    "1F3FD": ("skin tone swatch, medium skin tone", "medium", "", ""),
    "1F34E": ("red apple, food fruit", "", "", ""),
    "1F468-200D-1F466": ("family: man, boy", "", "", ""),
}


@pytest.mark.parametrize("codes", CAPTIONS)
def test_captions_say_what_code_points_mean(codes: str, emoji: list[DescribedEmoji]) -> None:
    (one,) = [one for one in emoji if one.codes == code_points(codes)]
    assert (one.caption, one.tone, one.person, one.role) == CAPTIONS[codes]


def test_no_caption_says_with_before_another_such_word(emoji: list[DescribedEmoji]) -> None:
    assert [one.caption for one in emoji if re.search(r"\bwith (in|on|at|with)\b", one.caption)] == []


def test_a_small_table_needs_no_file() -> None:
    captions = [one.caption for one in read_emoji(small_table())]
    assert len(captions) == 40
    assert captions[:2] == ["man firefighter", "man firefighter, light skin tone"]
    assert captions[-4:] == [
        "red apple, food fruit",
        "green apple, food fruit",
        "flag of Kenya",
        "skin tone swatch, light skin tone",
    ]
