"""Means over held-out data against numpy, whatever the batch size and the number of processes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules.spec import Batch
from lightning_modules.base import ZooModule
from lightning_modules.runtime import held_out
from lightning_modules.runtime.held_out import HeldOutMeans, HeldOutModule, Mean, Weighted, mean_of
from tests.standins import quiet_trainer
from tests.training import TinyData

CPU = torch.device("cpu")
SIZES = [1, 7, 64, 103, 1000]
NUM = 103


def numbers(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Values far from 0, in float32 as networks give them, and weights of which some are 0."""
    generator = torch.Generator().manual_seed(seed)
    values = 1000 + torch.randn(NUM, generator=generator)
    weights = torch.randint(0, 5, (NUM,), generator=generator).float()
    return values, weights


@pytest.mark.parametrize("size", SIZES)
def test_means_are_those_of_numpy_whatever_the_batch_size(size: int) -> None:
    values, weights = numbers()
    means = HeldOutMeans()
    for value, weight in zip(values.split(size), weights.split(size), strict=True):
        means.add({"plain": value, "weighted": (value, weight)})
    found = means.reduced(CPU)
    exact, counts = values.double().numpy(), weights.double().numpy()
    assert found["plain"].mean == pytest.approx(exact.mean(), rel=1e-14)
    assert found["plain"].total_weight == NUM
    assert found["plain"].standard_error == pytest.approx(exact.std(ddof=1) / np.sqrt(NUM), rel=1e-6)
    assert found["weighted"].mean == pytest.approx(np.average(exact, weights=counts), rel=1e-14)
    assert found["weighted"].mean != pytest.approx(exact.mean(), rel=1e-5)
    assert found["weighted"].total_weight == counts.sum()


@pytest.mark.parametrize("size", SIZES)
def test_weights_count_an_example_as_often_as_they_say(size: int) -> None:
    values, weights = numbers()
    weighted, repeated = HeldOutMeans(), HeldOutMeans()
    for value, weight in zip(values.split(size), weights.split(size), strict=True):
        weighted.add({"x": (value, weight)})
    repeated.add({"x": values.repeat_interleave(weights.long())})
    for one, other in zip(weighted.reduced(CPU)["x"], repeated.reduced(CPU)["x"], strict=True):
        assert one == pytest.approx(other, rel=1e-9)


def test_a_name_that_some_batches_lack_is_the_mean_of_the_others() -> None:
    means = HeldOutMeans()
    means.add({"always": torch.tensor([1.0, 2.0]), "rarely": torch.tensor([5.0])})
    means.add({"always": torch.tensor([6.0])})
    found = means.reduced(CPU)
    assert found["always"].mean == 3
    assert found["rarely"] == Mean(5.0, 1.0, 0.0)


def test_what_has_no_weight_has_no_mean() -> None:
    means = HeldOutMeans()
    means.add({"none": (torch.ones(3), torch.zeros(3)), "some": (torch.ones(3), torch.tensor([0.0, 0.0, 0.5]))})
    assert means.reduced(CPU) == {"some": Mean(1.0, 0.5, 0.0)}
    assert HeldOutMeans().reduced(CPU) == {}


def test_truth_values_and_gradients_may_be_added() -> None:
    means = HeldOutMeans()
    means.add({"correct": torch.tensor([True, False, True, True]), "loss": torch.ones(2, requires_grad=True)})
    found = means.reduced(CPU)
    assert found["correct"].mean == 0.75
    assert found["loss"].mean == 1
    assert not any(sums.requires_grad for sums in means.sums.values())


def test_the_mean_of_sums_is_their_quotient() -> None:
    # of 1, 2 and 6: variance 7 with n - 1, so that the standard error is the root of 7 / 3
    assert mean_of(torch.tensor([3.0, 9.0, 41.0], dtype=torch.float64)) == pytest.approx((3, 3, (7 / 3) ** 0.5))
    assert mean_of(torch.tensor([1.0, 4.0, 16.0], dtype=torch.float64)) == (4, 1, 0)


