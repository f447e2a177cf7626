"""Settings of optimizers as a method configures them: after a resume they are those that the method has now.

Lightning restores the groups of an optimizer from the checkpoint, and with them the learning rate, betas and momentum
of the run that wrote it. A method that was built with other values would train with the former ones and record its
own. So the configured settings are kept in the checkpoint, and those that differ are set again after the restoration.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Settings = list[dict[str, Any]]
"""For each optimizer its ``name`` and its ``groups``, the settings of each group of parameters."""


class BatchSchedule(LambdaLR):
    """Learning rates as a function of the number of batches, the only state.

    ``LambdaLR`` itself would overwrite the function and the initial rates of a resumed run by those of the checkpoint.
    """

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of batches."""
        return {"last_epoch": self.last_epoch, "_step_count": self._step_count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the number of batches, also from the state of a ``LambdaLR`` or a ``OneCycleLR``."""
        self.last_epoch, self._step_count = state_dict["last_epoch"], state_dict["_step_count"]

    def move_to(self, batches: int) -> None:
        """Sets the learning rates of all groups to what they are after ``batches`` batches."""
        groups = self.optimizer.param_groups
        self.last_epoch, self._step_count = batches, batches + 1
        self.base_lrs = [group["initial_lr"] for group in groups]
        for group, rate, function in zip(groups, self.base_lrs, self.lr_lambdas, strict=True):
            group["lr"] = rate * function(batches)
        self._last_lr = [group["lr"] for group in groups]


def settings_of(optimizers: Iterable[Optimizer]) -> Settings:
    """Returns the settings of optimizers that were just built, as plain values; also notes their initial rates."""
    settings: Settings = []
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        groups = [
            {key: group[key] for key in group if key not in ("params", "initial_lr")} | {"lr": group["initial_lr"]}
            for group in optimizer.param_groups
        ]
        settings.append({"name": type(optimizer).__name__, "groups": groups})
    return settings


def check_same_optimizers(former: Settings, configured: Settings) -> None:
    """Refuses to resume with other optimizers, whose states would not fit.

    Raises:
        ValueError: Naming both.
    """
    before, now = ([(each["name"], len(each["groups"])) for each in own] for own in (former, configured))
    if before != now:
        described = [", ".join(f"{name} ({groups} groups)" for name, groups in own) for own in (before, now)]
        raise ValueError(
            f"The checkpoint was written with the optimizers {described[0]}, and now they are {described[1]}: their "
            "states do not fit. Resume with the former ones, or start a new run from the weights alone."
        )


def settle(
    optimizers: Sequence[Optimizer], configured: Settings, resumed: Mapping[str, Any], scheduled: bool
) -> dict[str, Any]:
    """Gives optimizers that were restored the settings that the method has now, and returns what differs, by name.

    Args:
        optimizers: Optimizers whose groups were restored.
        configured: Their settings as the method configures them now.
        resumed: ``optimizer_settings`` and ``lr_schedulers`` of the checkpoint; whether hyperparameters ``changed``.
        scheduled: Whether the learning rates follow a schedule now.
    """
    former, changed = resumed["optimizer_settings"], resumed["changed"]
    # Former versions did not write settings.
    applied = apply_settings(optimizers, configured, former) if former is not None or changed else {}
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    if resumed["lr_schedulers"] and not scheduled:  # the schedule was left out
        for group in groups:
            group["lr"] = group["initial_lr"]
    own = [group for optimizer in configured for group in optimizer["groups"]]
    for group, now in zip(groups, own, strict=True) if changed else ():
        if "betas" in now:  # which a schedule that was left out has set elsewhere
            group["betas"] = now["betas"]
    return applied


def apply_settings(optimizers: Sequence[Optimizer], configured: Settings, former: Settings | None) -> dict[str, Any]:
    """Sets what is configured differently than in the run that wrote the checkpoint, and returns it by name.

    Args:
        optimizers: Optimizers whose groups were restored.
        configured: Their settings as the method configures them now.
        former: The settings of the run that wrote the checkpoint; ``None`` compares with the restored groups.
    """
    changed: dict[str, Any] = {}
    for position, (optimizer, own) in enumerate(zip(optimizers, configured, strict=True)):
        for at, (group, now) in enumerate(zip(optimizer.param_groups, own["groups"], strict=True)):
            restored = {**group, "lr": group.get("initial_lr", group["lr"])}
            before: Mapping[str, Any] = restored if former is None else former[position]["groups"][at]
            different = {key: value for key, value in now.items() if key not in before or _differ(before[key], value)}
            group.setdefault("initial_lr", group["lr"])
            group.update(different)
            if "lr" in different:
                group["initial_lr"] = different["lr"]
            changed |= different
    return changed


def _differ(before: Any, now: Any) -> bool:
    if isinstance(before, Tensor) or isinstance(now, Tensor):
        return not torch.equal(torch.as_tensor(before), torch.as_tensor(now))
    return bool(before != now)
