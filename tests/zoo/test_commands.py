"""What lists and tables say of numbers."""

from dataclasses import replace

import pytest

import zoo
from tests.packaging.readme_tables import numbers
from zoo.commands import _meaning
from zoo.listing import _rank


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("test/nats_per_step-exact", ["-log p", "nats", "step", "exact"]),
        ("test/nats_per_step-exact_state_carried", ["-log p", "nats", "step", "exact", "state carried"]),
        ("test/nats_per_step-exact_pixels", ["-log p", "nats", "step", "exact", "pixels"]),
        ("test/bits_per_step-exact_windows_256", ["-log2 p", "bits", "step", "exact", "windows 256"]),
        ("test/bits_per_dim-exact", ["-log2 p", "bits", "dimension", "exact"]),
        ("test/nll-exact", ["-log p", "nats", "example", "exact"]),
        ("test/nll-upper_bound_k5", ["-log p", "nats", "example", "upper bound", "k = 5"]),
        ("test/nll-ais", ["-log p", "nats", "example", "estimate"]),
        ("test/js_2gram-prefix8", ["Jensen-Shannon", "nats"]),
        ("test/js_2gram_floor-prefix8", ["Jensen-Shannon", "nats", "real"]),
    ],
)
def test_the_command_says_what_a_number_is(name: str, facts: list[str]) -> None:
    meaning = _meaning(name)
    for fact in facts:
        assert fact in meaning
    for kind in ("exact", "upper bound", "estimate"):
        assert (kind in meaning) == (kind in facts)


@pytest.mark.parametrize("name", ["test/nats_per_step", "test/fid-x-10k", "test/accuracy"])
def test_other_numbers_need_no_words(name: str) -> None:
    assert _meaning(name) == ""


def test_a_list_leads_with_nats_per_step() -> None:
    names = ["test/nll-exact", "test/copied_10grams_of_real", "test/bits_per_step-exact", "test/nats_per_step-exact"]
    assert min(names, key=_rank) == "test/nats_per_step-exact"


def test_the_readme_shows_nats_per_step() -> None:
    metrics = {"test/nats_per_step-exact": 1.5, "test/bits_per_step-exact": 2.1, "test/copied_10grams": 0.1}
    shown = [*numbers(replace(zoo.card("teacher_forcing.tinyshakespeare"), metrics=metrics))]
    assert "1.5" in shown[0]
    assert "nats per" in shown[0]
    assert "exact" in shown[0]
    assert not any("2.1" in cell or "0.1" in cell for cell in shown)
