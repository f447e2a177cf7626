"""The wheel holds the packages, recipes, checkpoints and type markers, and works away from the sources."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("zoo", "lightning_modules", "datamodules")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("generative_zoo-*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def run_installed(code: str, wheel: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` in ``folder`` with the wheel unpacked in front of everything else on the path."""
    site = folder / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-W", "error::SyntaxWarning", "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_only_the_three_packages(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_and_type_marker(names: set[str], package: str) -> None:
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
    assert sources <= names, f"missing: {sorted(sources - names)}"
    assert f"{package}/__init__.py" in names
    assert f"{package}/py.typed" in names


def test_recipes_and_checkpoints(names: set[str]) -> None:
    recipes = {f"zoo/recipes/{path.name}" for path in (ROOT / "zoo/recipes").glob("*.yaml")}
    assert recipes
    assert recipes <= names
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "checkpoints").rglob("*") if path.is_file()}
    assert any(name.endswith("model.safetensors") for name in files)
    assert {f"zoo/{name}" for name in files} <= names


def test_checkpoints_are_small(wheel: Path) -> None:
    size = sum(
        entry.file_size for entry in zipfile.ZipFile(wheel).infolist() if entry.filename.startswith("zoo/checkpoints/")
    )
    assert size < 90 * 2**20


def test_installed_away_from_the_sources(wheel: Path, tmp_path: Path) -> None:
    code = """
import zoo, lightning_modules, datamodules
from lightning_modules import WGANGP
for package in (zoo, lightning_modules, datamodules):
    print(package.__file__)
print("names:", *zoo.names())
print(tuple(zoo.load(zoo.names("*gan*")[0]).sample(3).shape))
"""
    ran = run_installed(code, wheel, tmp_path)
    assert ran.returncode == 0, ran.stderr
    *files, found, shape = ran.stdout.splitlines()
    assert all(Path(file).is_relative_to(tmp_path / "site") for file in files)
    assert set(found.split()[1:]) == {path.parent.name for path in (ROOT / "checkpoints").glob("*/config.json")}
    assert shape.startswith("(3, ")


def test_importing_zoo_is_light() -> None:
    code = "import sys, zoo; print(*sorted({'torch', 'lightning', 'numpy', 'wandb'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == ""
