"""Writes the README's pictures and tables from the checkpoints' own cards; `make readme` runs it.

No number in the README is typed by hand: a test compares it with what this file makes.
"""

import inspect
import re
import sys
from pathlib import Path

import zoo
from lightning_modules import METHODS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PICTURES_A_ROW = 4
REFERENCE = re.compile(r"^(?P<title>[^\n]+) \((?P<authors>[^()]+, \d{4})\),\s+(?P<url>https?://\S+)\s*$", re.MULTILINE)


def pictures() -> str:
    """A grid of the samples of every checkpoint that has some."""
    cells = [
        f'<td align="center"><img src="checkpoints/{name}/samples.png" width="200"><br><code>{name}</code></td>'
        for name in zoo.names()
        if (ROOT / "checkpoints" / name / "samples.png").is_file()
    ]
    rows = [cells[start : start + PICTURES_A_ROW] for start in range(0, len(cells), PICTURES_A_ROW)]
    return "\n".join(["<table>", *("<tr>\n" + "\n".join(row) + "\n</tr>" for row in rows), "</table>"])


def methods() -> str:
    """One line a checkpoint, and one for each method that has none."""
    lines = ["| class | paper | checkpoint | measured |", "|---|---|---|---|"]
    for method, method_class in METHODS.items():
        file = Path(inspect.getfile(method_class)).relative_to(ROOT)
        cards = [card for card in map(zoo.card, zoo.names()) if card.method == method]
        start = f"| [`{method}`]({file}) | {paper(method_class)} |"
        for card in cards:
            lines.append(f"{start} [`{card.name}`](checkpoints/{card.name}) | {numbers(card.metrics)} |")
        if not cards:
            lines.append(f"{start} | |")
    return "\n".join(lines)


def paper(method_class: type) -> str:
    """The last reference in the docstring of the method's module, as a link."""
    references = list(REFERENCE.finditer(inspect.getmodule(method_class).__doc__ or ""))
    if not references:
        return ""
    found = references[-1]
    return f"[{found['title'].strip()}]({found['url']}), {found['authors']}"


def numbers(metrics: dict[str, float]) -> str:
    """The measured values that a card leads with, by the names that carry their protocol."""
    leading = (
        "nll-",
        "bits_per_dim",
        "nats_per_step",
        "fid",
        "inception_score-",
        "inception_score_of",
        "class_accuracy",
        "accuracy",
        "modes",
        "high_quality",
        "kl",
    )
    shown = {name.removeprefix("test/"): value for name, value in metrics.items() if name.startswith("test/")}
    return "<br>".join(
        f"{name} **{value:.4g}**"
        for name, value in shown.items()
        if name.startswith(leading) and not name.endswith("-1k") and not name.startswith("modes_hit")
    )


def written(text: str) -> str:
    """``text`` with fresh content between each pair of markers."""
    for marker, content in {"pictures": pictures(), "methods": methods()}.items():
        begin, end = f"<!-- {marker} -->\n", f"<!-- end of {marker} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}{content}\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"Wrote the tables of {README}\n")
