"""Pages of the documentation that are made: methods, studies, API reference, and the tests that pages cite."""

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import zoo
from lightning_modules import FAMILIES
from tests.packaging.readme_tables import HEADINGS, NUMBERS, comparisons, equation, numbers, paper
from zoo.studies.study_registry import MODULES, study_of
from zoo.studies.study_results import RESULTS, read_result

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HOW_TO = ("own_data", "fine_tuning", "multi_gpu", "tracking", "new_method")
REFERENCE = {
    "zoo": ("zoo/loading.py", "zoo/saving.py", "zoo/cards.py", "zoo/features.py", "zoo/errors.py"),
    "datamodules": ("datamodules",),
    "base": ("lightning_modules/base.py", "lightning_modules/likelihood.py"),
    **{family: (f"lightning_modules/{family}",) for family in FAMILIES if family not in ("contrastive", "classifier")},
    **{
        room: (f"lightning_modules/{room}",)
        for room in ("parts", "networks", "metrics", "callbacks", "rendering", "runtime", "pretrained")
    },
}
"""Pages of the reference, and the files or folders of each."""
CODE_LINK = re.compile(r"\[`([\w.]+)`\]\(\.\./((?:lightning_modules|datamodules)/[\w/]+)\.py\)")
TEST_LINK = re.compile(r"\]\(\.\./(tests/[\w/]+\.py)\)")


def navigation() -> list[dict[str, object]]:
    """The pages in their order."""
    families = [{HEADINGS[family]: f"families/{family}.md"} for family in FAMILIES]
    how_to: list[object] = [f"how_to/{name}.md" for name in HOW_TO]
    return [
        {"Start": "index.md"},
        {"Methods": families},
        {"Comparisons": "comparisons.md"},
        {"Studies": "studies.md"},
        {"Equations": "equations.md"},
        {"How to": how_to},
        {"Reference": [{name: f"api/{name}.md"} for name in REFERENCE]},
    ]


def made_pages() -> dict[str, str]:
    """Text by place of every page that is made as a whole."""
    made = {f"api/{name}.md": reference(name) for name in REFERENCE}
    made |= {"studies.md": studies(), "comparisons.md": f"# Comparisons\n\n{comparisons()}\n"}
    made["how_to/new_method.md"] = new_method()
    for path in cited_tests():
        code = (ROOT / path).read_text(encoding="utf-8")
        made[f"source/{path}.md"] = f"# `{path}`\n\n````python\n{code}````\n"
    return made


def images() -> dict[str, Path]:
    """File by place of every image that made pages show."""
    found = {f"images/{path.name}": path for path in RESULTS.glob("*.png")}
    samples = {f"images/{name}.png": ROOT / "checkpoints" / name / "samples.png" for name in zoo.names()}
    return found | {place: path for place, path in samples.items() if path.is_file()}


def filled(markdown: str, place: str) -> str:
    """Returns a page with its methods in the place of the marker, and links to code as links into the site."""
    up = "../" * place.count("/")
    if place.startswith("families/"):
        markdown = markdown.replace("<!-- methods -->", methods(Path(place).stem))
    markdown = CODE_LINK.sub(lambda link: f"[`{link[1]}`][{link[2].replace('/', '.')}.{link[1]}]", markdown)
    return TEST_LINK.sub(lambda link: f"]({up}source/{link[1]}.md)", markdown)


def methods(family: str) -> str:
    """Every method of a family: what it is, its equation, its paper, and its checkpoints with numbers and samples."""
    lines, all_cards, pictures = [], [zoo.card(name) for name in zoo.names()], images()
    for method in FAMILIES[family]:
        module = inspect.getmodule(method)
        is_alone = sum(inspect.getmodule(other) is module for other in FAMILIES[family]) == 1
        idea = str(inspect.getdoc(module if is_alone else method)).partition("\n\n")[0].replace("``", "`")
        lines += [f"### {method.__name__}", "", idea, ""]
        lines += [f"{equation(method)}", ""] if "$" in equation(method) else []
        source = f"[`{method.__name__}`][{method.__module__}.{method.__name__}]"
        lines += [f"{source}. {paper(method)}".rstrip(), ""]
        cards = [card for card in all_cards if card.method == method.__name__]
        if cards:
            lines += [*table(("checkpoint", *NUMBERS), [(f"`{card.name}`", *numbers(card)) for card in cards]), ""]
        shown = [card.name for card in cards if f"images/{card.name}.png" in pictures]
        lines += [f'![Samples of {name}](../images/{name}.png){{ width="240" title="{name}" }}' for name in shown] + [
            ""
        ]
    return "\n".join(lines)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, without columns that are empty in every row."""
    kept = [place for place in range(len(headings)) if any(row[place] for row in rows)]
    shown = [[row[place] for place in kept] for row in (headings, *rows)]
    lines = [f"| {' | '.join(cells)} |" for cells in shown]
    return [lines[0], "|---" * len(kept) + "|", *lines[1:]]


def studies() -> str:
    """Every study: the claim, its rule, what was found, and the figure; those without a recorded result are named."""
    lines = [
        "# Studies",
        "",
        "Claims of the text as experiments, each with a rule that was written before the run. Errors are standard",
        "errors; a number without one is exact, or an extreme value, a count or a fit of what was measured.",
        "",
    ]
    for name in MODULES:
        study, result = study_of(name), read_result(name)
        lines += [f"## {name}", "", f"*{study.claim}* ({study.place})", "", f"It holds if: {study.rule}", ""]
        lines += [f"`python -m zoo study {name}`", ""]
        if result is None:
            lines += ["No result is recorded yet.", ""]
            continue
        lines += [f"**{'It holds' if result['holds'] else 'It does not hold'}.** {result['seen']}", ""]
        lines += ["| number | value | error |", "|---|---|---|"]
        for key, number in result["numbers"].items():
            error = f"{number['error']:.2g}" if number["error"] else ""
            lines.append(f"| {key.replace('_', ' ')} | {number['value']:.4g} | {error} |")
        seeds, commit = ", ".join(map(str, result["seeds"])), result["commit"][:7]
        lines += [
            "",
            f"Seeds {seeds}; {result['minutes']:g} minutes on {result['date']}; the rule is that of {commit}.",
        ]
        lines += ["", f"![What was found by the study {name}](images/{result['figure']})", ""]
    return "\n".join(lines)


def new_method() -> str:
    """The worked example of CONTRIBUTING, as far as the table of folders."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return "# Add a method\n" + text.split("# Contributing\n")[1].split("## Where things are")[0]


def reference(name: str) -> str:
    """One page of the API reference: the modules of a room."""
    return (
        f"# {name}\n\n" + "\n\n".join(f"::: {module}" for place in REFERENCE[name] for module in modules(place)) + "\n"
    )


def modules(place: str) -> Iterator[str]:
    """Yields the modules with something in them, of a file or in a folder."""
    path = ROOT / place
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        if file.name != "__init__.py":
            yield ".".join(file.relative_to(ROOT).with_suffix("").parts)


def cited_tests() -> list[str]:
    """The test files that a page links to."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))]
    return sorted({path for text in texts for path in TEST_LINK.findall(text)})
