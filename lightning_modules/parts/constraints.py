"""Constraints on a discriminator's weights: one in their parametrisation, one applied after each step."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize


class _SpectralNorm(parametrizations._SpectralNorm):
    """Torch's, which does not iterate where there are no values: a load builds such a network to compare shapes."""

    def _power_method(self, weight_mat: Tensor, n_power_iterations: int) -> None:
        if not weight_mat.is_meta:
            super()._power_method(weight_mat, n_power_iterations)


def unconstrained(network: nn.Module) -> None:
    """Leaves a network as it is, where no constraint is wanted."""


def spectrally_normalized(network: nn.Module) -> nn.Module:
    """Divides every weight matrix of ``network`` by its largest singular value, eq. 1.42-1.44.

    The singular value is estimated by one power iteration per training pass (Miyato et al., 2018, Algorithm 1), whose
    state is kept in the buffers ``_u`` and ``_v``; evaluation mode does not change them. Convolutions are treated as
    (out, in * kh * kw) matrices, whose largest singular value bounds the operator norm up to a factor sqrt(kh * kw).

    Raises:
        ValueError: If a matrix is zero, which cannot be divided by its singular value.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)):
            if not layer.weight.is_meta and not layer.weight.any():
                raise ValueError(
                    f"Spectral norm divides weights by their largest singular value, but those of {name} start at 0; "
                    "use another architecture, or no spectral norm."
                )
            dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            parametrize.register_parametrization(layer, "weight", _SpectralNorm(layer.weight, dim=dim))
            _allow_pickling(layer)
    return network


def _allow_pickling(layer: nn.Module) -> None:
    # A parametrised layer has a class of its own, made at run time, which torch therefore refuses to pickle.
    vars_of_class: Any = type(layer)
    vars_of_class.__reduce_ex__ = _reduced


def _reduced(layer: nn.Module, protocol: object) -> tuple[Any, ...]:
    original = type(layer).__mro__[1]
    return _blank, (original,), nn.Module.__getstate__(layer), None, None, _filled


def _blank(original: type[nn.Module]) -> nn.Module:
    return original.__new__(original)


def _filled(layer: nn.Module, state: dict[str, Any]) -> None:
    layer.__dict__.update(state)
    parametrize._inject_new_class(layer)
    for name in layer.parametrizations:  # type: ignore[union-attr]
        parametrize._inject_property(layer, str(name))
    _allow_pickling(layer)


@torch.no_grad()
def clip_weights(network: nn.Module, bound: float) -> None:
    """Clamps every parameter into [-bound, bound] (Arjovsky et al., 2017, Algorithm 1, line 7)."""
    parameters: list[torch.Tensor] = list(network.parameters())
    torch._foreach_clamp_min_(parameters, -bound)
    torch._foreach_clamp_max_(parameters, bound)
