"""Captions of emoji that training held out, each with a seen partner to compare it with, and its five skin tones."""

from collections import defaultdict
from collections.abc import Sequence

from datamodules.images.emoji_attributes import Attributes
from datamodules.images.emoji_captions import TONES


def seen_partners(unseen: Sequence[Attributes], seen: Sequence[Attributes]) -> list[int | None]:
    """Returns a seen image for each unseen one: of the same role and style, and in few other ways different.

    It is of the same person in another skin tone; where none was seen, of another person in the same tone; else of
    another person in another tone. Images without a skin tone have partners without. Of several, each unseen image in
    turn takes another, so that partners have all skin tones.

    Args:
        unseen: What the images that were held out show.
        seen: What the training images show.

    Returns:
        Indices into ``seen``; ``None`` where an image shows nobody in a role, or no such image was seen.
    """
    by_role: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
    for index, one in enumerate(seen):
        if one.role:
            by_role[one.role, one.style, bool(one.tone)].append(index)
    partners: list[int | None] = []
    for turn, one in enumerate(unseen):
        others = by_role.get((one.role, one.style, bool(one.tone)), [])
        same_person = [index for index in others if seen[index].person == one.person]
        same_tone = [index for index in others if seen[index].tone == one.tone]
        found = same_person or same_tone or others
        partners.append(found[turn % len(found)] if found else None)
    return partners


def tone_variants(shown: Sequence[Attributes], everything: Sequence[Attributes]) -> list[list[int]]:
    """Returns the images of the same person, role and style in each of the five skin tones, from light to dark.

    Args:
        shown: What each image shows.
        everything: What all real images show.

    Returns:
        Five indices into ``everything`` for each image; none where it has no skin tone, or not all five exist.
    """
    places = {(one.person, one.role, one.style, one.tone): index for index, one in enumerate(everything) if one.role}
    rows = [[places.get((one.person, one.role, one.style, tone)) for tone in TONES.values()] for one in shown]
    known = [[index for index in row if index is not None] for row in rows]
    return [row if one.tone and len(row) == len(TONES) else [] for one, row in zip(shown, known, strict=True)]
