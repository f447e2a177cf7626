"""Loaders that are passed to the Trainer instead of a datamodule: on one process and on two, resumed, repeated.

Each of the two processes makes its loaders before there is a process group, as a user's script does.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, TensorDataset

from datamodules.datamodule import ZooDataModule
from datamodules.loader import TensorSource
from datamodules.sequences.text import TextFile
from datamodules.spec import Batch
from lightning_modules import METHODS
from tests import training
from tests.processes import on_two
from tests.standins import quiet_trainer

SMALL: dict[str, dict[str, Any]] = {
    "Gaussian": {},
    "RBM": {"num_hidden": 4, "schedule": 200, "num_chains": 10, "num_reversed": 30},
    "VAE": {"hidden": 4, "latent_dim": 2, "num_tested": 20},
    "WGANGP": {"width": 4, "latent_dim": 2, "critic_steps": 1},
    "TeacherForcing": {"width": 4},
    "Classifier": {"width": 4},
}
"""One method of each family."""
PROCESSES = 2
HELD_OUT = 11

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no:UserWarning")


class Seen(Callback):
    """Remembers the examples of each training batch."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, index: int) -> None:
        self.batches.append(batch.x.clone())


def made(method: str, processes: int = 1, total: int | None = None) -> tuple[Any, training.TinyData]:
    """A small model, the same each time, and its data, of which every process takes a part."""
    torch.manual_seed(0)
    module, shape = training.build(method, **SMALL[method])
    data = training.TinyData(shape, training.GLOBAL_BATCH // processes, **training.data_of(method))
    data.setup()
    for split, source in data.sources.items() if total else ():
        assert isinstance(source, TensorSource)
        data.sources[split] = TensorSource(source.data[:total], source.labels[:total], source.field)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module, data


def trainer(processes: int, **settings: Any) -> Trainer:
    return quiet_trainer(**{"devices": processes, "strategy": "ddp" if processes > 1 else "auto", **settings})


def plain(data: training.TinyData, kind: str = "sequential") -> DataLoader[Any]:
    """A user's own loader of the held-out data."""
    source: Any = data.sources["test"]
    examples = TensorDataset(source.data, source.labels)
    if kind == "batch sampler":
        return DataLoader(examples, batch_sampler=Chunks(SequentialSampler(examples), 3, drop_last=False))
    return DataLoader(examples, data.batch_size)


class Chunks(BatchSampler):
    """A batch sampler of the user's own. (Lightning cannot split a plain ``BatchSampler``.)"""


class Endless(IterableDataset[Tensor]):
    """The same examples for whoever asks."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.linspace(-1, 1, 40).view(20, 2))


def text(folder: str, processes: int) -> TextFile:
    path = Path(folder) / "text.txt"
    if not path.exists():  # of two processes one would read what the other is writing
        path.write_text("abcdefgh" * 100)
    streams: Any = {"training": "streams", "evaluation": "streams", "evaluation_streams": 4}
    data = TextFile(str(path), window=5, batch_size=4 // processes, **streams)
    data.setup()
    return data


def observed(processes: int, folder: str) -> dict[str, Any]:
    """Trains and measures with loaders passed, and returns what is seen and measured."""
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {}
    for method in SMALL:
        module, data = made(method, processes)
        seen = Seen()
        runner = trainer(processes, callbacks=[seen], num_sanity_val_steps=0)
        runner.fit(module, data.train_dataloader(), data.val_dataloader())
        found[f"batches {method}"] = seen.batches
        found[f"steps {method}"] = runner.global_step
        module, data = made(method, processes, HELD_OUT)
        runner = trainer(processes)
        for kind, loader in {
            "own": data.val_dataloader(),
            "plain": plain(data),
            "batch sampler": plain(data, "batch sampler"),
            "several": [plain(data), data.val_dataloader()],
            "not split": plain(data),
        }.items():
            if kind == "not split":
                runner = trainer(processes, use_distributed_sampler=False)
            measured = runner.validate(module, loader, verbose=False)[0]
            measured |= runner.test(module, loader, verbose=False)[0]
            found[f"{kind} {method}"] = measured
    module, data = made("Gaussian", processes)
    seen = Seen()
    alone = trainer(processes, callbacks=[seen], num_sanity_val_steps=0, use_distributed_sampler=False)
    alone.fit(module, data.train_dataloader(), data.val_dataloader())
    found["batches no sampler"] = seen.batches
    data, seen = text(folder, processes), Seen()
    module = METHODS["TeacherForcing"].for_data(data.spec, width=4)
    loaders = data.train_dataloader(), data.val_dataloader()
    trainer(processes, callbacks=[seen], num_sanity_val_steps=0, limit_val_batches=2).fit(module, *loaders)
    found["batches text"] = seen.batches
    return found


def warned(processes: int) -> list[str]:
    """Trains on a loader that no one splits; returns the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module, _ = made("Gaussian", processes)
        trainer(processes, max_steps=1).fit(module, DataLoader(Endless(), 4))
    return [str(warning.message) for warning in caught]


def both(folder: str) -> tuple[dict[str, Any], list[str]]:
    return observed(PROCESSES, folder), warned(PROCESSES)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Any]]:
    """What one process sees, and what each of two does."""
    folder = str(tmp_path_factory.mktemp("text"))
    return observed(1, folder), on_two(both, folder)


