"""The worked example of CONTRIBUTING is a method that works, with a property test that passes."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from datamodules import DataSpec

ROOT = Path(__file__).parents[2]
MODULE = "lightning_modules.adversarial.f_gan"


@pytest.fixture
def blocks() -> list[dict[str, object]]:
    """The names that each python block of CONTRIBUTING defines; the first one is imported by the second."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    codes = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    module = ModuleType(MODULE)
    exec(compile(codes[0], "CONTRIBUTING.md, the method", "exec"), module.__dict__)
    sys.modules[MODULE] = module  # it stays: later tests of the command line import the modules of all subclasses
    namespace: dict[str, object] = {}
    exec(compile(codes[1], "CONTRIBUTING.md, the test", "exec"), namespace)
    return [module.__dict__, namespace]


def test_the_example_method_builds_and_samples(blocks: list[dict[str, object]]) -> None:
    spec = DataSpec("toy", "image", (1, 28, 28), value_range=(-1.0, 1.0))
    module = blocks[0]["FGAN"].for_data(spec, width=4)  # type: ignore[attr-defined]
    assert module.sample(3, generator=torch.Generator().manual_seed(0)).shape == (3, 1, 28, 28)
    assert module.hparams["width"] == 4


def test_the_example_test_passes(blocks: list[dict[str, object]]) -> None:
    tests = [value for name, value in blocks[1].items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()  # type: ignore[operator]
