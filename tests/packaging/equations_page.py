"""Writes docs/equations.md from markers in docstrings, such as "eq. 1.28"; `make readme` runs it.

A definition links to what computes it and to its tests, a step of a derivation to tests that check it numerically. The
markers are those of functions, methods and classes; ``missing`` names equations without a home.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.packaging.text_equations import EQUATIONS, ERRATA

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/equations.md"
LIBRARY = ("lightning_modules", "datamodules")
NUMBER = r"1\.\d{1,2}(?![\d.]*\d)"
MARKER = re.compile(rf"\b[Ee]q\. ({NUMBER}(?:(?:, | and |, and |-| to ){NUMBER})*)")
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


def documented(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the name and docstring of every function and class of a file, methods as Class.method."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield prefix + node.name, ast.get_docstring(node) or ""
            yield from documented(node, f"{prefix}{node.name}.")


def homes(folders: tuple[str, ...], tests: bool) -> dict[str, list[Home]]:
    """Returns by equation what names it in these folders: tests that pytest runs, or else anything documented."""
    found: dict[str, list[Home]] = defaultdict(list)
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("test_*.py" if tests else "*.py"))]
    for path in files:
        for name, docstring in documented(ast.parse(path.read_text(encoding="utf-8"))):
            if not tests or name.startswith("test_"):
                for number in numbers(docstring):
                    found[number].append(Home(name, str(path.relative_to(ROOT))))
    return found


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


def all_tests() -> dict[str, str]:
    """Returns the file of every test by its name."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return {
        name: str(path.relative_to(ROOT))
        for path in files
        for name, _ in documented(ast.parse(path.read_text(encoding="utf-8")))
    }


def links(found: list[Home]) -> str:
    """One link a home, in the order of their files."""
    return "<br>".join(f"[`{home.name}`](../{home.file})" for home in found)


def page() -> str:
    """The whole page.

    Raises:
        ValueError: If an equation has no home, or an erratum names a test that there is not.
    """
    code, tests = homes(LIBRARY, tests=False), homes(("tests",), tests=True)
    files = all_tests()
    problems = missing(code, tests)
    problems += [f"{one.test} does not exist" for one in ERRATA if one.test and one.test not in files]
    if problems:
        raise ValueError("; ".join(problems))
    lines = [HEAD, "| | equation | is | computed by | tested by |", "|---" * 5 + "|"]
    for number, equation in EQUATIONS.items():
        computed = links(code.get(number, [])) if equation.is_definition else ""
        cells = (number, f"${equation.latex}$", equation.says, computed, links(tests[number]))
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "## Errata", "", "| place | the text | right | shown by |", "|---" * 4 + "|"]
    for one in ERRATA:
        test = f"[`{one.test}`](../{files[one.test]})" if one.test else ""
        lines.append(f"| {one.place} | {one.says} | {one.right} | {test} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"Wrote {PAGE}\n")
