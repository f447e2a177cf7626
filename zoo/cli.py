"""Training from a recipe: LightningCLI with the zoo's settings and all of its overrides."""

import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from os.path import expanduser
from pathlib import Path

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only

from lightning_modules.base import ZooModule
from lightning_modules.runtime.interruption import interruptible
from lightning_modules.runtime.run_folder import CONFIG, RESULT, newest_checkpoints, set_aside
from lightning_modules.runtime.tracking_state import ResumableLogger, open_run
from zoo.cards import CONFIG_FILE, Card
from zoo.checkpoint_folder import announce_replacement, check_target
from zoo.compatibility import current_file, current_overrides
from zoo.data_fit import Fit, full_names, name_after, without_places
from zoo.errors import ZooError
from zoo.paths import recipes_dir
from zoo.recipe_defaults import with_defaults
from zoo.record import TrainingRecord, held_out_measures
from zoo.run_precision import RecipeTrainer, precision_of_run
from zoo.runs import RUNS, Origin, checkpoint_to_resume, find_run, resume_command
from zoo.saving import check_saveable, save
from zoo.train_options import check_options

WITHOUT_EFFECT = re.compile(
    r"trainer\.(accelerator|devices|strategy|num_nodes|enable_progress_bar|enable_model_summary|default_root_dir"
    r"|logger\w*)(\..*)?|data\.data_dir|data\.init_args\.data_dir|ckpt_path|extractor|save[-_]to|averaged_only|large"
)  # arguments that do not influence the result of a run
TRACKING = "lightning_modules.runtime.tracking.Tracking"
LIGHTNINGS_OWN = ("last", "best", "hpc")  # values of --ckpt_path that are no files

BATCH_LIMITS = (
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "limit_predict_batches",
    "overfit_batches",
)  # arguments of the trainer: a whole number of batches, or a fraction of them


