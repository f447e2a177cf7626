"""docs/equations.md is that of the docstrings, every equation of the text has a home, and markers are read rightly."""

import pytest

from tests.packaging import equations_page
from tests.packaging.equations_page import LIBRARY, PAGE, Home, homes, missing, numbers, page
from tests.packaging.text_equations import EQUATIONS


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
