"""Arguments of ``python -m zoo train``: which there are, those of a recipe as help, and what was meant by a typo.

LightningCLI takes them from the signatures of the method, the datamodule and the Trainer, and so does this.
"""

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import docstring_parser
import yaml
from lightning.pytorch import LightningDataModule, Trainer

import datamodules
import lightning_modules
from lightning_modules.base import ZooModule
from zoo.compatibility import current_config, current_overrides
from zoo.errors import UsageError
from zoo.paths import command, did_you_mean, listed

PARTS: Mapping[str, tuple[str, type, Mapping[str, type]]] = {
    "model": ("method", ZooModule, lightning_modules.METHODS),
    "data": ("datamodule", LightningDataModule, datamodules.DATAMODULES),
}
"""Part of a config to what it is, its base class and the classes of this package."""
OF_A_CLASS = ("class_path", "init_args", "dict_kwargs", "help")
OTHERS = {
    "seed_everything": "Seed of all random numbers.",
    "ckpt_path": "Checkpoint (.ckpt) to resume from, runs/NAME/checkpoints/last.ckpt.",
    "extractor": "Checkpoint of the classifier with which samples of images are measured, or efficientnet_lite0.",
    "averaged_only": "Save only the averaged weights of networks that have an average: a smaller checkpoint.",
    "large": "Mark the checkpoint as one whose weights wheels of the zoo leave out.",
    "config": "A further YAML file, whose values replace those of the recipe.",
    "print_config": "Print the whole configuration and stop.",
    "help": "Show the arguments and stop.",
}
"""Arguments outside of the three parts, with their help."""


@dataclass(frozen=True)
class Option:
    """An argument of a method, a datamodule or the Trainer: its name, its value and what it does."""

    name: str
    value: Any
    help: str = ""


def check_options(recipe: Path, overrides: Sequence[str]) -> None:
    """Checks that every argument exists, before anything is built.

    Args:
        recipe: The recipe's file.
        overrides: Arguments of the command line.

    Raises:
        UsageError: For the first that does not; the message has the nearest names.
    """
    chosen = _class_paths(recipe, overrides)
    for name in _names(current_overrides(overrides, chosen["model"])):
        part, dot, rest = name.partition(".")
        given = rest.removeprefix("init_args.").partition(".")[0]
        if part == "trainer" or part in PARTS:
            called = Trainer if part == "trainer" else _class_of(part, chosen[part])
            known = [option.name for option in options_of(called)]
            if not dot or given in (*known, *OF_A_CLASS) or _takes_anything(called):
                continue
            hint = did_you_mean(given, known, f"--{part}.") or _elsewhere(given, chosen)
        elif part in OTHERS:
            continue
        else:
            hint = did_you_mean(part, [*OTHERS, *PARTS, "trainer"], "--") or _elsewhere(given or part, chosen)
            given = part
        wanted = f"{part}.{given}" if part != given else name
        raise UsageError(
            f"There is no argument --{wanted}.{hint} All are listed by: {command('train', _shown(recipe), '--help')}"
        )


def recipe_help(recipe: Path, overrides: Sequence[str]) -> str:
    """Returns the help of a recipe: every argument with the value that it has there.

    Args:
        recipe: The recipe's file.
        overrides: Arguments of the command line, which may choose another method or datamodule.

    Raises:
        UsageError: If they choose one that does not exist.
    """
    config = current_config(yaml.safe_load(recipe.read_text(encoding="utf-8")))
    chosen = _class_paths(recipe, overrides)
    lines = [f"usage: {command('train', _shown(recipe))} [--ARGUMENT VALUE ...]", ""]
    for part in PARTS:
        called = _class_of(part, chosen[part])
        values: Mapping[str, Any] = {}
        if config[part]["class_path"] == chosen[part]:
            values = config[part].get("init_args") or {}
        options = [_overridden(part, option, overrides) for option in options_of(called, values)]
        lines += [f"{called.__name__}, the {PARTS[part][0]}:", *_shown_options(part, options), ""]
    options = options_of(Trainer, config.get("trainer") or {})
    lines += ["Trainer:", *_shown_options("trainer", [_overridden("trainer", o, overrides) for o in options]), ""]
    others = [Option(name, config.get(name, ""), help) for name, help in OTHERS.items()]
    lines += ["Others:", *_shown_options("", others)]
    lines.append(_entry("--save-to FOLDER", "Folder of the checkpoint (default: zoo in the run's folder)."))
    for part, (what, _, known) in PARTS.items():
        lines += ["", textwrap.fill(f"--{part} CLASS trains with another {what}: {', '.join(known)}.", _width())]
    return "\n".join(lines)


