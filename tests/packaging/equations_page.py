"""Writes docs/equations.md from markers in docstrings, such as "eq. 1.28"; `make readme` runs it.

A definition links to what computes it and to its tests, a step of a derivation to tests that check it numerically. The
markers are those of functions, methods and classes; ``missing`` names equations without a home, and ``unread`` what a
reader would take for a marker and this script would not.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.packaging.text_equations import EQUATIONS, ERRATA

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/equations.md"
LIBRARY = ("lightning_modules", "datamodules")
NUMBER = r"1\.\d{1,2}(?![\d.]*\d)"
MARKER = re.compile(rf"\b[Ee]q\. ({NUMBER}(?:(?:, | and |, and |-| to ){NUMBER})*)")
LIKE_A_MARKER = re.compile(r"\b[Ee]q(?:s|n|uations?)?\.? ?\(?1\.\d[\d.]*|@(?:,? or | ?[/&\u2013\u2014] ?)1\.\d+")
"""What reads like a marker where those that are read have been replaced by ``@``."""
HEAD = """# Equations

Every numbered equation of [*A Brief Introduction to Generative Models*](https://arxiv.org/abs/2103.00265) (Lamb, 2021):
the code that computes it, and the tests that check it. A test of a step compares both sides of it numerically.
`make readme` writes this page from the docstrings, which name the equations.
"""


class Home(NamedTuple):
    """A function, method or class whose docstring names an equation."""

    name: str
    file: str


def numbers(text: str) -> set[str]:
    """Returns the numbers of the text's equations that a docstring names, ranges written out."""
    found = set()
    for match in MARKER.finditer(" ".join(text.split())):
        parts = re.split(r"(, and |, | and |-| to )", match[1])
        found.add(parts[0])
        for before, between, number in zip(parts[::2], parts[1::2], parts[2::2], strict=False):
            first = int(before[2:]) if between in ("-", " to ") else int(number[2:])
            found |= {f"1.{index}" for index in range(first, int(number[2:]) + 1)}
    return found


def unread(text: str) -> list[str]:
    """Returns what looks like a marker but is not read as one, and ranges whose end is not after their beginning."""
    flat = " ".join(text.split())
    ranges = [(match[0], re.findall(rf"({NUMBER})(?:-| to )({NUMBER})", match[1])) for match in MARKER.finditer(flat)]
    backward = [marker for marker, ends in ranges if any(int(a[2:]) >= int(b[2:]) for a, b in ends)]
    return backward + LIKE_A_MARKER.findall(MARKER.sub("@", flat))


def documented(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the name and docstring of every function and class of a file, methods as Class.method.

    Tests that are marked as skipped or as failing are left out: they check nothing.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            marks = [ast.unparse(mark).partition("(")[0] for mark in node.decorator_list]
            if not {"pytest.mark.skip", "pytest.mark.xfail"} & set(marks):
                yield prefix + node.name, ast.get_docstring(node) or ""
                yield from documented(node, f"{prefix}{node.name}.")


@cache
def documented_in(folder: str) -> list[tuple[Home, str]]:
    """Returns what is documented in the files of a folder, with its docstring."""
    return [
        (Home(name, str(path.relative_to(ROOT))), docstring)
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name, docstring in documented(ast.parse(path.read_text(encoding="utf-8")))
    ]


def tests_in(folder: str) -> list[tuple[Home, str]]:
    """Returns the tests that pytest finds in a folder, with their docstrings."""
    return [
        (home, docstring)
        for home, docstring in documented_in(folder)
        if home.name.startswith("test_") and Path(home.file).name.startswith("test_")
    ]


def homes(folders: tuple[str, ...], tests: bool) -> dict[str, list[Home]]:
    """Returns by equation what names it in these folders: tests that pytest runs, or else anything documented."""
    found: dict[str, list[Home]] = defaultdict(list)
    for folder in folders:
        for home, docstring in tests_in(folder) if tests else documented_in(folder):
            for number in numbers(docstring):
                found[number].append(home)
    return found


def unread_markers() -> list[str]:
    """Returns sentences on markers of the library and of the tests that are not read."""
    every = [pair for folder in (*LIBRARY, "tests") for pair in documented_in(folder)]
    return [
        f"{text!r} of {home.name} in {home.file} is not read as a marker, such as 'eq. 1.12 and 1.13'"
        for home, docstring in every
        for text in unread(docstring)
    ]


def missing(code: dict[str, list[Home]], tests: dict[str, list[Home]]) -> list[str]:
    """Returns sentences on equations without a home, and on numbers that the text does not have."""
    unknown = sorted((code.keys() | tests.keys()) - EQUATIONS.keys())
    problems = [f"eq. {number} is in a docstring but not in the text" for number in unknown]
    for number, equation in EQUATIONS.items():
        if not tests.get(number):
            problems.append(f"no test names eq. {number}")
        if equation.is_definition and not code.get(number):
            problems.append(f"eq. {number} is a definition, and no function or class names it")
    return problems


def all_tests() -> dict[str, list[str]]:
    """Returns the files of every test by its name; several files may have tests of one name."""
    found: dict[str, list[str]] = defaultdict(list)
    for home, _ in tests_in("tests"):
        found[home.name].append(home.file)
    return found


def problems_of_errata(files: dict[str, list[str]]) -> Iterator[str]:
    """Yields sentences on tests of errata that there are not, or of whose name there are several."""
    for one in ERRATA:
        places = files.get(one.test, [])
        if one.test and not places:
            yield f"{one.test} does not exist"
        elif len(places) > 1:
            yield f"{one.test} may be that of {' or of '.join(places)}"


def links(found: list[Home]) -> str:
    """One link a home, in the order of their files."""
    return "<br>".join(f"[`{home.name}`](../{home.file})" for home in found)


def page() -> str:
    """The whole page.

    Raises:
        ValueError: If an equation has no home, a marker is not read, or an erratum names a test that there is not.
    """
    code, tests = homes(LIBRARY, tests=False), homes(("tests",), tests=True)
    files = all_tests()
    problems = [*missing(code, tests), *unread_markers(), *problems_of_errata(files)]
    if problems:
        raise ValueError("; ".join(problems))
    lines = [HEAD, "| | equation | is | computed by | tested by |", "|---" * 5 + "|"]
    for number, equation in EQUATIONS.items():
        computed = links(code.get(number, [])) if equation.is_definition else ""
        cells = (number, f"${equation.latex}$", equation.says, computed, links(tests[number]))
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "## Errata", "", "| place | the text | right | shown by |", "|---" * 4 + "|"]
    for one in ERRATA:
        test = f"[`{one.test}`](../{files[one.test][0]})" if one.test else ""
        lines.append(f"| {one.place} | {one.says} | {one.right} | {test} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"Wrote {PAGE}\n")
