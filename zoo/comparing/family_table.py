"""One table over all families: what the cards of the checkpoints say of the same images. Nothing is trained."""

from collections.abc import Iterator

from lightning_modules import FAMILIES
from zoo.cards import Card, card, names
from zoo.comparing.card_numbers import fid_protocol, likelihood, tested, two_digits
from zoo.listing import columns, minutes_of

NAME = "families"
TITLE = "All families on Fashion-MNIST"
BLOCKS = {"grey": "256 grey values", "bits": "bits"}
HEADING = (
    "family", "method", "checkpoint", "likelihood", "FID", "FID of means", "precision", "recall", "s per sample",
    "parameters", "minutes",
)  # fmt: skip
FIT_TO_IMAGES = [family for family in FAMILIES if family not in ("image", "classifier")]
NOTES = (
    "What compares: exact likelihoods of one table that are not of dequantized images, and FID, precision and recall "
    "of as many samples in one table, which are of one extractor and the test split. (2k) is of 2 000 samples, of slow "
    "samplers: its bias is larger.",
    "What does not: an upper bound only says that the likelihood is at least as good; an estimate may be on either "
    "side. What is exact for dequantized images is a density, whose bits/dim bound those of grey values from above: "
    "these compare among themselves. Bits and grey values are different data, so the two tables do not compare with "
    "each other.",
    "An empty cell: the method has no such number, or it was not measured.",
    "FID of means is of the decoder's means in the place of samples, which leaves the pixels' noise out: it is lower "
    "than that of the model itself, and compares with that of a generator, which has no noise of pixels either.",
    "Sizes and minutes of training differ by what the recipe needed, on the machine that trained it, so the table is "
    "of checkpoints and not of methods; `python -m zoo compare gans` gives methods the same budget.",
)
"""What compares, and what does not."""


def block_of(found: Card) -> str | None:
    """Returns which table a checkpoint belongs to, or ``None``."""
    if found.data_spec is None or found.data not in ("fashion_mnist", "fashion_mnist_pixels"):
        return None
    return "bits" if tuple(found.data_spec["value_range"] or (0, 1)) == (0, 1) else "grey"


def rows_of(block: str) -> list[tuple[str, ...]]:
    """Returns a row for each checkpoint of a table, by family, in the order of the registry."""
    cards = [found for name in names() if block_of(found := card(name)) == block]
    return [
        (family, method.__name__, found.name, *values_of(found))
        for family in FIT_TO_IMAGES
        for method in FAMILIES[family]
        for found in cards
        if found.method == method.__name__
    ]


def values_of(found: Card) -> Iterator[str]:
    """Yields the cells of a card after its name; what was not measured is empty."""
    metrics = tested(found)
    yield likelihood(found, metrics)
    protocol = fid_protocol(metrics)
    for name, form in (("fid", ".2f"), ("fid_of_means", ".2f"), ("precision", ".2f"), ("recall", ".2f")):
        value = metrics.get(f"{name}-{protocol}")
        few = " (2k)" if name == "fid" and "-2k" in protocol else ""
        yield "" if value is None else f"{value:{form}}{few}"
    seconds = metrics.get("seconds_per_sample-cpu-64")
    yield "" if seconds is None else two_digits(seconds)
    yield f"{found.parameters:.2g}".replace("e+0", "e")
    yield minutes_of(found.training)


def without_checkpoint() -> list[str]:
    """Returns the methods that no checkpoint of these images is of."""
    here = {row[1] for block in BLOCKS for row in rows_of(block)}
    return [method.__name__ for family in FIT_TO_IMAGES for method in FAMILIES[family] if method.__name__ not in here]


def family_report() -> str:
    """Returns both tables and their notes for a terminal."""
    tables = [f"{title}\n{columns([HEADING, *rows_of(block)])}" for block, title in BLOCKS.items()]
    return "\n\n".join([TITLE, *tables, *notes()])


def family_markdown() -> str:
    """Returns both tables and their notes in Markdown."""
    parts = [f"**{TITLE}** (`python -m zoo compare {NAME}`)"]
    for block, title in BLOCKS.items():
        lines = [HEADING, ("---",) * len(HEADING), *rows_of(block)]
        parts.append(f"{title}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes())])


def notes() -> list[str]:
    """Returns what compares, what does not, and what is not there."""
    return [*NOTES, f"Without a checkpoint of these images: {', '.join(without_checkpoint())}."]
