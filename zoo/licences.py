"""The licence of a checkpoint, and whose work its data are."""

from zoo.cards import Card

LICENCE = "apache-2.0"
ARTISTS = {
    "noto": (LICENCE, "Noto Emoji, copyright Google LLC, Apache-2.0, resized."),
    "twemoji": ("cc-by-4.0", "Twemoji, copyright Twitter, Inc. and other contributors, CC-BY 4.0, resized."),
}
"""Style of emoji -> its licence, and what has to be said of it."""


def licence_of(card: Card) -> tuple[str, tuple[str, ...]]:
    """Returns the licence of a checkpoint, by its name on the Hugging Face Hub, and the attributions of its data.

    It is that of the library, unless that of the data asks for more.
    """
    styles = _styles(card)
    licences = [ARTISTS[style][0] for style in styles if ARTISTS[style][0] != LICENCE]
    return (licences[0] if licences else LICENCE), tuple(ARTISTS[style][1] for style in styles)


def _styles(card: Card) -> list[str]:
    """Returns the styles of the emoji that a checkpoint was trained on; all of them where they are not recorded."""
    record = card.datamodule or {}
    if "emoji" not in (card.data, str(record.get("class", "")).lower()):
        return []
    given = record.get("arguments", {}).get("styles")
    return [style for style in ARTISTS if not isinstance(given, list) or style in given]