class ZooCLI(LightningCLI):
    """Builds module, datamodule and trainer from a recipe and overrides; ``fit`` trains.

    Only the recipe and the command line determine what is built: unlike in LightningCLI's own ``fit``, a checkpoint to
    resume from does not silently change the hyperparameters. Everything that a run writes is in one folder.

    Args:
        recipe: YAML file with ``class_path`` and ``init_args`` of model and data, and the trainer's arguments.
        overrides: Further arguments as on the command line, ``["--model.lr", "1e-3"]``.
        run_dir: Default of ``trainer.default_root_dir``.
    """

    def __init__(self, recipe: Path, overrides: list[str], run_dir: Path) -> None:
        self.run_dir = run_dir
        self.recipe, self.given = recipe, full_names(overrides)
        self.overrides = current_overrides(self.given, _method_of(recipe))
        self.own_name: str | None = None  # of the model, where its data are others than the recipe's
        with warnings.catch_warnings():
            # The zoo's command has read sys.argv already; a relaunch under ddp needs it unchanged.
            warnings.filterwarnings("ignore", "LightningCLI's args parameter", UserWarning)
            super().__init__(
                ZooModule,
                LightningDataModule,
                trainer_class=RecipeTrainer,
                subclass_mode_model=True,
                subclass_mode_data=True,
                seed_everything_default=0,
                save_config_callback=RunFiles,
                save_config_kwargs={"overwrite": True},
                parser_kwargs={"exit_on_error": False, "allow_abbrev": False},
                auto_configure_optimizers=False,
                run=False,
                args=["--config", _file(recipe, self.given), *self.overrides],
            )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the arguments of no class, gives runs their own folders and writes checkpoints atomically."""
        # Python mixes up Union[int, float] and Union[float, int], and with the latter 1 is read as 1.0, all batches.
        for action in parser._actions:
            if action.dest.removeprefix("trainer.") in BATCH_LIMITS:
                action._typehint = int | float | None  # type: ignore[attr-defined]
        parser.add_argument(
            "--extractor",
            type=str | None,
            default=None,
            help="Checkpoint of the classifier with which `python -m zoo evaluate` computes FID and Inception Score.",
        )
        parser.add_argument(
            "--averaged_only",
            type=bool,
            default=False,
            help="Saves only the averaged weights of networks that have an average; the checkpoint is smaller.",
        )
        parser.add_argument(
            "--large", type=bool, default=False, help="Marks the checkpoint as one that wheels of the zoo leave out."
        )
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="Checkpoint (.ckpt) to resume from.")
        parser.set_defaults(
            {
                "trainer.default_root_dir": str(self.run_dir),
                "trainer.plugins": [{"class_path": "lightning_modules.runtime.checkpoint_io.AtomicCheckpointIO"}],
            }
        )

    def before_instantiate_classes(self) -> None:
        """Settles precision, fits the model to the data, names a run of one's own data, and places the logger's folder.

        A recipe also has a folder and a name for its logger, which those who copy the recipe forget to change. The
        command line may give it others.

        Raises:
            ZooError: If model and data contradict each other.
        """
        trainer = self.config["trainer"]
        if self.config["ckpt_path"] is not None:
            self.config["ckpt_path"] = expanduser(self.config["ckpt_path"])
        trainer["precision"] = precision_of_run(trainer["precision"], self.config["ckpt_path"], trainer["accelerator"])
        content = yaml.safe_load(self.recipe.read_text(encoding="utf-8"))
        fit = Fit(self.config, content if isinstance(content, dict) else {}, self.given)
        spec = fit.apply()
        for line in fit.lines:
            rank_zero_only(print)(line)
        if spec is not None and fit.has_other_data:
            self.own_name = name_after(self.recipe.stem, spec.name, None)
            if trainer["default_root_dir"] == str(self.run_dir):
                trainer["default_root_dir"] = str(self.run_dir.with_name(self.own_name))
        loggers = trainer["logger"] if isinstance(trainer["logger"], list) else [trainer["logger"]]
        for logger in loggers:
            if getattr(logger, "class_path", None) != TRACKING:
                continue
            place = logger.init_args
            if any(re.match(r"--trainer\.logger\b.*\b(name|save_dir)\b", word) for word in self.overrides):
                if not any(word.startswith("--trainer.default_root_dir") for word in self.overrides):
                    trainer["default_root_dir"] = str(Path(place.save_dir) / place.name)
                continue
            folder = Path(trainer["default_root_dir"]).expanduser()
            folder = folder if folder.name not in ("", "..") else folder.resolve()
            trainer["default_root_dir"] = str(folder)
            place.save_dir, place.name = str(folder.parent), folder.name

    def fit(self) -> None:
        """Trains, from the start or from ``--ckpt_path``."""
        recipe = yaml.safe_load(self.parser.dump(self.config, skip_check=True))
        for logger in self.trainer.loggers:
            logger.log_hyperparams({part: recipe[part] for part in ("seed_everything", "model", "data", "trainer")})
        self.trainer.fit(self.model, self.datamodule, ckpt_path=self.config["ckpt_path"], weights_only=True)


class RunFiles(SaveConfigCallback):
    """Writes ``config.yaml``, from which a run is resumed, and ``run.json``, when the training starts.

    An earlier run in the folder is moved aside before. Lightning would write the file in ``setup``, which comes first.
    """

    origin: Origin | None = None
    save_to: Path | None = None
    folder: Path | None = None

    def resume_command(self) -> str | None:
        """Returns the command that resumes the run; ``None`` if it has not got as far as a checkpoint."""
        return resume_command(self.folder) if self.folder is not None and newest_checkpoints(self.folder) else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes nothing yet."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the files."""
        open_run(trainer)
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # a collective call
        tracked = any(isinstance(logger, ResumableLogger) for logger in trainer.loggers)
        if trainer.is_global_zero and not tracked and trainer.ckpt_path is None:
            set_aside(folder)
        super().setup(trainer, pl_module, "fit")
        self.folder = folder
        if trainer.is_global_zero and self.origin is not None:
            self.origin.write(folder)
        if trainer.is_global_zero and self.save_to is not None:
            announce_replacement(self.save_to)  # after an earlier run was moved, with the checkpoint that it made


def _file(recipe: Path, overrides: Sequence[str]) -> str:
    """Returns the path of a recipe, or of a copy with current names and with what it leaves out."""
    return current_file(recipe, complete=lambda config: with_defaults(config, recipe.stem, overrides))


def _method_of(recipe: Path) -> str:
    config = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    model = config.get("model") if isinstance(config, dict) else None
    return str(model.get("class_path", "")) if isinstance(model, dict) else ""


