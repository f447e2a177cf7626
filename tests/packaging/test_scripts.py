"""Scripts of the tests that pytest does not collect still find all that they import."""

import runpy
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
SCRIPTS = [
    *sorted((TESTS / "benchmarks").glob("*.py")),
    *sorted((TESTS / "packaging").glob("readme_*.py")),
    *sorted((TESTS / "compatibility").glob("[cr]*.py")),
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_imports(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(script.parent))  # as for `python SCRIPT`
    runpy.run_path(str(script), run_name="imported")
    for name in ("common", "record_outputs"):  # siblings, which another folder may have under the same name
        if name not in known:
            sys.modules.pop(name, None)


def test_the_scripts_are_found() -> None:
    assert len([path for path in SCRIPTS if path.stem.startswith("bench_")]) >= 9