def options_of(called: Any, values: Mapping[str, Any] = {}) -> list[Option]:
    """Returns the arguments of a class, with their values or defaults, and their help from its docstring."""
    text = called.__doc__ if called is not Trainer else called.__init__.__doc__
    helps = {entry.arg_name: entry.description or "" for entry in docstring_parser.parse(text or "").params}
    return [
        Option(name, values.get(name, "" if p.default is p.empty else p.default), helps.get(name, ""))
        for name, p in inspect.signature(called).parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]


def _overridden(part: str, option: Option, overrides: Sequence[str]) -> Option:
    given = value_of(f"--{part}.{option.name}", overrides) or value_of(f"--{part}.init_args.{option.name}", overrides)
    return option if given is None else replace(option, value=given)


def _class_paths(recipe: Path, overrides: Sequence[str]) -> dict[str, str]:
    """Returns the class path of the method and of the datamodule, as the command line has it, else the recipe.

    Raises:
        UsageError: If the recipe has none.
    """
    config = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    chosen = {}
    for part in PARTS:
        own = config.get(part) if isinstance(config, dict) else None
        chosen[part] = str(own.get("class_path", "")) if isinstance(own, dict) else ""
        for option in (f"--{part}", f"--{part}.class_path"):
            chosen[part] = value_of(option, overrides) or chosen[part]
        if not chosen[part] or chosen[part].startswith("-"):
            what, _, known = PARTS[part]
            raise UsageError(f"{recipe} has no class_path of a {what}, such as {', '.join(known)}.")
    return {part: str(current_config({"class_path": path})["class_path"]) for part, path in chosen.items()}


def _class_of(part: str, path: str) -> Any:
    """Returns a class by its name or its path.

    Raises:
        UsageError: If there is none; the message lists those of this package.
    """
    what, base, known = PARTS[part]
    package, _, name = path.rpartition(".")
    if not package:
        found = known.get(name) or next((c for c in _subclasses(base) if c.__name__ == name), None)
        if found is not None:
            return found
    elif path.endswith((".yaml", ".yml")):
        return base  # LightningCLI reads the class from that file
    else:
        try:
            return getattr(import_module(package), name)
        except (ImportError, AttributeError, ValueError) as error:
            if package.partition(".")[0] not in ("lightning_modules", "datamodules"):
                raise UsageError(f"--{part} {path} cannot be imported: {error}.") from error
    raise UsageError(
        f"There is no {what} {path!r}.{did_you_mean(name, known)} The {what}s are {listed(list(known))}; "
        f"a class of your own is given by its path, package.module.{name or 'Class'}."
    )


def _subclasses(base: Any) -> Iterator[type]:
    for child in base.__subclasses__():
        yield child
        yield from _subclasses(child)


def _names(overrides: Sequence[str]) -> Iterator[str]:
    """Yields the names of the options among arguments; a negative number is a value."""
    for word in overrides:
        if re.match(r"--[A-Za-z]", word):
            yield word.removeprefix("--").partition("=")[0].rstrip("+")


def _all_options(chosen: Mapping[str, str]) -> list[str]:
    names = [f"trainer.{option.name}" for option in options_of(Trainer)]
    return names + [f"{part}.{o.name}" for part in PARTS for o in options_of(_class_of(part, chosen[part]))]


def _elsewhere(name: str, chosen: Mapping[str, str]) -> str:
    """Returns a hint if an argument exists, but in another part: ``--model.batch_size``."""
    found = [option for option in _all_options(chosen) if name and option.partition(".")[2] == name]
    return f" Did you mean {' or '.join(f'--{option}' for option in found)}?" if found else ""


def _takes_anything(called: Any) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(called).parameters.values())


def value_of(option: str, words: Sequence[str]) -> str | None:
    """Returns the last value that is given for an option, as ``--option value`` or ``--option=value``."""
    found = None
    for word, following in zip(words, [*words, None][1:], strict=True):
        name, equals, rest = word.partition("=")
        if name == option:
            found = rest if equals else following
    return found


def _shown(recipe: Path) -> str:
    from zoo.paths import recipes_dir

    return recipe.stem if recipe.parent == recipes_dir() else str(recipe)


def _shown_options(part: str, options: Sequence[Option]) -> list[str]:
    prefix = f"--{part}." if part else "--"
    return [_entry(f"{prefix}{option.name} {_short(option.value)}".rstrip(), option.help) for option in options]


def _entry(head: str, text: str) -> str:
    words = " ".join(text.replace("``", "").split())
    shown = textwrap.fill(words, _width(), initial_indent=" " * 6, subsequent_indent=" " * 6)
    return f"  {head}" + (f"\n{shown}" if words else "")


def _short(value: Any) -> str:
    """Returns a value as it is written on the command line; classes by their names, long values shortened."""
    if isinstance(value, dict):
        return str(value.get("class_path", "{...}")).rpartition(".")[2]
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_short(item) for item in value) + "]"
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _width() -> int:
    return min(100, max(40, shutil.get_terminal_size().columns - 2))
