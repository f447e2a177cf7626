"""Captions of emoji in plain words, and what they say: who, in what role, of which skin tone.

People are read off code points, because names mislead: "MAN IN TUXEDO" names two emoji. Unicode writes a person either
as one of three people joined with an object (woman, joiner, fire engine: a firefighter), or as an activity joined with
a sign (runner, joiner, female sign); without the sign, the person is of no stated gender. Skin tones are code points
of their own. A role gets its words from the name of the emoji that shows a woman or a man in it.

    woman firefighter, medium-dark skin tone
    couple with heart, woman with light skin tone and man with dark skin tone
    red apple, food fruit
    flag of Kenya
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAN, WOMAN, PERSON = "man", "woman", "person"
PEOPLE = {0x1F468: MAN, 0x1F469: WOMAN, 0x1F9D1: PERSON}
SIGNS = {0x2642: MAN, 0x2640: WOMAN}
COUPLES = {
    0x1F46B: (WOMAN, MAN),
    0x1F46C: (MAN, MAN),
    0x1F46D: (WOMAN, WOMAN),
    0x1F48F: (PERSON, PERSON),
    0x1F491: (PERSON, PERSON),
}
"""Couples with a code point of their own, who have one skin tone."""
TONES = {0x1F3FB: "light", 0x1F3FC: "medium-light", 0x1F3FD: "medium", 0x1F3FE: "medium-dark", 0x1F3FF: "dark"}
JOINER, EMOJI_FORM = 0x200D, 0xFE0F
BEFORE_THE_PERSON = ("bald", "deaf")
"""Roles that are adjectives."""
WORN = ("hair", "beard")
"""Last words of roles that a person is shown with."""
GROUPS = {0x1F46F: "with bunny ears", 0x1F93C: "wrestling"}
"""Activities of two people of one kind."""
PLURALS = {MAN: "men", WOMAN: "women", PERSON: "people"}

Codes = tuple[int, ...]


@dataclass(frozen=True)
class DescribedEmoji:
    """One emoji, of one skin tone, as its caption describes it; the caption says no style.

    Attributes:
        codes: Its code points.
        image: Name of its file, the same in every style.
        name: Its name in the table.
        caption: What it shows, in plain words.
        category: One of the ten categories of the table, ``"People & Body"``.
        tone: ``"light"``, ..., ``"dark"``; of a couple both, ``"light, dark"``; empty where none is chosen.
        person: ``"woman"``, ``"man"`` or ``"person"`` of an emoji that shows one person in a role; otherwise empty.
        role: Words of what that person is or does, ``"firefighter"``; otherwise empty.
    """

    codes: Codes
    image: str
    name: str
    caption: str
    category: str
    tone: str
    person: str
    role: str


def read_emoji(table: list[dict[str, Any]]) -> list[DescribedEmoji]:
    """Returns every emoji of a table in all its skin tones, in order.

    Args:
        table: The entries of ``emoji.json``.

    Raises:
        ValueError: If two emoji would have one caption.
    """
    roles = dict(_roles(table))
    found = []
    for entry in table:
        for form in (entry, *entry.get("skin_variations", {}).values()):
            found.append(_described(entry, code_points(form["unified"]), form["image"], roles))
    captions: dict[str, str] = {}
    for emoji in found:
        if (other := captions.setdefault(emoji.caption, emoji.image)) != emoji.image:
            raise ValueError(f"{other} and {emoji.image} would have one caption, {emoji.caption!r}.")
    return found


def code_points(text: str) -> Codes:
    """Returns the code points of ``"1F469-200D-1F692"``."""
    return tuple(int(code, 16) for code in text.split("-"))


def _described(entry: Mapping[str, Any], codes: Codes, image: str, roles: Mapping[Codes, str]) -> DescribedEmoji:
    tones = tuple(TONES[code] for code in codes if code in TONES)
    person, key = _person_and_role(codes)
    role = roles.get(key, "")
    if not role and (key or codes[0] not in PEOPLE):
        person = ""
    caption = _what(entry, codes, person, role)
    if not _couple(codes) and tones:
        caption += f", {' and '.join(tones)} skin tone"
    text = str(entry["name"])
    return DescribedEmoji(codes, image, text, caption, entry["category"], ", ".join(tones), person, role)


def _what(entry: Mapping[str, Any], codes: Codes, person: str, role: str) -> str:
    """Returns the caption without the skin tone of one person."""
    name = str(entry["name"])
    if codes[0] in TONES:
        return "skin tone swatch"
    if couple := _couple(codes):
        does = "holding hands" if "HOLDING" in name else name.lower().partition(":")[0]
        return f"{does}, {' and '.join(couple)}"
    if codes[0] in GROUPS:
        return f"{PLURALS[person]} {GROUPS[codes[0]]}"
    if person:
        return f"{role} {person}" if role in BEFORE_THE_PERSON else f"{person} {role}".strip()
    if name.endswith(" Flag"):
        return f"flag of {name.removesuffix(' Flag')}"
    if name.startswith("FAMILY:"):
        return name.lower()
    return f"{name.lower()}, {entry['subcategory'].replace('-', ' ')}"


def _couple(codes: Codes) -> tuple[str, ...]:
    """Returns both people of a couple with their skin tones, or nothing."""
    tones = [TONES[code] for code in codes if code in TONES]
    joined = {0x2764, 0x1F91D} & set(codes)  # by a heart, or by hands
    known = COUPLES.get(codes[0]) or tuple(PEOPLE[code] for code in codes if code in PEOPLE and joined)
    if len(known) != 2:
        return ()
    both = (tones * 2)[:2]
    return tuple(f"{who} with {tone} skin tone" for who, tone in zip(known, both, strict=True)) if both else known


def _person_and_role(codes: Codes) -> tuple[str, Codes]:
    """Returns who is shown, and code points that are the same for the women, men and people of one role.

    Both are empty where no single person is shown. The key of a person without a role is empty, too.
    """
    plain = tuple(code for code in codes if code not in TONES and code != EMOJI_FORM)
    first, rest = (plain or codes)[0], plain[1:]
    if first in PEOPLE:
        others = {*PEOPLE, *range(0x1F466, 0x1F46A), 0x1F9D2} & set(rest)  # of couples and families
        return ("", ()) if others else (PEOPLE[first], rest)
    signs = [SIGNS[code] for code in rest if code in SIGNS]
    key = tuple(code for code in plain if code not in SIGNS and code != JOINER)
    return (signs[0] if signs else PERSON), key


def _roles(table: list[dict[str, Any]]) -> Iterator[tuple[Codes, str]]:
    """Yields the words of each role that is shown by a woman or a man, and for a person without one no words."""
    for entry in table:
        codes = code_points(entry["unified"])
        person, key = _person_and_role(codes)
        if entry["category"] != "People & Body" or person not in (MAN, WOMAN) or not key:
            continue
        name = entry["name"].lower().replace(":", "")
        words = re.sub(rf"\b({person}|{PLURALS[person]})\b", "", name)
        if words == name:  # mermaid, merman
            words = _name_of(table, key)
        words = " ".join(words.split())
        yield key, f"with {words}" if words.rpartition(" ")[2] in WORN else words


def _name_of(table: list[dict[str, Any]], key: Codes) -> str:
    names = [str(entry["name"]) for entry in table if code_points(entry["unified"]) == key]
    return names[0].lower() if names else ""
