"""Numbers of callers: which forms of a number are taken, and that the message names one that is not."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from lightning_modules.parts.checks import as_count, as_share, as_temperature

WHOLE = [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3, dtype=torch.uint8)]
NOT_WHOLE: list[Any] = [
    True,
    np.bool_(True),
    torch.tensor(True),
    3.0,
    np.float64(3),
    torch.tensor(3.0),
    torch.tensor([3]),
    "3",
    None,
    math.nan,
    [3],
]


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_whole_numbers_of_any_kind_are_taken(value: Any) -> None:
    number = as_count("num", value)
    assert number == 3
    assert type(number) is int


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
def test_what_is_no_whole_number_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match="num=.*positive integer"):
        as_count("num", value)


def test_a_count_has_a_least_value() -> None:
    assert as_count("num", 0, 0) == 0
    with pytest.raises(ValueError, match="num=1 .*at least 2: two ends"):
        as_count("num", 1, 2, ": two ends")
    for value in (0, -3, np.int64(-1), torch.tensor(0)):
        with pytest.raises(ValueError, match="num=.*positive integer"):
            as_count("num", value)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), torch.tensor(0.5), 1e-6, 1e4])
def test_temperatures_are_numbers_of_any_kind(value: Any) -> None:
    assert as_temperature(value) == pytest.approx(float(value))
    assert type(as_temperature(value)) is float


@pytest.mark.parametrize(
    "value",
    [0, 0.0, -1.0, math.nan, math.inf, -math.inf, 1e-38, 1e38, True, "1", None, torch.ones(2), 10**400],
    ids=repr,
)
def test_temperatures_that_are_no_positive_number_of_sense_are_named(value: Any) -> None:
    with pytest.raises(ValueError, match="temperature=.*positive"):
        as_temperature(value)


@pytest.mark.parametrize("value", [0, -0.1, 1.1, math.nan, math.inf, True, "1", None])
def test_shares_lie_in_the_unit_interval(value: Any) -> None:
    with pytest.raises(ValueError, match=r"top_p=.*\(0, 1\]"):
        as_share("top_p", value)
    assert as_share("top_p", np.float64(0.5)) == 0.5
    assert as_share("top_p", 1) == 1.0
