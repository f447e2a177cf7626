"""Continues the training of a checkpoint on a folder of images."""

from pathlib import Path

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules import ImageFolder
from lightning_modules.base import GenerativeModule
from lightning_modules.callbacks.ema import EMA
from lightning_modules.callbacks.samples import SampleGrid
from lightning_modules.runtime.interruption import interruptible
from lightning_modules.runtime.tracking import Tracking
from zoo.cards import Card
from zoo.cli import quiet
from zoo.errors import ZooError
from zoo.loading import build, load_folder
from zoo.runs import checkpoint_to_resume
from zoo.saving import announce_replacement, check_target, save

HALF_LIFE_IMAGES = 10_000
NUM_GRIDS = 10


def fine_tune(
    card: Card,
    data_dir: str,
    out: Path,
    *,
    steps: int = 2000,
    batch_size: int = 64,
    seed: int = 0,
    resume: bool = False,
) -> Card | None:
    """Continues the training of a checkpoint of images on a folder of images, and saves the result in ``out``.

    Training starts from the weights of the last step, with new optimizers, because checkpoints of the zoo do not hold
    their states, and with a new average. Losses, grids of samples and checkpoints from which this fine-tuning can be
    resumed are written to the folder ``<out>-run``.

    Args:
        card: The checkpoint to start from.
        data_dir: Folder of images; they are resized and cropped to the shape of the checkpoint's samples.
        out: Folder of the new checkpoint.
        steps: Number of batches to train.
        batch_size: Images per batch.
        seed: Seed of all random numbers.
        resume: Whether to continue the fine-tuning in ``<out>-run`` from its last checkpoint.

    Returns:
        The card of the new checkpoint, or ``None`` on processes other than the first.

    Raises:
        ZooError: If the checkpoint does not sample images without labels, ``out`` cannot hold a checkpoint, or there is
            nothing to resume from.
        Interrupted: If the training was stopped by Ctrl-C or SIGTERM; it can be resumed then.
    """
    quiet()
    check_target(out)
    run_dir = out.with_name(f"{out.name}-run")
    ckpt_path = checkpoint_to_resume(run_dir) if resume else None
    announce_replacement(out)
    module = load_folder(card.path, card.name, weights="raw")
    if not isinstance(module, GenerativeModule) or not module.has_data_spec or module.data_spec.kind != "image":
        raise ZooError(f"{card.name} does not sample images, so it cannot be fine-tuned on a folder of images.")
    spec = module.data_spec
    channels, height, width = spec.shape
    if height != width:
        raise ZooError(f"{card.name} samples images of {height} x {width}; only square ones can be fine-tuned.")
    start = f"the weights of {card.name} with new optimizers: checkpoints of the zoo do not hold their state"
    print(f"Resuming from {ckpt_path}." if resume else f"Starting from {start}.")
    if "decay_steps" in module.hparams:  # the recipe's decay fits only the length of the recipe's run
        decayed = build(card.method, {**card.hyperparameters, "decay_steps": steps})
        decayed.load_state_dict(module.state_dict())
        module = decayed
    seed_everything(seed, verbose=False)
    datamodule = ImageFolder(data_dir=data_dir, image_size=height, grey=channels == 1, batch_size=batch_size, seed=seed)
    trainer = Trainer(
        max_steps=steps,
        accelerator="auto",
        devices=1,
        callbacks=[
            EMA(half_life_images=HALF_LIFE_IMAGES),
            SampleGrid(every_n_batches=max(1, steps // NUM_GRIDS)),
            ModelCheckpoint(every_n_train_steps=max(1, steps // NUM_GRIDS), save_top_k=0, save_last=True),
        ],
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
        name=f"{card.name}.fine-tuned",
        notes=f"Fine-tuned from {card.name} for {steps} batches of {batch_size}.",
        trainer=trainer,
    )
