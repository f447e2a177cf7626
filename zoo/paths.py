"""Locations of checkpoints and recipes: inside the wheel, or at the top of a checkout."""

import os
import re
import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from zoo.errors import UnknownNameError, ZooError

PACKAGE = Path(__file__).resolve().parent
LONGEST_NAME = 255 - len("..partial")
"""Bytes of a file's name that leave room for that which it has while it is written."""
NAME = re.compile(r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*")  # no separator: a name cannot lead out of its folder


def checkpoints_dir() -> Path:
    """Returns the folder of the checkpoints: ``zoo/checkpoints`` in a wheel, ``checkpoints`` in a checkout."""
    inside = PACKAGE / "checkpoints"
    return inside if inside.is_dir() else PACKAGE.parent / "checkpoints"


def recipes_dir() -> Path:
    """Returns the folder of the recipes, package data of ``zoo``."""
    return PACKAGE / "recipes"


def checkpoint_names() -> list[str]:
    """Returns the sorted names of the zoo's checkpoints."""
    return sorted(
        path.parent.name for path in checkpoints_dir().glob("*/config.json") if NAME.fullmatch(path.parent.name)
    )


def is_checkpoint(name: str) -> bool:
    """Returns whether the zoo has a checkpoint of that name, without a look at the others."""
    return NAME.fullmatch(name) is not None and (checkpoints_dir() / name / "config.json").is_file()


def recipe_names() -> list[str]:
    """Returns the sorted names of the recipes."""
    return sorted(path.stem for path in recipes_dir().glob("*.yaml"))


def recipe_path(name: str) -> Path:
    """Returns the file of a recipe, given its name in the zoo or a path to a YAML file.

    Raises:
        UnknownNameError: If the zoo has no recipe of that name.
        ZooError: If a path was given and there is no file.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.is_file():
            near = did_you_mean(path.name, [other.name for other in path.parent.glob("*.y*ml")])
            raise ZooError(f"There is no recipe file {name!r}.{near or did_you_mean(path.stem, recipe_names())}")
        return path
    if name not in recipe_names():
        hint = did_you_mean(name, recipe_names())
        raise UnknownNameError(f"The zoo has no recipe {name!r}.{hint} It has: {listed(recipe_names())}.")
    return recipes_dir() / f"{name}.yaml"


def command(*words: object) -> str:
    """Returns a command of the zoo as a shell takes it: words with spaces, such as paths, are quoted."""
    return shlex.join(["python", "-m", "zoo", *map(str, words)])


def check_out(path: Path, advice: str = " Choose another, with --out.") -> None:
    """Checks that a file can be written, before the work for it is done.

    Args:
        path: The file, whose folders may not exist yet.
        advice: What the message says to do where its folder cannot be written to.

    Raises:
        ZooError: If it is a folder, its name is too long, or it would lie in what is no folder or cannot be written to.
    """
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise ZooError(f"{path.name[:40]}... is too long for the name of a file: give a shorter one, with --out.")
    if path.is_dir():
        raise ZooError(f"{path} is a folder: give the name of a file, with --out.")
    home = next(parent for parent in path.absolute().parents if parent.exists())
    if not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        raise ZooError(f"{path} cannot be written: {home} is not a writable folder.{advice}")


def listed(names: list[str]) -> str:
    """Joins names for an error message."""
    return ", ".join(names) if names else "none yet"


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Returns ``" Did you mean a or b?"`` with the known names that are nearest to one that was mistyped, or ``""``.

    Args:
        name: What was given.
        known: The names that there are.
        prefix: Put before each name, such as ``"--"``.
    """
    names = {each.lower(): each for each in known}
    near = [prefix + names[each] for each in get_close_matches(name.lower(), names, n=3, cutoff=0.6)]
    return f" Did you mean {' or '.join(near)}?" if near else ""
