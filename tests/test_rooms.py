"""The rooms of the house: who may import whom, names, and sizes."""

import ast
import inspect
import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from lightning_modules import FAMILIES as METHODS_BY_FAMILY

ROOT = Path(__file__).parents[1]
PACKAGES = ("datamodules", "lightning_modules", "zoo")
FAMILIES = {"adversarial", "autoregressive", "density", "energy", "flow", "image", "latent"}
LAYERS = {"parts", "networks", "pretrained", "runtime", "base", "metrics", "likelihood"}
MAY_IMPORT: dict[str, set[str]] = {
    "parts": set(),
    "networks": set(),
    "pretrained": {"parts", "networks"},
    "runtime": {"parts"},
    "base": {"parts", "runtime"},
    "metrics": {"parts", "runtime", "networks", "pretrained", "base"},
    "likelihood": {"parts", "runtime", "base", "metrics"},
    "rendering": {"parts", "metrics"},
    **dict.fromkeys(FAMILIES, LAYERS),
    "callbacks": {"parts", "runtime", "metrics", "rendering"},
    "tracking": {"runtime"},
    "lightning_modules": FAMILIES | {"base", "metrics"},
    "datamodules": set(),
}
"""Each room of ``lightning_modules``, and what it may import besides itself and what is ``SHARED``."""
SHARED = {"datamodules.spec", "datamodules.argument_types", "lightning_modules.parts.processes"}
"""Files that every room may import."""
FORMER_PLACES = {"tracking.py"}
MAX_LINES, MAX_METHOD_CODE = 350, 150


def source_files() -> dict[str, Path]:
    """Returns every source file by its module's name."""
    files = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


FILES = source_files()


def imported(path: Path, everywhere: bool = True) -> Iterator[str]:
    """Yields the modules of the house that a file imports, also inside of functions unless told otherwise."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if name in FILES else str(node.module) for name in found]
        else:
            continue
        yield from (name for name in found if name in FILES)


def room(module: str) -> str:
    """Returns the room of a module: a folder or a file of ``lightning_modules``, or another package."""
    package, *rest = module.split(".")
    return rest[0] if package == "lightning_modules" and rest else package


@pytest.mark.parametrize("module", [name for name in FILES if room(name) != "zoo"])
def test_imports_follow_the_table(module: str) -> None:
    own = room(module)
    allowed = MAY_IMPORT[own] | {own}
    for name in imported(FILES[module]):
        assert name in SHARED or room(name) in allowed, f"{module} imports {name}"


def test_every_room_is_in_the_table() -> None:
    assert {room(name) for name in FILES} - {"zoo"} == set(MAY_IMPORT)


def test_no_imports_in_a_circle() -> None:
    graph = {name: set(imported(path, everywhere=False)) for name, path in FILES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(FILES)


def test_no_two_files_share_a_name() -> None:
    names = Counter(path.name for path in FILES.values() if path.name not in FORMER_PLACES | {"__init__.py"})
    assert [name for name, count in names.items() if count > 1] == []


def test_files_are_short() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def lines_of_code(text: str) -> int:
    """Returns the number of lines that are neither empty nor comment nor docstring."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        for child in getattr(node, "body", []) if isinstance(getattr(node, "body", None), list) else []:
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                documented |= set(range(child.lineno, (child.end_lineno or child.lineno) + 1))
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in skipped]
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - documented)


@pytest.mark.parametrize("method", [method for family in METHODS_BY_FAMILY.values() for method in family])
def test_the_class_of_a_method_is_short(method: type) -> None:
    assert lines_of_code(inspect.getsource(method)) <= MAX_METHOD_CODE