@pytest.mark.parametrize("method", [*SMALL, "text", "no sampler"])
def test_processes_share_the_batches_of_a_passed_loader(method: str, results: tuple[Any, list[Any]]) -> None:
    one, ((first, _), (second, _)) = results
    whole = one[f"batches {method}"]
    assert len(whole) >= 5
    for expected, left, right in zip(whole, *(rank[f"batches {method}"] for rank in (first, second)), strict=True):
        steps = max(left.shape[1], right.shape[1])
        assert torch.equal(torch.cat([left[:, :steps], right[:, :steps]]), expected)
    assert not torch.equal(first[f"batches {method}"][0], second[f"batches {method}"][0])


@pytest.mark.parametrize("method", SMALL)
@pytest.mark.parametrize("kind", ["own", "plain", "batch sampler", "several", "not split"])
def test_every_example_is_measured_once_on_two_processes(
    kind: str, method: str, results: tuple[Any, list[Any]]
) -> None:
    """The number of examples is odd: Lightning's sampler repeats one."""
    one, ranks = results
    expected = one[f"own {method}"]
    if kind == "several":
        expected = {f"{name}/dataloader_idx_{i}": value for name, value in expected.items() for i in (0, 1)}
    assert expected
    for found in (one, *(rank for rank, _ in ranks)):
        measured = found[f"{kind} {method}"]
        assert measured == {name: pytest.approx(value, rel=1e-4, abs=1e-5) for name, value in expected.items()}


def test_a_loader_that_no_one_splits_is_said_to_be_read_twice(results: tuple[Any, list[Any]]) -> None:
    said = results[1][0][1]
    assert [line for line in said if "Gaussian" in line and "same batch on all 2 processes" in line]
    assert not [line for line in warned(1) if "same batch" in line]


# Resuming, limits, repeats


class SaveAt(Callback):
    """Saves a checkpoint after a number of steps, in the hook of this name."""

    def __init__(self, path: Path, hook: str, step: int) -> None:
        self.path, self.hook, self.step = path, hook, step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if (self.hook, trainer.global_step) == ("batch", self.step):
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer: Trainer, *args: Any) -> None:
        if (self.hook, trainer.global_step) == ("epoch", self.step):
            trainer.save_checkpoint(self.path)


class Foreign(LightningDataModule):
    """A datamodule of the user's own, with the loader of this library."""

    def __init__(self, data: ZooDataModule) -> None:
        super().__init__()
        self.data = data

    def train_dataloader(self) -> Any:
        return self.data.train_dataloader()


def passed_to(how: str, data: ZooDataModule) -> Any:
    loader = data.train_dataloader()
    return {"loader": loader, "list": [loader], "foreign": Foreign(data)}[how]


