"""The wheel holds the packages, recipes, checkpoints and type markers, and works away from the sources."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import zoo

ROOT = Path(__file__).parents[2]
PACKAGES = ("zoo", "lightning_modules", "datamodules")


def build(root: Path, folder: Path) -> Path:
    """Builds the wheel of a checkout."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("generative_zoo-*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


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
    large = {f"checkpoints/{name}/model.safetensors" for name in zoo.names() if zoo.card(name).large}
    assert large <= files
    assert {name for name in names if name.startswith("zoo/checkpoints/")} == {f"zoo/{name}" for name in files - large}


def test_the_wheel_is_small_enough_to_be_uploaded(wheel: Path) -> None:
    assert wheel.stat().st_size < 95 * 2**20


def test_installed_away_from_the_sources(wheel: Path, tmp_path: Path) -> None:
    """All but large weights, of which it is said that they are in a checkout, where they load."""
    large = next(name for name in zoo.names() if zoo.card(name).large)
    small = next(name for name in zoo.names("*gan*") if not zoo.card(name).large)
    code = f"""
import zoo, lightning_modules, datamodules
from lightning_modules import WGANGP
for package in (zoo, lightning_modules, datamodules):
    print(package.__file__)
print("names:", *zoo.names())
print(tuple(zoo.load({small!r}).sample(3).shape))
print(zoo.card({large!r}).large)
zoo.load({large!r})
"""
    ran = run_installed(code, wheel, tmp_path)
    *files, found, shape, said = ran.stdout.splitlines()
    assert all(Path(file).is_relative_to(tmp_path / "site") for file in files)
    assert set(found.split()[1:]) == {path.parent.name for path in (ROOT / "checkpoints").glob("*/config.json")}
    assert shape.startswith("(3, ")
    assert said == "True"
    for fact in (large, "wheel", "model.safetensors", "checkout", f"python -m zoo train {zoo.card(large).recipe}"):
        assert fact in ran.stderr.splitlines()[-1]
    assert type(zoo.load(large)).__name__ == zoo.card(large).method


def test_importing_zoo_is_light() -> None:
    code = "import sys, zoo; print(*sorted({'torch', 'lightning', 'numpy', 'wandb'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == ""
