"""Datamodules under a real Trainer: exact resuming, loaders that Lightning leaves alone, two processes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules import DATAMODULES, Batch, Ring, SyntheticImages
from datamodules.datamodule import ZooDataModule
from datamodules.loader import TrainingLoader
from tests.datamodules.small_emoji import captioned_folder
from tests.processes import on_two

BATCHES = 6


class Recorder(LightningModule):
    """Keeps the examples of each batch and takes one gradient step on them."""

    def __init__(self, asks_for_length: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.batches: list[Tensor] = []
        self.asks_for_length = asks_for_length

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.batches.append(batch.x.clone())
        return self.layer(batch.x).square().mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val/mean", batch.x.mean(), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.asks_for_length:  # Lightning then loses the state of the loader when a run is resumed
            assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.01)


class SaveAt(Callback):
    """Saves a checkpoint once, in this hook, after this many steps."""

    def __init__(self, path: Path, hook: str, step: int) -> None:
        self.path, self.hook, self.step = path, hook, step

    def save(self, trainer: Trainer, hook: str) -> None:
        if (hook, trainer.global_step) == (self.hook, self.step):
            trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self.save(trainer, "batch")

    def on_train_epoch_end(self, trainer: Trainer, *args: Any) -> None:
        self.save(trainer, "epoch")

    def on_validation_end(self, trainer: Trainer, *args: Any) -> None:
        self.save(trainer, "validation")


def quiet(**arguments: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        **arguments,
    )


def run(arguments: dict[str, Any], save: SaveAt | None = None, resume: Path | None = None, **module: Any) -> Recorder:
    torch.manual_seed(0)
    recorder = Recorder(**module)
    data = Ring(train_size=8 * BATCHES + 2, val_size=10, test_size=1, batch_size=8, fresh=True)
    trainer = quiet(callbacks=[save] if save else [], **arguments)
    trainer.fit(recorder, datamodule=data, ckpt_path=resume, weights_only=True)
    return recorder


@pytest.mark.parametrize(
    ("hook", "step"),
    [("batch", BATCHES + 2), ("batch", 2 * BATCHES), ("epoch", 2 * BATCHES), ("validation", 2 * BATCHES)],
)
@pytest.mark.parametrize(
    "stop", [{"max_epochs": 4}, {"max_steps": 4 * BATCHES, "max_epochs": -1}], ids=["epochs", "steps"]
)
@pytest.mark.parametrize("asks_for_length", [False, True])
def test_a_resumed_run_equals_the_uninterrupted_one(
    tmp_path: Path, hook: str, step: int, stop: dict[str, int], asks_for_length: bool
) -> None:
    whole = run(stop, SaveAt(tmp_path / "run.ckpt", hook, step), asks_for_length=asks_for_length)
    resumed = run(stop, resume=tmp_path / "run.ckpt", asks_for_length=asks_for_length)
    assert len(whole.batches) == 4 * BATCHES
    assert torch.equal(torch.stack(resumed.batches), torch.stack(whole.batches[step:]))
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


@pytest.mark.parametrize(
    "extra", [{"limit_train_batches": 4}, {"limit_train_batches": 0.7}, {"reload_dataloaders_every_n_epochs": 1}]
)
@pytest.mark.parametrize("hook", ["batch", "epoch"])
def test_resuming_respects_the_limit_of_an_epoch(tmp_path: Path, extra: dict[str, Any], hook: str) -> None:
    arguments = {"max_epochs": 4, **extra}
    step = 2 * (4 if "limit_train_batches" in extra else BATCHES)
    whole = run(arguments, SaveAt(tmp_path / "run.ckpt", hook, step))
    resumed = run(arguments, resume=tmp_path / "run.ckpt")
    assert len(whole.batches) == 2 * step
    assert torch.equal(torch.stack(resumed.batches), torch.stack(whole.batches[step:]))


def test_a_callback_that_reads_the_training_data_does_not_disturb_resuming(tmp_path: Path) -> None:
    class Reads(SaveAt):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            next(iter(trainer.datamodule.train_dataloader()))  # type: ignore[attr-defined]
            super().on_train_batch_end(trainer, *args)

    whole = run({"max_epochs": 2}, Reads(tmp_path / "run.ckpt", "batch", 3))
    resumed = run({"max_epochs": 2}, resume=tmp_path / "run.ckpt")
    assert torch.equal(torch.stack(resumed.batches), torch.stack(whole.batches[3:]))


def test_a_second_fit_continues_with_the_next_epoch() -> None:
    data = Ring(train_size=50, val_size=10, test_size=0, batch_size=8)
    recorder = Recorder()
    trainer = quiet(max_epochs=1)
    trainer.fit(recorder, datamodule=data)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(recorder, datamodule=data)
    loader = TrainingLoader(data.source("train"), 8)
    expected = [x for x, _ in loader] + [x for x, _ in loader]
    assert torch.equal(torch.stack(recorder.batches), torch.stack(expected))


def test_loaders_are_not_dataloaders_and_know_their_length() -> None:
    data = SyntheticImages(size=100, val_size=10, test_size=10, batch_size=8)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert not isinstance(loader, (DataLoader, list))
        assert len(loader) == len(list(loader))


def test_a_split_of_size_0_has_no_loader() -> None:
    data = SyntheticImages(size=100, val_size=0, test_size=0, batch_size=8)
    assert data.val_dataloader() == data.test_dataloader() == []
    with pytest.raises(ValueError, match=r"\bval .*synthetic.*val_size"):
        data.images("val")


def test_an_unknown_split_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="split='valid' .*train, val, test"):
        SyntheticImages().images("valid")


@pytest.mark.parametrize("name", sorted(DATAMODULES))
def test_hyperparameters_are_json_values(name: str, tmp_path: Path) -> None:
    captioned_folder(tmp_path / "pets")
    (tmp_path / "a.txt").write_text("some text")
    folder = {"data_dir": str(tmp_path / "pets")}
    needed = {
        "ImageFolder": folder,
        "CaptionedFolder": folder,
        "SingleImage": {"path": str(tmp_path / "pets/cat/00.png")},
        "TextFile": {"path": str(tmp_path / "a.txt")},
    }
    data = DATAMODULES[name](**needed.get(name, {}))
    assert isinstance(data, ZooDataModule)
    assert json.loads(json.dumps(dict(data.hparams))) == dict(data.hparams)
    assert {"seed", "batch_size"} <= set(data.hparams)
    torch.save(dict(data.hparams), tmp_path / "hparams.pt")
    assert torch.load(tmp_path / "hparams.pt", weights_only=True) == dict(data.hparams)
    assert data.spec.from_json(json.loads(json.dumps(data.spec.to_json()))) == data.spec


def test_resuming_on_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    run({"max_epochs": 1}, SaveAt(path, "batch", 3))
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["Ring"]["training_loader"]["world_size"] = 2
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=r"\b2 .*\b1\b"):
        run({"max_epochs": 1}, resume=path)


class Sums(LightningModule):
    """Keeps the sum and the label of every example, by which it is recognized."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[list[list[float]]] = []
        self.evaluated: list[list[float]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert batch.labels is not None
        self.seen.append([batch.x.double().sum((1, 2, 3)).tolist(), batch.labels.tolist()])
        return (self.scale * batch.x).mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluated.append(batch.x.double().sum((1, 2, 3)).tolist())
        self.log("mean", batch.x.double().mean(), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def observe(processes: int, batch_size: int) -> tuple[int, list[Any]]:
    """Trains for two epochs; returns the rank, and the examples of training and of validation with their mean."""
    data = SyntheticImages([1, 6, 6], size=50, val_size=20, test_size=4, batch_size=batch_size, binarize=True)
    trainer = quiet(max_epochs=2, devices=processes, strategy="ddp" if processes > 1 else "auto")
    module = Sums()
    trainer.fit(module, datamodule=data)
    return trainer.global_rank, [module.seen, module.evaluated, trainer.callback_metrics["mean"].item()]


def test_two_processes_see_what_one_sees() -> None:
    (_, first), (_, second) = on_two(observe, 2, 4)
    _, one = observe(1, 8)
    assert len(one[0]) == 12
    for whole, left, right in zip(one[0], first[0], second[0], strict=True):
        assert [left[part] + right[part] for part in (0, 1)] == whole
    assert len(first[1]) == len(second[1])
    assert sorted(sum(first[1] + second[1], [])) == sorted(sum(one[1], []))
    assert first[2] == second[2] == pytest.approx(one[2], abs=1e-6)
