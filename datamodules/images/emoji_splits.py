"""Which emoji are held out of training, by the name of a split; the choice depends on nothing but code points.

random       a tenth of all emoji, in every style.
composition  one skin tone of half of the pairs of person and role, and all skin tones of ten other pairs, in every
             style. The person, the role and the skin tone of what is held out are all seen in training, the
             combination never.
style        a tenth of all emoji in one style each, so that they are seen in another.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from datamodules.images.emoji_captions import DescribedEmoji

WHOLE_PAIRS = 10
"""Pairs of person and role that are held out in all skin tones."""

Held = frozenset[tuple[str, str]]
"""Files that are held out, each with its style."""


def held_out(emoji: Sequence[DescribedEmoji], styles: Sequence[str], split: str) -> Held:
    """Returns what a split holds out of training.

    Args:
        emoji: All emoji.
        styles: Names of the styles.
        split: One of ``SPLITS``.

    Returns:
        Pairs of the file of an emoji and a style.

    Raises:
        ValueError: If there is no split of that name, or "style" is asked for with one style.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not one of {', '.join(SPLITS)}.")
    if split == "style" and len(styles) < 2:
        raise ValueError(f"split='style' holds out one of several styles, but styles={list(styles)}: give two.")
    return SPLITS[split](emoji, styles)


def digest(held: Held) -> str:
    """Returns the sha256 of what is held out, hexadecimal."""
    return hashlib.sha256("\n".join(sorted(f"{style}/{image}" for image, style in held)).encode()).hexdigest()


def _random(emoji: Sequence[DescribedEmoji], styles: Sequence[str]) -> Held:
    chosen = _shuffled([one.image for one in emoji], "random")[: len(emoji) // 10]
    return frozenset((image, style) for image in chosen for style in styles)


def _composition(emoji: Sequence[DescribedEmoji], styles: Sequence[str]) -> Held:
    forms: dict[tuple[str, str], list[DescribedEmoji]] = defaultdict(list)
    for one in emoji:
        if one.role:
            forms[one.person, one.role].append(one)
    first = {pair: min(one.image for one in found) for pair, found in forms.items() if any(one.tone for one in found)}
    pairs = sorted(first, key=lambda pair: _digest("composition", first[pair]))  # whatever the words of a role are
    whole: list[tuple[str, str]] = []
    roles: set[str] = set()
    for pair in pairs:  # of ten roles, so that each is seen with another person
        if len(whole) < WHOLE_PAIRS and pair[1] not in roles:
            whole.append(pair)
            roles.add(pair[1])
    one_tone = [pair for pair in pairs if pair not in whole][: len(pairs) // 2]
    chosen = [one.image for pair in whole for one in forms[pair]]
    for pair in one_tone:
        chosen.append(_shuffled([one.image for one in forms[pair] if one.tone], "tone")[0])
    return frozenset((image, style) for image in chosen for style in styles)


def _style(emoji: Sequence[DescribedEmoji], styles: Sequence[str]) -> Held:
    chosen = _shuffled([one.image for one in emoji], "style")[: len(emoji) // 10]
    return frozenset((image, styles[i % len(styles)]) for i, image in enumerate(chosen))


SPLITS = {"random": _random, "composition": _composition, "style": _style}


def _shuffled(items: Iterable[str], purpose: str) -> list[str]:
    """Returns items in an order that depends on them and on the purpose alone."""
    return sorted(items, key=lambda item: _digest(purpose, item))


def _digest(purpose: str, item: str) -> bytes:
    return hashlib.sha256(f"{purpose} {item}".encode()).digest()