@pytest.mark.parametrize("method", ["Gaussian", "Classifier"])  # the latter asks for the length of the run
@pytest.mark.parametrize(
    ("how", "hook", "step", "settings"),
    [
        ("loader", "batch", 7, {}),
        ("loader", "batch", 10, {}),
        ("loader", "epoch", 10, {}),
        ("list", "batch", 7, {}),
        ("foreign", "batch", 7, {}),
        ("foreign", "epoch", 10, {}),
        ("loader", "batch", 8, {"limit_train_batches": 4}),
        ("loader", "epoch", 4, {"limit_train_batches": 0.4}),
        ("loader", "batch", 7, {"overfit_batches": 5}),
        ("foreign", "epoch", 10, {"reload_dataloaders_every_n_epochs": 1}),
    ],
)
def test_a_run_on_a_passed_loader_resumes_exactly(
    method: str, how: str, hook: str, step: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    def run(ckpt_path: Path | None = None) -> list[Tensor]:
        module, data = made(method)
        seen, save = Seen(), SaveAt(tmp_path / "run.ckpt", hook, step)
        runner = trainer(1, callbacks=[seen, save], max_epochs=3, **settings)
        runner.fit(module, passed_to(how, data), ckpt_path=ckpt_path, weights_only=True)
        return seen.batches

    whole = run()
    assert torch.equal(torch.stack(run(tmp_path / "run.ckpt")), torch.stack(whole[step:]))


@pytest.mark.parametrize("method", SMALL)
@pytest.mark.parametrize("how", ["datamodule", "loader", "foreign"])
def test_overfitting_repeats_the_same_batches(method: str, how: str) -> None:
    module, data = made(method)
    seen = Seen()
    given = data if how == "datamodule" else passed_to(how, data)
    trainer(1, callbacks=[seen], max_epochs=3, overfit_batches=2).fit(module, given)
    assert len(seen.batches) == 6
    assert not torch.equal(seen.batches[0], seen.batches[1])
    for number in range(2, 6):
        assert torch.equal(seen.batches[number], seen.batches[number - 2])


@pytest.mark.parametrize("how", ["datamodule", "loader"])
def test_reloading_does_not_repeat_an_epoch(how: str) -> None:
    module, data = made("Gaussian")
    seen = Seen()
    runner = trainer(1, callbacks=[seen], max_epochs=2, reload_dataloaders_every_n_epochs=1)
    runner.fit(module, data if how == "datamodule" else data.train_dataloader())
    assert len(seen.batches) == 10
    assert not torch.equal(seen.batches[0], seen.batches[5])


def test_a_loader_made_after_a_run_is_for_the_next() -> None:
    """The trainer of the first run stays attached to the datamodule."""
    module, data = made("Gaussian")
    trainer(1, max_epochs=2).fit(module, data)
    second = Seen()
    trainer(1, callbacks=[second]).fit(made("Gaussian")[0], data.train_dataloader())
    fresh = Seen()
    trainer(1, callbacks=[fresh]).fit(*made("Gaussian"))
    assert torch.equal(torch.stack(second.batches), torch.stack(fresh.batches))


def test_several_training_loaders_are_refused() -> None:
    module, data = made("Gaussian")
    with pytest.raises(ValueError, match="Gaussian trains on one loader, but was given 2.*ConcatDataset"):
        trainer(1).fit(module, [plain(data), plain(data)])


class Count(Callback):
    """Counts batches, and validations outside of the sanity check."""

    def __init__(self) -> None:
        self.trained = self.validated = self.validations = self.checked = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.trained += 1

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.validated += not trainer.sanity_checking
        self.checked += trainer.sanity_checking

    def on_validation_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        self.validations += not trainer.sanity_checking


@pytest.mark.parametrize("method", ["Gaussian", "WGANGP", "TeacherForcing"])
@pytest.mark.parametrize(
    ("settings", "counts"),  # of an epoch of five batches and a validation of six
    [
        ({"fast_dev_run": 2}, (2, 2, 1, 0)),
        ({"limit_train_batches": 2, "limit_val_batches": 1}, (4, 2, 2, 1)),
        ({"limit_train_batches": 0.4, "limit_val_batches": 0.5}, (4, 6, 2, 2)),
        ({"num_sanity_val_steps": -1, "reload_dataloaders_every_n_epochs": 1}, (10, 12, 2, 6)),
        ({"num_sanity_val_steps": 0, "check_val_every_n_epoch": 2}, (10, 6, 1, 0)),
        ({"check_val_every_n_epoch": None, "val_check_interval": 3}, (10, 18, 3, 2)),
        ({"overfit_batches": 2}, (4, 4, 2, 2)),
    ],
    ids=str,
)
def test_options_of_the_trainer_mean_what_they_say(
    method: str, settings: dict[str, Any], counts: tuple[int, ...]
) -> None:
    module, data = made(method)
    found = []
    for given in ((data,), (data.train_dataloader(), data.val_dataloader())):
        count = Count()
        quiet_trainer(**{"max_epochs": 2, "callbacks": [count], **settings}).fit(made(method)[0], *given)
        found.append((count.trained, count.validated, count.validations, count.checked))
    assert found == [counts, counts]
