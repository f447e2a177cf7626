"""Training from a recipe: LightningCLI with the zoo's settings and all of its overrides."""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lightning_modules.base import ZooModule
from zoo.cards import Card
from zoo.compatibility import current_file, current_overrides
from zoo.errors import ZooError
from zoo.paths import recipes_dir
from zoo.precision import RecipeTrainer, precision_of_run
from zoo.record import TrainingRecord, held_out_measures
from zoo.saving import check_target, save

WITHOUT_EFFECT = re.compile(
    r"trainer\.(accelerator|devices|strategy|num_nodes|enable_progress_bar|enable_model_summary|default_root_dir"
    r"|logger\w*)(\..*)?|data\.data_dir|data\.init_args\.data_dir|ckpt_path|extractor|save[-_]to"
)  # arguments that do not influence the result of a run


class ZooCLI(LightningCLI):
    """Builds module, datamodule and trainer from a recipe and overrides; ``fit`` trains.

    Only the recipe and the command line determine what is built: unlike in LightningCLI's own ``fit``, a checkpoint to
    resume from does not silently change the hyperparameters.

    Args:
        recipe: YAML file with ``class_path`` and ``init_args`` of model and data, and the trainer's arguments.
        overrides: Further arguments as on the command line, ``["--model.lr", "1e-3"]``.
        run_dir: Default of ``trainer.default_root_dir``.
    """

    def __init__(self, recipe: Path, overrides: list[str], run_dir: Path) -> None:
        self.run_dir = run_dir
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
                save_config_kwargs={"overwrite": True},
                auto_configure_optimizers=False,
                run=False,
                args=["--config", current_file(recipe), *current_overrides(overrides, _method_of(recipe))],
            )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds ``--ckpt_path`` and ``--extractor``, gives runs their own folders and writes checkpoints atomically."""
        parser.add_argument(
            "--extractor",
            type=str | None,
            default=None,
            help="Checkpoint of the classifier with which `python -m zoo evaluate` computes FID and Inception Score.",
        )
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="Checkpoint (.ckpt) to resume from.")
        parser.set_defaults(
            {
                "trainer.default_root_dir": str(self.run_dir),
                "trainer.plugins": [{"class_path": "lightning_modules.runtime.checkpoint_io.AtomicCheckpointIO"}],
            }
        )

    def before_instantiate_classes(self) -> None:
        """Settles the precision, so that the record of the run has it."""
        trainer = self.config["trainer"]
        trainer["precision"] = precision_of_run(trainer["precision"], self.config["ckpt_path"], trainer["accelerator"])

    def fit(self) -> None:
        """Trains, from the start or from ``--ckpt_path``."""
        recipe = yaml.safe_load(self.parser.dump(self.config, skip_check=True))
        for logger in self.trainer.loggers:
            logger.log_hyperparams({part: recipe[part] for part in ("seed_everything", "model", "data", "trainer")})
        self.trainer.fit(self.model, self.datamodule, ckpt_path=self.config["ckpt_path"], weights_only=True)


def _method_of(recipe: Path) -> str:
    config = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    model = config.get("model") if isinstance(config, dict) else None
    return str(model.get("class_path", "")) if isinstance(model, dict) else ""


def train(recipe: Path, overrides: list[str], save_to: Path | None = None) -> Card | None:
    """Trains a recipe and saves the result as a checkpoint of the zoo.

    Args:
        recipe: The recipe's file; its stem names the run.
        overrides: Further arguments of LightningCLI.
        save_to: Folder of the checkpoint; ``zoo`` in the run's folder by default.

    Returns:
        The card, or ``None`` on processes other than the first, and after ``fast_dev_run``.

    Raises:
        ZooError: If a checkpoint cannot be saved to that folder; this is checked before the training.
        KeyboardInterrupt: If the training was stopped by Ctrl-C; nothing is saved then.
    """
    quiet()
    cli = ZooCLI(recipe, overrides, Path("runs") / recipe.stem)
    run_dir = Path(cli.trainer.default_root_dir)
    save_to = save_to or run_dir / "zoo"
    check_target(save_to)
    if run_dir.resolve().is_relative_to(save_to.expanduser().resolve()):
        raise ZooError(f"The checkpoint cannot be saved to {save_to}: the run writes its logs there. Choose another.")
    record = TrainingRecord()
    cli.trainer.callbacks.insert(0, record)  # type: ignore[attr-defined]  # before those that write checkpoints
    with interruptible(cli.trainer):
        cli.fit()
    if not cli.trainer.is_global_zero or cli.trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    from_the_zoo = recipe.parent == recipes_dir()
    return save(
        cli.model,
        save_to,
        name=recipe.stem,
        recipe=recipe.stem if from_the_zoo else None,
        overrides=effective(overrides) if from_the_zoo else (),
        metrics=held_out_measures(cli.trainer),
        training=record.cost(cli.model, cli.trainer.global_step),
        curve=record.curve(),
        trainer=cli.trainer,
    )


def effective(overrides: Sequence[str]) -> list[str]:
    """Returns the arguments, each option with its values, that influence the result of a training."""
    kept: list[str] = []
    keep = True
    for word in overrides:
        if re.match(r"--?[A-Za-z]", word):  # an option, not a negative number
            keep = not WITHOUT_EFFECT.fullmatch(word.lstrip("-").partition("=")[0].rstrip("+"))
        if keep:
            kept.append(word)
    return kept


@contextmanager
def interruptible(trainer: Trainer) -> Iterator[None]:
    """Raises a ``KeyboardInterrupt`` for Ctrl-C in ``trainer.fit``, where Lightning would exit with code 1."""
    try:
        yield
    except SystemExit as error:
        if trainer.interrupted:
            raise KeyboardInterrupt from error
        raise


def quiet() -> None:
    """Silences messages that users cannot act upon."""
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")  # Lightning calling torch
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()
