"""Means over held-out data that do not depend on batch size or on the number of processes."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules.parts.precision import has_float64, home_of_float64
from lightning_modules.parts.schedules import Schedule
from lightning_modules.runtime.distributed import broadcast_buffers, gather_objects, sum_over_processes
from lightning_modules.runtime.optimization import OptimizedModule
from lightning_modules.runtime.positions import Place, flat, measured_once

Weighted = Tensor | tuple[Tensor, Tensor]
"""Values of examples, (N,), or values and their weights, (N,) each."""


class Mean(NamedTuple):
    """A weighted mean over a split.

    Attributes:
        mean: Sum of weights times values over the sum of weights.
        total_weight: Sum of the weights.
        standard_error: Of the mean, where all weights are 1.
    """

    mean: float
    total_weight: float
    standard_error: float


class HeldOutMeans:
    """Sums of weights, values and squares by name, in float64, with each example counted once.

    On a device without float64 (Apple's GPU) the values themselves are kept until they are asked for: sums in float32
    would lose digits, and moving each batch to the CPU would wait for the device.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.unsummed: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def add(self, values: Mapping[str, Weighted]) -> None:
        """Adds the values of one batch."""
        for name, value in values.items():
            value, weight = value if isinstance(value, tuple) else (value, torch.ones_like(value))
            value, weight = value.detach(), weight.detach()
            if has_float64(value.device):
                self._sum(name, value.double(), weight.double())
            else:
                self.unsummed.setdefault(name, []).append((value.clone(), weight.clone()))

    def _sum(self, name: str, value: Tensor, weight: Tensor) -> None:
        sums = torch.stack([weight.sum(), (weight * value).sum(), (weight * value.square()).sum()])
        self.sums[name] = self.sums[name] + sums if name in self.sums else sums

    def reduced(self, device: torch.device) -> dict[str, Mean]:
        """Returns the means over all processes, equal on each; all must call it together."""
        for name, pairs in self.unsummed.items():
            values, weights = (torch.cat(parts).cpu().double() for parts in zip(*pairs, strict=True))
            self._sum(name, values, weights)
        self.unsummed = {}
        return {name: mean_of(sums) for name, sums in self._everywhere(home_of_float64(device)) if sums[0] > 0}

    def _everywhere(self, device: torch.device) -> Iterable[tuple[str, Tensor]]:
        # A process whose examples are all left out has no sums, but must take part in every reduction.
        names = dict.fromkeys(name for names in gather_objects(list(self.sums)) for name in names)
        zeros = torch.zeros(3, dtype=torch.float64, device=device)
        for name in names:
            yield name, sum_over_processes(self.sums.get(name, zeros).to(device, copy=True))


def mean_of(sums: Tensor) -> Mean:
    """Returns the mean of sums of weights, of weighted values and of weighted squares."""
    count, total, squares = sums.tolist()
    mean = total / count
    variance = max(squares / count - mean**2, 0.0) * count / max(count - 1, 1)
    return Mean(mean, count, (variance / count) ** 0.5)


class HeldOutModule(OptimizedModule):
    """Abstract: measures held-out data in ``Trainer.validate`` and ``Trainer.test``, and in validation while training.

    A method defines what is measured by the hooks below. The values are means over all examples of all processes, each
    counted once, logged as ``val/<name>`` and ``test/<name>``. Of several loaders each is measured on its own; as usual
    in Lightning, names then end in ``/dataloader_idx_0``, ``/dataloader_idx_1``, ...

    Args:
        lr_schedule: As in ``OptimizedModule``.
        clip_norm: As in ``OptimizedModule``.
    """

    def __init__(self, lr_schedule: Schedule | None = None, clip_norm: float | None = None) -> None:
        super().__init__(lr_schedule, clip_norm)
        self.held_out_means = HeldOutMeans()
        self._measured: list[Mapping[str, float]] = []
        self._seen = 0
        self.replicated = False
        """Whether all processes had the same first batch of the present loader."""

    def begin_held_out(self, stage: str) -> None:
        """Hook: called before an epoch over held-out data; ``stage`` is ``"val"`` or ``"test"``."""

    def held_out(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Weighted]:
        """Hook: returns what is measured on a batch, by name: values of examples (N,), or values and weights.

        Args:
            batch: The batch.
            indices: int64 (N,), the positions of the examples in their split. Random numbers are a function of these,
                so that a value does not depend on the batch size or on the number of processes.
            stage: ``"val"`` or ``"test"``.
        """
        return {}

    def end_held_out(self, means: Mapping[str, Mean], stage: str) -> Mapping[str, float]:
        """Hook: returns further values, by name, that follow from the means of an epoch.

        Args:
            means: Means over all examples and processes. Those whose names begin with ``"_"`` are not logged.
            stage: ``"val"`` or ``"test"``.
        """
        return {}

    def model_measures(self, stage: str) -> Mapping[str, float]:
        """Hook: returns values of the model as a whole, by name, at the end of an epoch over held-out data."""
        return {}

    def on_validation_epoch_start(self) -> None:
        """Starts new means."""
        self._begin("val")

    def on_test_epoch_start(self) -> None:
        """Starts new means."""
        self._begin("test")

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measures ``val/...`` on a batch."""
        self._measure(batch, batch_idx, dataloader_idx, "val")

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measures ``test/...`` on a batch."""
        self._measure(batch, batch_idx, dataloader_idx, "test")

    def on_validation_epoch_end(self) -> None:
        """Logs the means."""
        self._end("val")

    def on_test_epoch_end(self) -> None:
        """Logs the means."""
        self._end("test")

    def _begin(self, stage: str) -> None:
        broadcast_buffers(self)  # under manual optimization nothing else keeps batch statistics equal over processes
        self._measured = []
        self._begin_loader(stage)

    def _begin_loader(self, stage: str) -> None:
        self.held_out_means, self._seen = HeldOutMeans(), 0
        self.begin_held_out(stage)

    def _measure(self, batch: Batch, batch_idx: int, loader_idx: int, stage: str) -> None:
        while len(self._measured) < loader_idx:
            self._end_loader(stage)
            self._begin_loader(stage)
        place = Place(batch_idx, self._seen, self.global_rank, self.trainer.world_size, self.replicated)
        self._seen += len(batch.x)
        batch, indices = measured_once(batch, self._loaders(stage)[loader_idx], place)
        if len(indices):
            self.held_out_means.add(self.held_out(batch, indices.to(self.device), stage))

    def _end_loader(self, stage: str) -> None:
        means = self.held_out_means.reduced(self.device)
        values = {name: mean.mean for name, mean in means.items() if name[0] != "_"}
        self._measured.append({**values, **self.end_held_out(means, stage), **self.model_measures(stage)})

    def _end(self, stage: str) -> None:
        self._end_loader(stage)
        several = len(self._loaders(stage)) > 1
        for number, values in enumerate(self._measured):
            suffix = f"/dataloader_idx_{number}" if several else ""
            logged = {f"{stage}/{name}{suffix}": value for name, value in values.items()}
            self.log_dict(logged, add_dataloader_idx=not several)

    def _loaders(self, stage: str) -> list[Any]:
        return flat(self.trainer.val_dataloaders if stage == "val" else self.trainer.test_dataloaders)
