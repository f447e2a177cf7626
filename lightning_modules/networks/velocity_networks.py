"""Networks of velocities by name; see ``velocity`` for their signature."""

from collections.abc import Sequence

from torch import nn

from lightning_modules.networks.text_encoder import Condition
from lightning_modules.networks.unet import UNet
from lightning_modules.networks.velocity import MLP

ARCHITECTURES = ("unet", "mlp")


def velocity_network(
    architecture: str,
    shape: Sequence[int],
    width: int,
    depth: int,
    condition: Condition,
    droppable: bool,
    fourier_features: bool | int,
) -> nn.Module:
    """Builds a network of a velocity; arguments as in ``UNet``.

    Raises:
        ValueError: If a size is not positive, the architecture is unknown, or it does not fit the shape or the
            Fourier features.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture={architecture!r} is not one of {', '.join(ARCHITECTURES)}.")
    if width < 1 or depth < 1 or any(size < 1 for size in shape):
        raise ValueError(f"width={width}, depth={depth} and shape={list(shape)} must hold sizes of at least 1.")
    if architecture == "mlp":
        if fourier_features:
            raise ValueError(
                f"fourier_features={fourier_features} needs architecture='unet', not 'mlp': they are of pixels."
            )
        return MLP(shape, width, condition, droppable)
    if len(shape) != 3:
        raise ValueError(
            f"architecture='unet' needs images (channels, height, width), not shape={list(shape)}; use 'mlp'."
        )
    return UNet(shape, width, depth, condition, droppable, fourier_features)
