"""The licence of a checkpoint, and whose work its data are."""

from zoo.cards import Card

LICENCE = "apache-2.0"
SHEEP = "aaron_sheep"
ARTISTS = {
    SHEEP: ("cc-by-nc-4.0", "The Sheep Market, copyright Aaron Koblin, CC BY-NC 4.0, simplified."),
    "noto": (LICENCE, "Noto Emoji, copyright Google LLC, Apache-2.0, resized."),
    "twemoji": ("cc-by-4.0", "Twemoji, copyright Twitter, Inc. and other contributors, CC-BY 4.0, resized."),
}
"""Style of emoji, or data set of drawings -> its licence, and what has to be said of it; the strictest first."""
STYLES = ("noto", "twemoji")


def licence_of(card: Card) -> tuple[str, tuple[str, ...]]:
    """Returns the licence of a checkpoint, by its name on the Hugging Face Hub, and the attributions of its data.

    It is that of the library, unless that of the data asks for more.
    """
    artists = artists_of(card)
    licences = [ARTISTS[artist][0] for artist in artists if ARTISTS[artist][0] != LICENCE]
    return (licences[0] if licences else LICENCE), tuple(ARTISTS[artist][1] for artist in artists)


def artists_of(card: Card) -> tuple[str, ...]:
    """Returns the artists of ``ARTISTS`` whose work a checkpoint, or what it was fine-tuned from, was trained on."""
    styles = {*_styles(card), *card.artists}
    return tuple(artist for artist in ARTISTS if artist in styles)


def _styles(card: Card) -> list[str]:
    """Returns the artists that a checkpoint was trained on; all those of emoji where their styles are not recorded."""
    if card.datamodule is not None and card.datamodule["class"] == "Strokes":
        return [SHEEP] if SHEEP in str(card.datamodule["arguments"].get("dataset")) else []
    if card.datamodule is not None:
        given = card.datamodule["arguments"].get("styles")
        of_emoji = card.datamodule["class"] == "Emoji"  # a folder of the user's own may have the name
        return [style for style in STYLES if of_emoji and (not isinstance(given, list) or style in given)]
    if str(card.data).endswith("aaron_sheep_strokes"):
        return [SHEEP]
    if card.data != "emoji":
        return []
    form = str((card.data_spec or {}).get("preprocessing", ""))  # its first words are the styles
    return [style for style in STYLES if not form or style in form.split("-")]
