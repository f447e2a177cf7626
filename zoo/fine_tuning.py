"""Going on from a checkpoint on one's own pictures."""

from pathlib import Path

from lightning.pytorch import Trainer, seed_everything

from datamodules import ImageFolder
from lightning_modules.callbacks.ema import EMA
from lightning_modules.callbacks.samples import SampleGrid
from lightning_modules.tracking import Tracking
from zoo.cards import Card
from zoo.cli import interruptible, quiet
from zoo.errors import ZooError
from zoo.loading import build, load_folder
from zoo.saving import check_target, save

HALF_LIFE_IMAGES = 10_000
NUM_GRIDS = 10


def fine_tune(
    card: Card, data_dir: str, out: Path, *, steps: int = 2000, batch_size: int = 64, seed: int = 0
) -> Card | None:
    """Trains a checkpoint of pictures further on a folder of pictures and saves the result in ``out``.

    It starts from the last step's weights with fresh optimizers, whose state no checkpoint of the zoo holds, and
    keeps a new average. Losses and grids of samples go to ``<out>-run`` beside it.

    Args:
        card: Where to start from.
        data_dir: Folder of pictures; they are resized and cropped to what the checkpoint draws.
        out: Where to write.
        steps: Batches to train.
        batch_size: Pictures a batch.
        seed: Seed of all randomness.

    Returns:
        The card of the new checkpoint, or ``None`` on processes other than the first.

    Raises:
        ZooError: If the checkpoint does not draw unlabelled pictures, or ``out`` is no place for a checkpoint.
        KeyboardInterrupt: If the training was stopped by Ctrl-C; nothing is saved then.
    """
    quiet()
    check_target(out)
    module = load_folder(card.path, card.name, weights="raw")
    spec = module.data_spec
    if spec is None or spec.kind != "image" or not hasattr(module, "sample"):
        raise ZooError(f"{card.name} draws no pictures, so a folder of pictures cannot fine-tune it.")
    channels, height, width = spec.shape
    if height != width:
        raise ZooError(f"{card.name} draws pictures of {height} x {width}; only square ones can be fine-tuned.")
    print(f"Starting from the weights of {card.name} with fresh optimizers: their state is in no zoo checkpoint.")
    if "decay_steps" in module.hparams:  # the recipe's decay belongs to its own length
        decayed = build(card.method, {**card.hyperparameters, "decay_steps": steps})
        decayed.load_state_dict(module.state_dict())
        module = decayed
    seed_everything(seed, verbose=False)
    datamodule = ImageFolder(data_dir=data_dir, image_size=height, grey=channels == 1, batch_size=batch_size, seed=seed)
    trainer = Trainer(
        max_steps=steps,
        accelerator="auto",
        devices=1,
        callbacks=[EMA(half_life_images=HALF_LIFE_IMAGES), SampleGrid(every_n_batches=max(1, steps // NUM_GRIDS))],
        logger=Tracking(name=f"{out.name}-run", save_dir=str(out.parent)),
        log_every_n_steps=min(50, steps),
        enable_checkpointing=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    with interruptible(trainer):
        trainer.fit(module.train(), datamodule)
    if not trainer.is_global_zero:
        return None
    return save(
        module,
        out,
        name=f"{card.name}.fine-tuned",
        notes=f"Fine-tuned from {card.name} for {steps} batches of {batch_size}.",
        trainer=trainer,
    )
