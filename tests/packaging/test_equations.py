"""docs/equations.md is that of the docstrings, every equation of the text has a home, and markers are read rightly."""

import ast

import pytest

from tests.packaging import equations_page
from tests.packaging.equations_page import LIBRARY, PAGE, Home, documented, homes, missing, numbers, page, unread
from tests.packaging.text_equations import EQUATIONS, ERRATA


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make readme`"


def test_every_equation_has_a_home() -> None:
    assert list(EQUATIONS) == [f"1.{number}" for number in range(1, 48)]
    code, tests = homes(LIBRARY, tests=False), homes(("tests",), tests=True)
    assert missing(code, tests) == []


@pytest.mark.parametrize(
    ("docstring", "found"),
    [
        ("Eq. 1.28, against differences.", ["1.28"]),
        ("by eq. 1.12 and 1.13 it is", ["1.12", "1.13"]),
        ("eq. 1.1, 1.2 and\n    1.4: the", ["1.1", "1.2", "1.4"]),
        ("(eq. 1.42-1.44)", ["1.42", "1.43", "1.44"]),
        ("Eq. 1.14 to 1.16, and eq. 1.2.", ["1.14", "1.15", "1.16", "1.2"]),
        ("eq. 1 of the paper, eq. 5, eq. 14 and section 1.2.3; 1.25 times", []),
    ],
)
def test_markers_are_read(docstring: str, found: list[str]) -> None:
    assert numbers(docstring) == set(found)
    assert unread(docstring) == []


@pytest.mark.parametrize(
    "docstring",
    [
        "eqs. 1.12 and 1.13",
        "by equation 1.28",
        "Equations 1.12",
        "Eq 1.28",
        "eq. (1.28)",
        "eq. 1.123",
        "eq. 1.12 or 1.13",
        "eq. 1.12/1.13",
        "eq. 1.12\u20131.14",
        "eq. 1.16 to 1.14",
    ],
)
def test_what_reads_like_a_marker_and_is_not_read_is_told(docstring: str) -> None:
    """Else the number would be missing on the page, and nobody would notice if another place has it too."""
    assert len(unread(docstring)) == 1


def test_a_test_that_does_not_run_is_no_home() -> None:
    source = "{}def test_it():\n    'Eq. 1.28.'\n"
    for mark in ("@pytest.mark.skip\n", "@pytest.mark.xfail(reason='')\n"):
        assert list(documented(ast.parse(source.format(mark)))) == []
    for mark in ("", "@pytest.mark.slow\n", "@pytest.mark.skipif(sys.platform == 'win32', reason='')\n"):
        assert list(documented(ast.parse(source.format(mark)))) == [("test_it", "Eq. 1.28.")]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [Home("f", "f.py")]
    full = dict.fromkeys(EQUATIONS, here)
    assert missing(full, full) == []
    some = {number: here for number in EQUATIONS if number not in ("1.20", "1.25")}
    assert missing(some, full) == ["eq. 1.20 is a definition, and no function or class names it"]
    assert missing(full, some) == ["no test names eq. 1.20", "no test names eq. 1.25"]
    assert missing({**full, "1.48": here}, full) == ["eq. 1.48 is in a docstring but not in the text"]
    monkeypatch.setattr(equations_page, "all_tests", dict)
    with pytest.raises(ValueError, match="test_codes_are_normal.* does not exist"):
        page()
    two = ["tests/test_a.py", "tests/test_b.py"]
    monkeypatch.setattr(equations_page, "all_tests", lambda: dict.fromkeys((one.test for one in ERRATA), two))
    with pytest.raises(ValueError, match=r"may be that of tests/test_a\.py or of tests/test_b\.py"):
        page()
    monkeypatch.setattr(equations_page, "unread", lambda docstring: ["eqs. 1.1"] if docstring else [])
    with pytest.raises(ValueError, match=r"'eqs\. 1\.1' of \w+ in lightning_modules/[\w/.]+ is not read as a marker"):
        page()
