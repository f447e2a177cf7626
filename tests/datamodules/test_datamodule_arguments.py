"""Every datamodule refuses what is no number, truth value or list, and names it."""

import math
import re
from collections.abc import Sequence
from inspect import Parameter, isclass, signature
from pathlib import Path
from typing import Any

import pytest

import datamodules
from datamodules.argument_types import hints_of
from datamodules.datamodule import ZooDataModule

NO_COUNT, NO_NUMBER, NO_TRUTH_VALUE = (2.5, 2.0, True, "8", math.nan), ("0.5", True, math.nan), ("yes", 0, None)
KINDS: dict[Any, tuple[Any, ...]] = {
    int: NO_COUNT,
    int | None: NO_COUNT,
    float: NO_NUMBER,
    float | None: NO_NUMBER,
    bool: NO_TRUTH_VALUE,
    Sequence[str]: ("style.png", Path("style.png")),
}
CLASSES = [cls for name in datamodules.__all__ if isclass(cls := getattr(datamodules, name))]
DATAMODULES = [cls for cls in CLASSES if issubclass(cls, ZooDataModule) and cls is not ZooDataModule]


@pytest.mark.parametrize("cls", DATAMODULES)
def test_what_is_no_number_truth_value_or_list_is_named(cls: Any) -> None:
    parameters = signature(cls).parameters.values()
    needed = {each.name: "there" for each in parameters if each.default is Parameter.empty}
    checked = {name: KINDS[hint] for name, hint in hints_of(cls.__init__).items() if hint in KINDS}
    assert {"batch_size", "seed"} <= checked.keys()
    for name, values in checked.items():
        for value in values:
            with pytest.raises(ValueError, match=f"^{re.escape(f'{name}={value!r}')} must be "):
                cls(**needed | {name: value})
