"""Continues the training of a checkpoint on a folder of images."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules import CaptionedFolder, ImageFolder
from datamodules.spec import DataSpec
from lightning_modules.base import GenerativeModule
from lightning_modules.callbacks.ema import EMA
from lightning_modules.callbacks.samples import SampleGrid
from lightning_modules.parts.capabilities import SupportsAveraging
from lightning_modules.runtime.interruption import interruptible
from lightning_modules.runtime.tracking import Tracking
from zoo.cards import Card
from zoo.checkpoint_folder import announce_replacement, check_target
from zoo.class_change import with_classes
from zoo.cli import quiet
from zoo.data_fit import name_after
from zoo.data_record import take_words
from zoo.errors import ZooError
from zoo.escaping import printable
from zoo.licences import artists_of
from zoo.loading import build, load_folder
from zoo.runs import checkpoint_to_resume
from zoo.saving import save

HALF_LIFE_IMAGES = 10_000
NUM_GRIDS = 10
DONE_ONCE = ("growth_steps", "kl_warmup_steps")
"""Hyperparameters of schedules that a trained model has behind it."""


def fine_tune(
    card: Card,
    data_dir: str,
    out: Path,
    *,
    steps: int = 2000,
    batch_size: int = 64,
    seed: int = 0,
    hold_out: float = 0.0,
    resume: bool = False,
) -> Card | None:
    """Continues the training of a checkpoint of images on a folder of images, and saves the result in ``out``.

    Training starts from the weights of the last step, or from the average of networks of which the checkpoint holds
    nothing else, with new optimizers, because checkpoints of the zoo do not hold their states, and with a new average.
    Losses, grids of samples, and checkpoints from which this fine-tuning can be resumed, are written to the folder
    ``<out>-run``. A class-conditional model gets the classes of the folder, with new embeddings for those that it was
    not trained on.

    Args:
        card: The checkpoint to start from.
        data_dir: Folder of images, with captions for a model of these (see ``CaptionedFolder``), in words that it was
            trained on; they are resized and cropped to the shape of the checkpoint's samples.
        out: Folder of the new checkpoint.
        steps: Number of batches to train.
        batch_size: Images per batch.
        seed: Seed of all random numbers, and of the choice of the images that are held out.
        hold_out: Fraction of the images to keep out of the training, in [0, 1), on which ``evaluate`` measures. With 0,
            all are trained on.
        resume: Whether to continue the fine-tuning in ``<out>-run`` from its last checkpoint.

    Returns:
        The card of the new checkpoint, or ``None`` on processes other than the first.

    Raises:
        ZooError: If the checkpoint does not sample images, ``out`` cannot hold a checkpoint, the folder has no classes
            for a class-conditional model, captions of other words, or there is nothing to resume from.
        ValueError: If ``hold_out`` is out of range, or the folder cannot be used.
        Interrupted: If the training was stopped by Ctrl-C or SIGTERM; it can be resumed then.
    """
    quiet()
    check_target(out)
    run_dir = out.with_name(f"{out.name}-run")
    ckpt_path = checkpoint_to_resume(run_dir) if resume else None
    module = with_schedule(_model_of_images(card), steps)
    weights = f"averaged weights ({', '.join(card.averaged_only)})" if card.averaged_only else "weights"
    start = f"the {weights} of {card.name} with new optimizers: checkpoints of the zoo do not hold their state"
    seed_everything(seed, verbose=False)
    captioned = module.num_words is not None
    datamodule = folder_for(module.data_spec, data_dir, captioned, batch_size=batch_size, seed=seed, hold_out=hold_out)
    if isinstance(datamodule, CaptionedFolder):
        take_words(datamodule, module.data_spec.vocabulary, card.name)
    task = {"checkpoint": card.sha256, "images": datamodule.digest(), "hold_out": hold_out, "seed": seed}
    announce_replacement(out)
    print(f"Resuming from {ckpt_path}." if resume else f"Starting from {printable(start)}.")
    if getattr(module, module.labels_are) is not None:
        module, said = with_classes(module, datamodule.spec)
        print(said)
    trainer = Trainer(
        max_steps=steps,
        accelerator="auto",
        devices=1,
        callbacks=[SameTask(task), *_callbacks(module, steps)],
        logger=Tracking(name=run_dir.name, save_dir=str(run_dir.parent)),
        log_every_n_steps=min(50, steps),
        enable_model_summary=False,
        limit_val_batches=0,
    )
    with interruptible(trainer):
        trainer.fit(module.train(), datamodule, ckpt_path=ckpt_path, weights_only=True)
    if not trainer.is_global_zero:
        return None
    return save(
        module,
        out,
        name=name_after(card.name, datamodule.spec.name, card.data),
        notes=f"Fine-tuned from {card.name} for {steps} batches of {batch_size}. {_use_of(datamodule)}",
        trainer=trainer,
        artists=artists_of(card),
    )


class SameTask(Callback):
    """Keeps in checkpoints what a fine-tuning began from, and refuses to resume it as another.

    Args:
        task: Plain values by name: digests of the checkpoint and of the images, arguments.
    """

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task

    def state_dict(self) -> dict[str, Any]:
        """Returns the task."""
        return dict(self.task)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compares the task of the checkpoint with that of this run.

        Raises:
            ZooError: If they differ; the message names what does.
        """
        if other := [name for name, value in self.task.items() if state_dict.get(name, value) != value]:
            raise ZooError(
                f"This fine-tuning began with another value of {', '.join(other)}: it continues only from the same "
                "checkpoint, on the same images. Give those again, or start anew without --resume."
            )


