"""A run that resumes at the end of an epoch: every way to limit and to save it, with loaders of one's own, too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules import SyntheticImages
from lightning_modules import VAE

PER_EPOCH = 6
SAVING: dict[str, dict[str, Any]] = {
    "in its last batch": {"every_n_train_steps": PER_EPOCH},
    "after its validation": {"every_n_epochs": 1},
    "at its end": {"every_n_epochs": 1, "save_on_train_epoch_end": True},
}


VALIDATION: dict[str, dict[str, Any]] = {
    "none": {"limit_val_batches": 0},
    "after every epoch": {"limit_val_batches": 2},
    "after every other epoch": {"limit_val_batches": 2, "check_val_every_n_epoch": 2},
    "after four batches": {"limit_val_batches": 2, "check_val_every_n_epoch": None, "val_check_interval": 4},
}


class Seen(Callback):
    """The bits of every batch."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(getattr(batch, "x", batch[0]).flatten().tolist())


def trained(root: Path, data: str, saving: str, ckpt: Path | None = None, **settings: Any) -> tuple[Any, ...]:
    """Trains a VAE, whose noise is from torch's generator, as seeds of plain loaders are; returns weights, batches."""
    seed_everything(0, verbose=False)
    module, seen = VAE(shape=[1, 4, 4], latent_dim=3, hidden=6, depth=1), Seen()
    trainer = Trainer(
        **settings,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ModelCheckpoint(dirpath=root, filename="{step}", save_top_k=-1, **SAVING[saving]), seen],
    )
    if data == "of the library":
        source = SyntheticImages((1, 4, 4), size=48, val_size=16, test_size=16, batch_size=8, binarize=True)
        trainer.fit(module, source, ckpt_path=ckpt, weights_only=True)
    else:
        bits = torch.rand(24, 1, 4, 4, generator=torch.Generator().manual_seed(0)).gt(0.5).float()
        shuffled, plain = (DataLoader(TensorDataset(bits), batch_size=4, shuffle=shuffle) for shuffle in (True, False))
        trainer.fit(module, shuffled, plain, ckpt_path=ckpt, weights_only=True)
    weights: dict[str, Tensor] = module.state_dict()
    return weights, seen.batches


@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning", "ignore:Checkpoint directory:UserWarning")
@pytest.mark.parametrize(
    ("data", "validation"),
    [
        *(("of the library", validation) for validation in VALIDATION),
        *(("of one's own", validation) for validation in ("none", "after every epoch")),
    ],
)
@pytest.mark.parametrize("limit", [{"max_steps": 15}, {"max_epochs": 3}], ids=["steps", "epochs"])
@pytest.mark.parametrize("saving", SAVING)
def test_nothing_is_repeated_and_nothing_left_out(
    saving: str, limit: dict[str, int], data: str, validation: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"data": data, "saving": saving, **limit, **VALIDATION[validation]}
    weights, batches = trained(tmp_path / "whole", **settings)
    done = next(step for step in (PER_EPOCH, 2 * PER_EPOCH) if (tmp_path / f"whole/step={step}.ckpt").exists())
    again, rest = trained(tmp_path / "rest", ckpt=tmp_path / f"whole/step={done}.ckpt", **settings)
    assert rest == batches[done:]
    assert all(torch.equal(weights[name], again[name]) for name in weights)