@pytest.mark.parametrize("split", [0, 1, 50, NUM])
def test_means_are_equal_on_one_and_two_processes(split: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process has other names, and for some splits none at all; both take part in every reduction."""
    values, weights = numbers()
    whole, shares = HeldOutMeans(), [HeldOutMeans(), HeldOutMeans()]
    whole.add({"first": values[:split]} if split else {})
    whole.add({"both": (values, weights)})
    for share, part in zip(shares, (slice(0, split), slice(split, NUM)), strict=True):
        if len(values[part]):
            share.add({"both": (values[part], weights[part])})
    if split:
        shares[0].add({"first": values[:split]})

    def reduced(own: HeldOutMeans, other: HeldOutMeans) -> dict[str, Mean]:
        names = dict.fromkeys(name for share in shares for name in share.sums)
        order = iter(names)

        def summed(tensor: Tensor) -> Tensor:
            return tensor.add_(other.sums.get(next(order), torch.zeros(3, dtype=torch.float64)))

        monkeypatch.setattr(held_out, "gather_objects", lambda _: [list(share.sums) for share in shares])
        monkeypatch.setattr(held_out, "sum_over_processes", summed)
        found = own.reduced(CPU)
        assert next(order, None) is None
        return found

    before = {name: sums.clone() for name, sums in shares[0].sums.items()}
    one, two = reduced(*shares), reduced(shares[1], shares[0])
    assert all(torch.equal(sums, before[name]) for name, sums in shares[0].sums.items())
    monkeypatch.undo()
    expected = whole.reduced(CPU)
    assert one.keys() == two.keys() == expected.keys()
    for name, mean in expected.items():
        assert one[name] == two[name] == pytest.approx(mean, rel=1e-9)


class Measured(ZooModule):
    """Measures the sum of an example, weighted by its position; logs what the hooks return and notes their order."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.told: list[tuple[str, Any]] = []

    def begin_held_out(self, stage: str) -> None:
        self.told.append(("begin", stage))

    def held_out(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Weighted]:
        self.told.append((stage, indices.tolist()))
        total = batch.x.flatten(1).sum(1)
        return {"total": total, "weighted": (total, indices.float()), "_hidden": total.square()}

    def end_held_out(self, means: Mapping[str, Mean], stage: str) -> Mapping[str, float]:
        self.told.append(("end", stage))
        return {"root": means["_hidden"].mean ** 0.5}

    def model_measures(self, stage: str) -> Mapping[str, float]:
        self.told.append(("model", stage))
        return {"size": 2.0}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.objective({"loss": self.layer(batch.x[:, :1]).square().mean()})

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def logged(loader: Any) -> tuple[dict[str, float], Measured]:
    module, trainer = Measured(), quiet_trainer()
    values: dict[str, float] = {}
    for run in (trainer.validate, trainer.test):
        (found,) = run(module, loader, verbose=False)
        values |= found
    return values, module


@pytest.mark.parametrize("size", [1, 8, 43, 64])
@pytest.mark.parametrize("own", [False, True], ids=["datamodule", "loader of the user's own"])
def test_what_is_logged_does_not_depend_on_the_batch_size(size: int, own: bool) -> None:
    data = TinyData((2,), size)
    data.setup()
    source = data.sources["test"]
    (x,) = source.stream([torch.arange(len(source))])
    loader = DataLoader(TensorDataset(x, torch.zeros(len(x), dtype=torch.int64)), size) if own else data
    values, module = logged(loader)
    total, place = x.double().sum(1).numpy(), np.arange(len(x))
    expected = {
        "total": total.mean(),
        "weighted": np.average(total, weights=place),
        "root": np.sqrt((total**2).mean()),
        "size": 2,
    }
    assert values == pytest.approx(
        {f"{stage}/{name}": value for stage in ("val", "test") for name, value in expected.items()}, rel=1e-5
    )
    for stage in ("val", "test"):
        positions = [place for name, places in module.told if name == stage for place in places]
        assert positions == list(range(len(x)))


def test_hooks_are_called_once_per_epoch_and_in_order() -> None:
    _, module = logged(TinyData((2,), 64))
    for stage in ("val", "test"):
        hooks = [name for name, value in module.told if value == stage or name == stage]
        assert hooks == ["begin", stage, "end", "model"]


def test_every_epoch_has_means_of_its_own() -> None:
    """A second validation of other data is not mixed with the first."""
    module, trainer = Measured(), quiet_trainer()
    for value in (1.0, 3.0):
        loader = DataLoader(TensorDataset(torch.full((5, 2), value)), 2)
        (found,) = trainer.validate(module, loader, verbose=False)
        assert found["val/total"] == pytest.approx(2 * value)


def test_hooks_do_nothing_unless_they_are_overridden() -> None:
    module = HeldOutModule()
    batch = Batch(torch.zeros(2, 1))
    module.begin_held_out("val")
    assert module.held_out(batch, torch.arange(2), "val") == {}
    assert module.end_held_out({}, "val") == {}
    assert module.model_measures("val") == {}
