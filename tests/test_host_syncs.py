"""A training step waits for the device no more often than it did: checks of data are for callers.

Counted are operations whose result the host needs (a number of a tensor, positions of true values), which on a GPU
wait until everything before them has been computed.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_modules.adversarial.joint_game import JointModule
from lightning_modules.adversarial.loop import AdversarialModule
from tests.test_contract import build, cases, fit, tiny_data
from tests.test_public_calls import CALLS

WAITING = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "is_nonzero", "_unique2", "unique_dim"}
MOST = {"ProfessorForcing": 6, "CreativeAdversarialNetwork": 2, "adversarial": 2}
"""Most operations that wait in a step, for methods that decide by a number: an accuracy, a loss of each player."""


class Waits(TorchDispatchMode):
    """Counts the operations that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in WAITING or masks:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class CountedSteps(Callback):
    """Counts the operations that wait in each step, and the public calls in it."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.mode: Waits | None = None

    def on_train_batch_start(self, *_: Any) -> None:
        self.mode = Waits()
        self.mode.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        assert self.mode is not None
        self.mode.__exit__(None, None, None)
        self.steps.append(sum(self.mode.counts.values()))
        self.mode = None


@pytest.mark.parametrize(("name", "kind"), cases())
def test_no_step_waits_more_often_than_its_decisions_need(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny_data(kind, name)
    module, counted, called = build(name, data), CountedSteps(), []

    def watched(call: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def record(*args: Any, **kwargs: Any) -> Any:
            if counted.mode is not None and len(counted.steps):
                called.append(call)
            return function(*args, **kwargs)

        return record

    for call in (*CALLS, "examples", "sequences", "problem_with_data"):
        if callable(getattr(module, call, None)) and call != "responsibilities":
            monkeypatch.setattr(module, call, watched(call, getattr(module, call)))
    fit(module, data, callbacks=[counted])
    later = counted.steps[1:]  # the first batch of an epoch is checked
    assert len(later) == 3
    family = "adversarial" if isinstance(module, (AdversarialModule, JointModule)) else name
    assert max(later) <= MOST.get(family, 1)
    assert called == []


def test_the_count_sees_a_check() -> None:
    with Waits() as waits:
        x = torch.ones(3)
        assert torch.isfinite(x).all()
        x[x > 0].sum()
        x.max().item()
    assert sum(waits.counts.values()) >= 3
