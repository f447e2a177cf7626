"""Plain ``strategy="ddp"`` on two real processes equals one process on the union batch, for every method.

One pair of processes trains every method of the registry: starting a pair takes ten seconds, training in it next to
nothing.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_modules import METHODS
from lightning_modules.networks.equalized import MinibatchStd
from lightning_modules.runtime.flags import refuse_unsupported_strategy
from tests import pair
from tests.read_wandb import read
from tests.training import DOUBLE, GLOBAL_BATCH, build, train

TIMEOUT_SECONDS = 270
# Sums of eight numbers in another order, in float32, through six steps of Adam or RMSprop. Adam divides by the size of
# a gradient, so that a weight whose gradient is all rounding differs by a share of a step, of 2e-3 where it is largest.
CLOSE: dict[str, Any] = {"atol": 2e-5, "rtol": 2e-5}
# Codes of variance 1 are the encoder's divided by their spread, 0.01 at the start, and a chain does so at each step.
# The largest difference was 3e-11.
CLOSE_IN_DOUBLE: dict[str, Any] = {"atol": 1e-9, "rtol": 0.0}

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both processes write."""
    return tmp_path_factory.mktemp("pair")


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    """What both processes had at the end."""
    with subprocess.Popen(
        [sys.executable, pair.__file__, str(folder)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the second process is a child of the first
            pytest.fail(f"Two processes did not finish in {TIMEOUT_SECONDS} s.")
    assert process.returncode == 0, output
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def built(method: str) -> LightningModule:
    seed_everything(7, verbose=False)
    return build(method)[0]


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_equal_one_on_the_union_batch(method: str, ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["methods"][method] for rank in ranks)
    assert first["strategy"] == "DDPStrategy"
    assert first["global_step"] == second["global_step"] == pair.STEPS
    parameters = dict(built(method).named_parameters())
    assert_equal(*({n: t for n, t in rank["weights"].items() if n in parameters} for rank in (first, second)))

    precision, close = DOUBLE.get(method, "32-true"), CLOSE_IN_DOUBLE if method in DOUBLE else CLOSE
    trainer, alone, record = train(method, pair.STEPS, global_noise=True, precision=precision)
    union = [torch.cat(parts) for parts in zip(first["batches"], second["batches"], strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(union, record.batches, strict=True))
    assert len(first["batches"][0]) == GLOBAL_BATCH // 2

    if any(isinstance(layer, (_BatchNorm, MinibatchStd)) for layer in alone.modules()):
        return  # statistics are of each process's own half: another, documented, computation
    start = built(method).state_dict()
    own = alone.state_dict()
    assert any(not torch.allclose(own[name], start[name].to(own[name].dtype), **CLOSE) for name in parameters)
    for name in own:
        torch.testing.assert_close(first["weights"][name], own[name], **close)


@pytest.mark.parametrize("run", ["methods", "convolutional"])
def test_averages_are_equal_on_both_and_so_is_what_validation_sees(run: str, ranks: list[dict[str, Any]]) -> None:
    results = [rank[run] if run == "methods" else {run: rank[run]} for rank in ranks]
    for first, second in zip(*(result.values() for result in results), strict=True):
        assert_equal(first["validation"], second["validation"])
        names = [name for name in first["averages"] if name not in first["validation"]]
        assert_equal(*({name: rank["averages"][name] for name in names} for rank in (first, second)))


def test_batch_statistics_would_differ(ranks: list[dict[str, Any]]) -> None:
    """At the end of training nobody has broadcast them, so what validation saw was equal because it was broadcast."""
    first, second = (rank["convolutional"] for rank in ranks)
    statistics = [name for name in first["weights"] if name.endswith("running_mean")]
    assert statistics
    assert set(statistics) <= first["validation"].keys()
    assert any(name.startswith("ema.") for name in first["validation"])
    assert any(not torch.equal(first["weights"][name], second["weights"][name]) for name in statistics)


def test_each_process_has_random_numbers_of_its_own_and_resumes_with_them(ranks: list[dict[str, Any]]) -> None:
    for kind in range(3):
        assert ranks[0]["whole"]["random_numbers"][kind] != ranks[1]["whole"]["random_numbers"][kind]
    for rank in ranks:
        whole, resumed = rank["whole"], rank["resumed"]
        assert whole["random_numbers"] == resumed["random_numbers"]
        assert_equal(whole["weights"], resumed["weights"])
        assert_equal(whole["averages"], resumed["averages"])
        assert len(resumed["batches"]) == pair.STEPS - 3
        assert all(torch.equal(a, b) for a, b in zip(whole["batches"][3:], resumed["batches"], strict=True))


def test_gradients_are_means_over_processes(ranks: list[dict[str, Any]]) -> None:
    for reductions in (rank["reductions"] for rank in ranks):
        expected = torch.arange(120.0).view(2, 3, 4, 5) * 1.5
        assert torch.equal(reductions["everywhere"], expected)
        assert torch.equal(reductions["here"], torch.full((3,), 0.5))
        assert reductions["nowhere"] is None
        assert torch.equal(reductions["double"], torch.full((4,), (1 + 1e-12) / 2, dtype=torch.float64))
        assert reductions["losses"].tolist() == [1.0, float("inf")]
        assert not reductions["losses"].requires_grad
        assert reductions["scalar"] == 0.5
        buffers = reductions["buffers"]
        assert buffers["running_mean"].tolist() == [1, 1, 1]
        assert buffers["num_batches_tracked"] == 10
        assert buffers["flags"].tolist() == [True, False]


def test_batch_statistics_are_of_the_batches_of_all_processes(ranks: list[dict[str, Any]]) -> None:
    x = torch.arange(24.0, dtype=torch.float64).view(3, 2, 4).square().requires_grad_()
    variance, mean = torch.var_mean(x, (0, 2), correction=0)
    inverse = torch.rsqrt(variance + 1.0)
    (2 * (mean.sum() + inverse.square().sum())).backward()  # the sum of both processes' losses
    assert x.grad is not None
    for found, own in zip((rank["batch_statistics"] for rank in ranks), (slice(1, None), slice(1)), strict=True):
        torch.testing.assert_close(found["mean"], mean.detach())
        torch.testing.assert_close(found["inverse"], inverse.detach())
        torch.testing.assert_close(found["gradient"], x.grad[own])


def test_a_nan_on_one_process_stops_both_with_the_same_message(ranks: list[dict[str, Any]]) -> None:
    (at_first, later), other = (rank["poisoned"] for rank in ranks)
    assert "WGANGP" in at_first
    assert "NaN" in at_first
    assert "batch 2" in later
    assert "discriminator=nan" in later
    assert [at_first, later] == other


@pytest.mark.parametrize(
    ("strategy", "named"),
    [
        (DDPStrategy(static_graph=True), "static_graph"),
        (FSDPStrategy.__new__(FSDPStrategy), "FSDPStrategy"),
    ],
)
def test_strategies_that_train_wrongly_are_refused(strategy: Any, named: str) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(LightningModule())
    refuse_unsupported_strategy(trainer, num_optimizers=2)
    strategy.__dict__.update(_lightning_module=LightningModule())
    trainer._accelerator_connector.strategy = strategy
    refuse_unsupported_strategy(trainer, num_optimizers=1)
    with pytest.raises(ValueError, match=rf'{named}.*2 optimizers.*strategy="ddp"'):
        refuse_unsupported_strategy(trainer, num_optimizers=2)


@pytest.mark.usefixtures("ranks")
def test_one_process_tracks_for_all(folder: Path) -> None:
    (run,) = (read(path) for path in (folder / "run" / "wandb").glob("offline-run-*"))
    logged = [row["trainer/global_step"] for row in run["history"] if "train/discriminator" in row]
    assert logged == [1, 3, 5]
    checkpoint = torch.load(folder / "whole" / "last.ckpt", weights_only=True)
    assert checkpoint["run_id"] == run["id"]


@pytest.mark.usefixtures("ranks")
def test_resuming_on_another_number_of_processes_is_refused(folder: Path) -> None:
    checkpoint = str(folder / "whole" / "step=3.ckpt")
    with pytest.raises(ValueError, match=r"\b2\b.*\b1\b"):
        train("WGANGP", pair.STEPS, "run", ckpt_path=checkpoint, overrides={"critic_steps": 2})