def with_schedule(module: GenerativeModule, steps: int) -> GenerativeModule:
    """Returns a model whose schedules end within ``steps`` batches; its recipe's fit its own run only.

    A network that grows has done so, and codes whose divergence was warmed up are those of the prior: with the weight
    near zero again they would leave it.
    """
    schedule = {name: min(value, steps) for name, value in module.horizons().items() if value is not None}
    if "decay_steps" in module.hparams:
        schedule["decay_steps"] = steps
    if not schedule:
        return module
    if "warmup_steps" in module.hparams:
        schedule["warmup_steps"] = min(int(module.hparams["warmup_steps"]), steps // 10)
    schedule |= {name: 0 for name in DONE_ONCE if name in module.hparams}
    decayed = build(type(module).__name__, {**module.hparams, **schedule})
    assert isinstance(decayed, GenerativeModule)
    decayed.load_state_dict(module.state_dict())
    decayed.data_spec = module.data_spec
    return decayed


def folder_for(
    spec: DataSpec, data_dir: str, captioned: bool, *, batch_size: int, seed: int, hold_out: float
) -> ImageFolder:
    """Returns a folder of images in the form that a model was trained on, and says what each image is used for.

    Raises:
        ValueError: If ``hold_out`` is not in [0, 1), or the folder has no images.
    """
    if not 0 <= hold_out < 1:
        raise ValueError(f"--hold-out {hold_out} must be a fraction in [0, 1), such as 0.1.")
    channels, height, _ = spec.shape
    arguments: dict[str, Any] = {
        "data_dir": data_dir,
        "image_size": height,
        "grey": channels == 1,
        "batch_size": batch_size,
        "val_size": 0,
        "seed": seed,
        "binarize": spec.is_binarized,
        "dequantize": spec.is_dequantized,
    }
    kind = CaptionedFolder if captioned else ImageFolder
    total = kind(**arguments).num_images
    held_out = max(1, round(hold_out * total)) if hold_out else 0
    if held_out >= total:
        raise ValueError(f"--hold-out {hold_out} leaves none of {total} images to train on; take a smaller fraction.")
    datamodule = kind(**arguments, test_size=held_out)
    print(_use_of(datamodule))
    return datamodule


def _use_of(datamodule: ImageFolder) -> str:
    total, held_out = datamodule.num_images, datamodule.held_out("test")
    if not held_out:
        return f"All {total} images of {datamodule.spec.name} are trained on, and none is held out."
    return (
        f"{total - held_out} of {total} images of {datamodule.spec.name} are trained on; {held_out} are held out, and "
        "`evaluate` measures on these."
    )


def _model_of_images(card: Card) -> GenerativeModule:
    module = load_folder(card.path, card.name, weights="ema" if card.averaged_only else "raw")
    if not isinstance(module, GenerativeModule) or not module.has_data_spec or module.data_spec.kind != "image":
        raise ZooError(f"{card.name} does not sample images, so it cannot be fine-tuned on a folder of images.")
    channels, height, width = module.data_spec.shape
    if height != width:
        raise ZooError(f"{card.name} samples images of {height} x {width}; only square ones can be fine-tuned.")
    if channels not in (1, 3):
        raise ZooError(f"{card.name} samples images of {channels} channels; a folder has grey or coloured ones.")
    return module


def _callbacks(module: GenerativeModule, steps: int) -> list[Callback]:
    every = max(1, steps // NUM_GRIDS)
    # Methods without networks to average, such as a mixture, train without an average.
    averages: list[Callback] = [EMA(HALF_LIFE_IMAGES)] if isinstance(module, SupportsAveraging) else []
    return [
        *averages,
        SampleGrid(every_n_batches=every),
        PeriodicCheckpoint(every_n_train_steps=every, save_top_k=0, save_last=True),
    ]


class PeriodicCheckpoint(ModelCheckpoint):
    """A ``ModelCheckpoint`` that is the same one when a fine-tuning is resumed for another number of batches.

    Lightning knows the states of several by their periods, and would miss the former one.
    """

    @property
    def state_key(self) -> str:
        """The name of its state in a checkpoint."""
        return type(self).__name__
