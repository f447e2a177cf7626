"""What an image of an emoji shows, by the parts of its caption: as words, and as whole numbers for a classifier."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.images.emoji_captions import MAN, PERSON, TONES, WOMAN

NONE = "none"
"""The value of an attribute of images that do not have it."""
UNKNOWN = -1
"""The index of an attribute that has no single value: the skin tone of two people who differ in it."""


@dataclass(frozen=True)
class Attributes:
    """What an image shows, by the parts of its caption; a part that it does not have is empty.

    Attributes:
        image: Name of the emoji's file, the same in every style and different for each emoji and skin tone.
        caption: Its caption, with the style where there are several.
        tone: ``"light"``, ``"medium-light"``, ``"medium"``, ``"medium-dark"``, ``"dark"``, or two of them.
        category: One of the ten classes.
        person: ``"woman"``, ``"man"`` or ``"person"``.
        role: What that person is or does, ``"firefighter"``.
        style: Whose image it is, ``"noto"`` or ``"twemoji"``.
    """

    image: str
    caption: str
    tone: str
    category: str
    person: str
    role: str
    style: str


def attribute_values(shown: Sequence[Attributes]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Returns the names of ``tone``, ``person``, ``role`` and, of several, ``style``, with the values of each.

    Roles and styles are those of the images, sorted; the category is not among them, because it is the class.
    """
    roles, styles = (sorted({getattr(one, name) for one in shown} - {""}) for name in ("role", "style"))
    values = [
        ("tone", (NONE, *TONES.values())),
        ("person", (NONE, WOMAN, MAN, PERSON)),
        ("role", (NONE, *roles)),
        ("style", tuple(styles)),
    ]
    return tuple((name, known) for name, known in values if len(known) > 1)


def attribute_indices(shown: Sequence[Attributes], values: Sequence[tuple[str, Sequence[str]]]) -> Tensor:
    """Returns the index of each attribute of each image among its values, int64 (N, A); -1 for two skin tones."""
    places = [{value: index for index, value in enumerate(known)} for _, known in values]
    rows = [
        [place.get(getattr(one, name) or NONE, UNKNOWN) for (name, _), place in zip(values, places, strict=True)]
        for one in shown
    ]
    return torch.tensor(rows, dtype=torch.int64)
