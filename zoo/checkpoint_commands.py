"""The commands that make a checkpoint of the zoo and measure it, without those whose work is done."""

from collections.abc import Iterator
from pathlib import Path

from lightning_modules.runtime.run_folder import CONFIG, newest_checkpoints
from zoo.cards import card
from zoo.errors import ZooError
from zoo.other_seeds import OPTION, check_other_seed
from zoo.paths import is_checkpoint
from zoo.recipe import has_settings
from zoo.runs import RUNS, Origin

CLASSIFIERS = "classifier."
UNMEASURED = (".ring8", ".grid25", ".two_moons")
"""Endings of the names of checkpoints that a thousand samples of images are not measured of."""
QUIET = ("--trainer.enable_progress_bar", "false")


def commands(name: str, target: Path, seeds: int = 1) -> Iterator[list[str]]:
    """Yields the arguments of ``python -m`` that make a checkpoint, without those whose work is done."""
    if not is_done(target):
        yield from commands_of_checkpoint(name, target)
    for seed in other_seeds_left(target, seeds):
        yield from commands_of_other_seed(name, target, seed)


def commands_of_other_seed(name: str, target: Path, seed: int) -> Iterator[list[str]]:
    """Yields those that train and measure a further seed, beside a checkpoint that is there."""
    run = RUNS / f"{name}.seed-{seed}"
    if not is_other_seed(run / "zoo", target):
        if newest_checkpoints(run) and has_settings(run / CONFIG, name, seed_everything=seed):
            yield ["zoo", "resume", str(run), *QUIET]
        else:
            yield ["zoo", "train", name, *QUIET, OPTION, str(seed), "--trainer.default_root_dir", str(run)]
    yield ["zoo", "evaluate", place_of(target), "--other-seed", str(run / "zoo"), "--write"]


def is_other_seed(folder: Path, target: Path) -> bool:
    """Returns whether there is a checkpoint of the same settings with another seed."""
    try:
        check_other_seed(card(target), card(folder))
    except ZooError:
        return False
    return True


def commands_of_checkpoint(name: str, target: Path) -> Iterator[list[str]]:
    """Yields those of the first seed."""
    place = place_of(target)
    if not (target / "config.json").is_file():
        if is_interrupted(name, target):
            yield ["zoo", "resume", name, *QUIET]
        else:
            yield ["zoo", "train", name, "--save-to", place, *QUIET]
    if name.startswith(CLASSIFIERS):
        yield ["zoo.ship_statistics", place]
    elif not name.endswith(UNMEASURED):
        yield ["zoo", "evaluate", place, "--num-samples", "1000", "--write"]
    yield ["zoo", "evaluate", place, "--speed", "--write"]


def is_interrupted(name: str, target: Path) -> bool:
    """Returns whether there is a run of the recipe as it stands, for this checkpoint, that can be resumed."""
    run = RUNS / name
    origin = Origin.read(run)
    own = origin.recipe == name and not origin.overrides and origin.save_to == str(target)
    return own and bool(newest_checkpoints(run)) and has_settings(run / CONFIG, name)


def place_of(target: Path) -> str:
    """Returns a folder as a command takes it: a name of the zoo has precedence over a folder of that name."""
    return f"./{target}" if is_checkpoint(str(target)) else str(target)


def is_done(target: Path, seeds: int = 1) -> bool:
    """Returns whether a folder has a checkpoint with what is measured last of it, and of its other seeds."""
    try:
        found = card(target)
    except ZooError:
        return False
    last = "test/" if target.name.startswith(CLASSIFIERS) else "test/seconds_per_sample"
    return any(name.startswith(last) for name in found.metrics) and not other_seeds_left(target, seeds)


def other_seeds_left(target: Path, seeds: int) -> list[int]:
    """Returns the seeds beside the first of which a checkpoint has no numbers; classifiers have one seed."""
    others = [] if target.name.startswith(CLASSIFIERS) else range(1, seeds)
    return [seed for seed in others if str(seed) not in card(target).other_seeds]
