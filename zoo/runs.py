"""Where runs of the command line are, what started each, and from which file one continues."""

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_modules.parts.files import replace_file
from lightning_modules.runtime.checkpoint_io import DamagedCheckpoint, readable
from lightning_modules.runtime.run_folder import CHECKPOINTS, CONFIG, ORIGIN, newest_checkpoints
from zoo.errors import UnknownNameError, ZooError
from zoo.paths import did_you_mean, listed

RUNS = Path("runs")


@dataclass(frozen=True)
class Origin:
    """What started a run, in its ``run.json``; the configuration itself is in its ``config.yaml``.

    Args:
        name: Name of the run, and of the card of its checkpoint.
        recipe: Name of the recipe in the zoo, or ``None`` for a file of the user's.
        overrides: Arguments that replaced those of the recipe.
        save_to: Folder of the checkpoint, or ``None`` for ``zoo`` in the run's folder.
    """

    name: str
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    save_to: str | None = None

    def write(self, folder: Path) -> None:
        """Writes ``run.json`` into the folder of the run."""
        replace_file(folder / ORIGIN, (json.dumps(asdict(self), indent=2) + "\n").encode())

    @staticmethod
    def read(folder: Path) -> "Origin":
        """Reads ``run.json``; a run of a former version has none, and is named after its folder.

        Raises:
            ZooError: If the file is damaged.
        """
        path = folder / ORIGIN
        if not path.is_file():
            return Origin(folder.resolve().name)
        try:
            values: Any = json.loads(path.read_text(encoding="utf-8"))
            return Origin(**{**values, "overrides": tuple(values["overrides"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ZooError(f"{path} is damaged: it does not say what started the run. Remove it to go on.") from error


def find_run(name: str) -> Path:
    """Returns the folder of a run: ``runs/<name>``, or a folder that is given by its path.

    Raises:
        UnknownNameError: If there is no such run; the message has those that there are.
    """
    stem = name.removesuffix(".yaml").removesuffix(".yml") if "/" not in name else name
    for folder in (RUNS / stem, Path(name).expanduser()):
        if (folder / CONFIG).is_file():
            return folder
    found = sorted(path.parent.name for path in RUNS.glob(f"*/{CONFIG}"))
    raise UnknownNameError(
        f"There is no run {name!r} to resume: neither {RUNS / stem} nor {name} has a {CONFIG}."
        f"{did_you_mean(stem, found)} Runs here: {listed(found)}."
    )


def resume_command(folder: Path) -> str:
    """Returns the command that continues the run in a folder."""
    own = folder.parent == RUNS or folder.parent.resolve() == RUNS.resolve()
    return shlex.join(["python", "-m", "zoo", "resume", folder.name if own else str(folder)])


def checkpoint_to_resume(folder: Path) -> Path:
    """Returns the newest intact checkpoint of a run; says so if a newer one is damaged.

    Raises:
        ZooError: If there is none.
    """
    files = newest_checkpoints(folder)
    for path in files:
        try:
            with readable(path):
                return path
        except DamagedCheckpoint:
            print(f"{path} is damaged; the one before it is taken.")
    reason = "all are damaged" if files else "the run was stopped before the first was written"
    raise ZooError(f"There is no checkpoint in {folder / CHECKPOINTS} to resume from: {reason}. Train anew.")
