"""The package is lazy: what it imports, and that all its names are there."""

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import datamodules
from datamodules import DATAMODULES, LOCATIONS, ZooDataModule

ROOT = Path(datamodules.__file__).parents[1]
HEAVY = ("torch", "lightning", "numpy", "torchvision", "scipy", "PIL")


def imported_by(statement: str) -> set[str]:
    """Runs a statement in a new interpreter and returns the names of all modules that are imported then."""
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); {statement}; import json; print(json.dumps(list(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout))


@pytest.mark.parametrize(
    "statement",
    [
        "import datamodules",
        "import datamodules.spec",
        "from datamodules import Batch, DataSpec",
        "from datamodules.spec import DataSpec; DataSpec.from_json(DataSpec('a', 'image', (1, 2, 2)).to_json())",
    ],
)
def test_the_package_and_the_spec_import_neither_torch_nor_lightning(statement: str) -> None:
    modules = imported_by(statement)
    assert "datamodules" in modules
    assert not modules & set(HEAVY)
    assert {name for name in modules if name.startswith("datamodules")} <= {"datamodules", "datamodules.spec"}


def test_the_spec_imports_the_standard_library_only() -> None:
    added = imported_by("import datamodules.spec") - imported_by("pass")
    assert {name.partition(".")[0] for name in added} - set(sys.stdlib_module_names) == {"datamodules"}


def test_a_name_imports_its_module_when_it_is_first_used() -> None:
    modules = imported_by("import datamodules; datamodules.DataNotFoundError")
    assert {"datamodules.sources.find", "filelock"} <= modules
    assert not modules & set(HEAVY)
    assert not {name for name in modules if name.startswith(("datamodules.images", "datamodules.sequences"))}


def test_every_datamodule_is_in_the_table() -> None:
    found = {}
    for module in pkgutil.walk_packages(datamodules.__path__, "datamodules."):
        for name, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(value, ZooDataModule) and not (value.__doc__ or "").startswith("Abstract"):
                found[name] = value
    assert found == DATAMODULES
    assert list(DATAMODULES) == list(LOCATIONS)
    assert set(DATAMODULES) <= set(datamodules.__all__)
    assert all(getattr(datamodules, name) is value for name, value in DATAMODULES.items())
    for name, value in DATAMODULES.items():
        assert value.__module__ == f"datamodules.{LOCATIONS[name]}"


def test_every_public_name_can_be_imported() -> None:
    assert len(set(datamodules.__all__)) == len(datamodules.__all__)
    assert dir(datamodules) == sorted(datamodules.__all__)
    for name in datamodules.__all__:
        assert getattr(datamodules, name) is not None
    with pytest.raises(AttributeError, match="'PictureFolder'"):
        datamodules.PictureFolder  # noqa: B018
