"""The noise of noise-contrastive estimation: a frozen density that can be sampled, with a description of it."""

import contextvars
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from lightning_modules.base import ZooModule
from lightning_modules.parts.capabilities import HasDensity, SupportsSampling

BuildMethod = Callable[[str, Mapping[str, Any]], nn.Module]
"""Maps the name of a method and its hyperparameters to a module."""


def frozen_density(
    density: nn.Module | Mapping[str, Any] | None, shape: Sequence[int], build: BuildMethod
) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the noise density, without gradients, and its description in plain JSON values.

    Args:
        density: A module, {"method": ..., "hyperparameters": {...}}, or ``None`` for N(0, I).
        shape: Shape of an example.
        build: Builds a module from its description.

    Raises:
        ValueError: If it cannot be built, is of another shape, or lacks ``log_prob`` or ``sample``.
    """
    if density is None:
        density = {"method": "Gaussian", "hyperparameters": {"shape": list(shape), "covariance": "diagonal"}}
    if isinstance(density, Mapping):
        if set(density) != {"method", "hyperparameters"}:
            raise ValueError(
                f"noise_density={dict(density)!r} must be {{'method': ..., 'hyperparameters': {{...}}}} of a method."
            )
        # In a separate context: under LightningCLI the inner module would save the outer one's hyperparameters.
        module = contextvars.Context().run(build, density["method"], density["hyperparameters"])
        plain = {"method": density["method"], "hyperparameters": dict(density["hyperparameters"])}
    else:
        module = density
        plain = {"method": type(density).__name__, "hyperparameters": plain_hyperparameters(density)}
    if not isinstance(module, HasDensity) or not isinstance(module, SupportsSampling):
        raise ValueError(f"noise_density={type(module).__name__} needs log_prob(x) and sample(num_samples, ...).")
    own = plain["hyperparameters"].get("shape", shape)
    if list(own) != list(shape):
        raise ValueError(f"noise_density was built for shape={list(own)}, not for {list(shape)}.")
    return module.requires_grad_(False), plain


def plain_hyperparameters(module: nn.Module) -> dict[str, Any]:
    """Returns the hyperparameters of a module, without those that LightningCLI adds; tuples become lists."""
    hparams = module.hparams if isinstance(module, ZooModule) else {}
    kept = {key: value for key, value in hparams.items() if not key.startswith("_")}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in kept.items()}