def train(
    recipe: Path, overrides: Sequence[str], save_to: Path | None = None, *, origin: Origin | None = None
) -> Card | None:
    """Trains a recipe and saves the result as a checkpoint of the zoo.

    Args:
        recipe: The recipe's file; its stem names the run.
        overrides: Further arguments of LightningCLI.
        save_to: Folder of the checkpoint; ``zoo`` in the run's folder by default.
        origin: What started the run, if that is resumed: ``recipe`` is its ``config.yaml`` then.

    Returns:
        The card, or ``None`` on processes other than the first, and after ``fast_dev_run``.

    Raises:
        UsageError: If an argument does not exist; the message has the nearest names.
        ZooError: If a checkpoint cannot be saved to that folder; this is checked before the training. Also if a run
            that is resumed had finished.
        Interrupted: If the training was stopped by Ctrl-C or SIGTERM; it has the command that resumes.
    """
    quiet()
    check_options(recipe, full_names(overrides))
    from_the_zoo = recipe.parent == recipes_dir()
    run_dir = RUNS / recipe.stem if origin is None else recipe.parent
    cli = ZooCLI(recipe, list(overrides), run_dir)
    origin = origin or Origin(
        cli.own_name or recipe.stem,
        recipe.stem if from_the_zoo else None,
        tuple(recorded(overrides, own=cli.own_name is not None)) if from_the_zoo else (),
        None if save_to is None else str(save_to),
    )
    run_dir = Path(cli.trainer.default_root_dir)
    save_to = save_to or run_dir / RESULT
    _check_resumed(cli.config["ckpt_path"], run_dir)
    _check_result(run_dir, save_to)
    check_saveable(cli.model)
    record = TrainingRecord()
    cli.trainer.callbacks.insert(0, record)  # type: ignore[attr-defined]  # before those that write checkpoints
    files = [c for c in cli.trainer.callbacks if isinstance(c, RunFiles)]  # type: ignore[attr-defined]
    for callback in files:  # none with fast_dev_run
        callback.origin, callback.save_to = origin, save_to
    with interruptible(cli.trainer, lambda: next((callback.resume_command() for callback in files), None)):
        cli.fit()
    if not cli.trainer.is_global_zero or cli.trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    if not record.has_trained and (save_to / CONFIG_FILE).is_file():
        raise ZooError(
            f"The run in {run_dir} had finished: {save_to} is its checkpoint. More batches are trained with "
            "--trainer.max_steps."
        )
    return save(
        cli.model,
        save_to,
        name=origin.name,
        recipe=origin.recipe,
        overrides=origin.overrides,
        metrics=held_out_measures(cli.trainer) or record.last_metrics(),
        training=record.cost(cli.model, cli.trainer.global_step),
        curve=record.curve(),
        averaged_only=cli.config["averaged_only"],
        large=cli.config["large"],
        trainer=cli.trainer,
    )


def resume(name: str, overrides: Sequence[str] = (), save_to: Path | None = None) -> Card | None:
    """Continues the newest run of a recipe from its last checkpoint, with the run's own configuration.

    Args:
        name: Name of the recipe, or the folder of the run.
        overrides: Further arguments of LightningCLI, such as a larger ``--trainer.max_steps``.
        save_to: Folder of the checkpoint; that of the run by default.

    Returns:
        As ``train``.

    Raises:
        UnknownNameError: If there is no such run.
        ZooError: If it has no intact checkpoint, or had finished.
    """
    folder = find_run(name)
    origin = Origin.read(folder)
    checkpoint = checkpoint_to_resume(folder)
    if save_to is None and origin.save_to is not None:
        save_to = Path(origin.save_to)
    origin = replace(
        origin,
        overrides=(*origin.overrides, *effective(overrides)) if origin.recipe is not None else (),
        save_to=None if save_to is None else str(save_to),
    )
    print(f"Resuming {folder} from {checkpoint}.")
    written = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))["trainer"]["default_root_dir"]
    here = folder.resolve().is_relative_to(Path(written).resolve())  # or it was moved since
    place = [] if here else ["--trainer.default_root_dir", str(folder)]
    return train(folder / CONFIG, [*place, "--ckpt_path", str(checkpoint), *overrides], save_to, origin=origin)


def _check_resumed(checkpoint: str | None, run_dir: Path) -> None:
    """Raises ``ZooError`` if a local checkpoint to resume from does not exist."""
    if checkpoint is None or checkpoint in LIGHTNINGS_OWN or "://" in checkpoint or Path(checkpoint).exists():
        return
    there = [path.name for path in Path(checkpoint).parent.glob("*.ckpt")]
    hint = f" That folder has {', '.join(sorted(there))}." if there else ""
    found = newest_checkpoints(run_dir)
    hint = hint or (f" The newest of this run is {found[0]}." if found else "")
    raise ZooError(f"There is no checkpoint {checkpoint} to resume from.{hint}")


def _check_result(run_dir: Path, save_to: Path) -> None:
    """Checks that the checkpoint can be saved, so that the training does not fail at its end."""
    check_target(save_to)
    if run_dir.resolve().is_relative_to(save_to.expanduser().resolve()):
        raise ZooError(f"The checkpoint cannot be saved to {save_to}: the run writes its logs there. Choose another.")


def recorded(overrides: Sequence[str], own: bool) -> list[str]:
    """Returns the arguments for a card; of data of the user's own also what they are called, but not where they are."""
    return effective([*without_places(full_names(overrides))], keep_places=own)


def effective(overrides: Sequence[str], keep_places: bool = False) -> list[str]:
    """Returns the arguments, each option with its values, that influence the result of a training.

    Where public data lie has no influence; of the user's own data it is kept with ``keep_places``.
    """
    kept: list[str] = []
    keep = True
    for word in overrides:
        if re.match(r"--?[A-Za-z]", word):  # an option, not a negative number
            option = word.lstrip("-").partition("=")[0].rstrip("+")
            keep = not WITHOUT_EFFECT.fullmatch(option) or (keep_places and option.startswith("data."))
        if keep:
            kept.append(word)
    return kept


def quiet() -> None:
    """Silences messages that users cannot act upon."""
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")  # Lightning calling torch
    warnings.filterwarnings("ignore", "The dirpath has changed")  # a run that is resumed in another folder
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # the earlier run is moved
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()
