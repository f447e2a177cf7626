"""Interrupted and resumed equals uninterrupted, bit for bit, whatever interrupted it."""

import signal
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules import METHODS
from lightning_modules.runtime.checkpoint_io import AtomicCheckpointIO, DamagedCheckpoint
from tests.processes import started
from tests.training import train

STEPS = 14
MID_EPOCH, EPOCH_END = 8, 10  # an epoch has five batches
UNEVEN = {"critic_steps": 2, "decay_steps": 20}  # the players move at different times, under a schedule

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Names every leaf in which two checkpoints differ by as much as a bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        same = a.dtype == b.dtype and torch.equal(a, b)
        return [] if same else [path]
    if isinstance(a, dict) and isinstance(b, dict):
        missing = [f"{path}/{key} in one only" for key in a.keys() ^ b.keys()]
        return missing + [d for key in a.keys() & b.keys() for d in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{path}/{i}")]
    return [] if a == b else [path]


def states(file: Path | str) -> dict[str, Any]:
    """Everything that a run continues from.

    Left out: names of files, and Lightning's own counters of loops, which count an epoch that is resumed at its
    end as begun once less. Steps and epochs are compared through ``global_step`` and ``epoch``.
    """
    checkpoint = torch.load(file, weights_only=True)
    del checkpoint["loops"]
    checkpoint["callbacks"] = {k: v for k, v in checkpoint["callbacks"].items() if "ModelCheckpoint" not in k}
    return checkpoint


@pytest.mark.parametrize(("method", "overrides"), [*((name, {}) for name in METHODS), ("WGANGP", UNEVEN)])
def test_resumed_run_equals_the_uninterrupted_one(method: str, overrides: dict[str, Any]) -> None:
    _, _, whole = train(method, STEPS, "whole", every=2, overrides=overrides)
    expected = states("whole/last.ckpt")
    assert expected["global_step"] == STEPS
    for stop in (MID_EPOCH, EPOCH_END):
        checkpoint = f"whole/step={stop}.ckpt"
        trainer, _, rest = train(method, STEPS, f"rest-{stop}", ckpt_path=checkpoint, every=2, overrides=overrides)
        assert differences(expected, states(f"rest-{stop}/last.ckpt")) == []
        assert [b.tolist() for b in rest.batches] == [b.tolist() for b in whole.batches[stop:]]
        assert trainer.global_step == STEPS


def test_the_comparison_sees_a_difference() -> None:
    """The checkpoints compared hold weights, both optimizers, averages, random states, schedules and the loader."""
    train("MinimaxGAN", 4, "run", overrides={"decay_steps": 20})
    a, b = states("run/step=3.ckpt"), states("run/last.ckpt")
    found = differences(a, b)
    for part in (
        "/state_dict/generator.",
        "/state_dict/discriminator.",
        "/optimizer_states/1/state/0/exp_avg",
        "/callbacks/EMA/averages/generator.",
        "/callbacks/RandomStates/processes/0/torch",
        "/optimizer_states/1/param_groups/0/lr",
        "/TinyData/training_loader/position",
    ):
        assert any(name.startswith(part) for name in found), (part, found)
    assert differences(a, a) == []


def test_resume_restores_the_random_states_of_numpy_and_python() -> None:
    """The loop itself uses torch's generator alone; data transforms of others may use all three."""
    train("MinimaxGAN", 3, "run")
    saved = torch.load("run/last.ckpt", weights_only=True)["callbacks"]["RandomStates"]["processes"][0]
    trainer, _, _ = train("MinimaxGAN", 4, "rest", ckpt_path="run/last.ckpt")
    after = torch.load("rest/last.ckpt", weights_only=True)["callbacks"]["RandomStates"]["processes"][0]
    assert differences(saved["numpy"], after["numpy"]) == differences(saved["python"], after["python"]) == []
    assert not torch.equal(saved["torch"], after["torch"])
    state = cast(tuple[Any, ...], np.random.get_state())
    assert np.array_equal(state[1], saved["numpy"][0].numpy().astype(np.uint32))


@pytest.mark.parametrize("interruption", [{"kill_at": 8}, {"kill_write_at": 9}], ids=["running", "writing"])
def test_killed_run_resumes_to_the_uninterrupted_one(interruption: dict[str, int]) -> None:
    settings: dict[str, Any] = {"method": "WGANGP", "steps": STEPS, "overrides": UNEVEN, "every": 3}
    killed, _ = started(train, **settings, folder="run", **interruption)
    killed.join(240)
    assert killed.exitcode == -signal.SIGKILL
    names = {path.name for path in Path("run").iterdir()}
    left_behind = {".step=9.ckpt.partial"} if "kill_write_at" in interruption else set()
    assert names == {"step=3.ckpt", "step=6.ckpt", "last.ckpt"} | left_behind

    train(**settings, folder="run", ckpt_path="run/last.ckpt")
    train(**settings, folder="uninterrupted")
    assert differences(states("uninterrupted/last.ckpt"), states("run/last.ckpt")) == []
    assert not list(Path("run").glob(".*"))


def test_an_interrupted_write_leaves_the_checkpoint_before() -> None:
    """Not killed but failed: a full disk, Ctrl-C."""
    writer = AtomicCheckpointIO()
    first = {"state_dict": {}, "global_step": 1, "pytorch-lightning_version": "2.6"}
    writer.save_checkpoint(first, "run/last.ckpt")

    class Failing:
        def __reduce__(self) -> Any:
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        writer.save_checkpoint({"step": 2, "weights": torch.zeros(10_000), "next": Failing()}, "run/last.ckpt")
    assert writer.load_checkpoint("run/last.ckpt") == first
    assert [path.name for path in Path("run").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
def test_damaged_checkpoints_are_named(keep: float) -> None:
    train("MinimaxGAN", 2, "run")
    file = Path("run/last.ckpt")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    with pytest.raises(DamagedCheckpoint, match=r"last\.ckpt"):
        train("MinimaxGAN", 4, "rest", ckpt_path="run/last.ckpt")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train("MinimaxGAN", 4, "rest", ckpt_path="nowhere.ckpt")


def test_resuming_after_the_last_step_changes_nothing() -> None:
    train("MinimaxGAN", 3, "run")
    trainer, module, record = train("MinimaxGAN", 3, "rest", ckpt_path="run/last.ckpt")
    saved = torch.load("run/last.ckpt", weights_only=True)["state_dict"]
    assert not record.batches
    assert differences(dict(module.state_dict()), saved) == []
