"""Attributes of emoji as numbers, the seen partners of held-out captions, and the five skin tones of an image."""

from collections.abc import Callable
from typing import Any

import torch

from datamodules import Emoji, ZooDataModule
from datamodules.images.emoji_attributes import Attributes, attribute_indices, attribute_values
from datamodules.images.emoji_counterfactuals import seen_partners, tone_variants
from datamodules.images.emoji_splits import SPLITS
from tests.datamodules.loaders import loader_of

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")


def shown(person: str, role: str, tone: str, style: str = "noto") -> Attributes:
    return Attributes(
        image=f"{person}-{role}-{tone}.png",
        caption=f"{person} {role}, {tone} skin tone, {style}",
        tone=tone,
        category="People & Body",
        person=person,
        role=role,
        style=style,
    )


def test_batches_have_attributes_where_they_are_asked_for(small_data: Callable[..., ZooDataModule]) -> None:
    data = small_data("Emoji", val_size=8, batch_size=4, with_attributes=True)
    assert isinstance(data, Emoji)
    assert data.spec.attributes == ()
    data.setup()
    names = dict(data.spec.attributes)
    assert names == {
        "tone": ("none", *TONES),
        "person": ("none", "woman", "man", "person"),
        "role": ("none", "artist", "firefighter"),
        "style": ("noto", "twemoji"),
    }
    for split in ("val", "test"):
        found = torch.cat([batch.attributes for batch in loader_of(data, split)])  # type: ignore[misc]
        for row, one in zip(found.tolist(), data.attributes(split), strict=True):
            values = [names[name][index] for name, index in zip(names, row, strict=True)]
            assert values == [one.tone or "none", one.person or "none", one.role or "none", one.style]
    assert len(data.images("all")[0]) == sum(len(data.attributes(split)) for split in ("train", "val", "test"))


def test_two_skin_tones_are_no_value_and_one_style_is_no_attribute() -> None:
    couple = Attributes("a.png", "couple", "light, dark", "People & Body", "", "", "noto")
    images = [couple, shown("man", "cook", "dark")]
    values = attribute_values(images)
    assert [name for name, _ in values] == ["tone", "person", "role"]
    assert attribute_indices(images, values).tolist() == [[-1, 0, 0], [5, 2, 1]]


def test_a_partner_differs_in_tone_alone_if_such_an_image_was_seen() -> None:
    seen = [
        shown("man", "cook", "dark"),
        shown("woman", "cook", "light"),
        shown("woman", "cook", "dark", "twemoji"),
        shown("woman", "cook", "dark"),
        shown("woman", "cook", ""),
        shown("person", "pilot", "medium"),
        shown("man", "pilot", "light"),
        shown("", "", "light"),
    ]
    asked: dict[Any, Any] = {
        shown("woman", "cook", "medium"): {1, 3},
        shown("person", "cook", "dark"): {0, 3},  # the person was not seen: the same tone
        shown("person", "cook", ""): {4},  # without a tone
        shown("woman", "pilot", "dark"): {5, 6},  # neither the person nor the tone was
        shown("man", "cook", "light", "twemoji"): {2},
        shown("man", "singer", "light"): {None},
        shown("", "", "light"): {None},
    }
    for turn in range(2):
        before = [shown("man", "singer", "light")] * turn
        partners = seen_partners([*before, *asked], seen)[turn:]
        assert all(partner in allowed for partner, allowed in zip(partners, asked.values(), strict=True))
    in_turn = seen_partners([shown("woman", "cook", "medium")] * 4, seen)
    assert in_turn == [1, 3, 1, 3]


def test_variants_are_the_five_tones_from_light_to_dark() -> None:
    images = [shown("man", "cook", tone, style) for style in ("noto", "twemoji") for tone in ("", *reversed(TONES))]
    images += [shown("man", "pilot", tone) for tone in TONES[1:]]
    found = tone_variants([images[1], images[8], images[0], images[12]], images)
    assert found == [[5, 4, 3, 2, 1], [11, 10, 9, 8, 7], [], []]


def test_every_held_out_composition_has_a_partner(small_data: Callable[..., ZooDataModule]) -> None:
    for split in SPLITS:
        data = small_data("Emoji", val_size=0, split=split)
        assert isinstance(data, Emoji)
        unseen, seen = data.attributes("test"), data.attributes("train")
        for one, partner in zip(unseen, seen_partners(unseen, seen), strict=True):
            if partner is None:
                assert split != "composition" or not one.role
                continue
            other = seen[partner]
            assert (other.role, other.style, bool(other.tone)) == (one.role, one.style, bool(one.tone))
            assert (other.person, other.tone) != (one.person, one.tone)
