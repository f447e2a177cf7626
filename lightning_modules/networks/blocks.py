"""Layers that several architectures share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.networks.text_encoder import TEXT_FEATURES, Captions, Condition, embedding_of


def base_resolution(shape: Sequence[int]) -> tuple[int, int]:
    """Returns (side of the smallest feature map, number of doublings) for square images.

    28 gives (7, 2), 32 gives (4, 3) and 64 gives (4, 4).

    Raises:
        ValueError: If the images are not square, or their side is not 4 to 7 times a power of two.
    """
    _, height, width = shape
    base, doublings = height, 0
    while base % 2 == 0 and base > 4:
        base, doublings = base // 2, doublings + 1
    if height != width or not 4 <= base <= 7 or doublings < 1:
        raise ValueError(
            f"shape={list(shape)}: convolutional networks need square images with a side of 4 to 7 times a power "
            "of two, such as 28, 32 or 64. Give the datamodule image_size=32, or use architecture='mlp' where the "
            "method has it."
        )
    return base, doublings


class CodeWithLabel(nn.Module):
    """Appends a learned vector of the class label or the caption to the code; without these, returns the code.

    Args:
        latent_dim: Size of the code z.
        condition: Number of classes, captions, or ``None``.
        embedding_dim: Size of the vector of a class: small, since the first layer's weights grow with it.
    """

    def __init__(self, latent_dim: int, condition: Condition, embedding_dim: int = 16) -> None:
        super().__init__()
        size = TEXT_FEATURES if isinstance(condition, Captions) else embedding_dim
        self.embedding = embedding_of(condition, size)
        self.out_features = latent_dim if condition is None else latent_dim + size

    def forward(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """Maps z (N, latent_dim) and the condition (int64 (N, ...), or ``None``) to (N, out_features)."""
        return z if self.embedding is None else torch.cat([z, self.embedding(condition)], dim=1)


class ProjectionHead(nn.Module):
    """Logit ``w . h + b`` plus, with a condition y, ``<embedding(y), h>`` (Miyato & Koyama, 2018, eq. 5).

    Args:
        in_features: Size of the features h.
        condition: Number of classes, captions, or ``None``.
    """

    def __init__(self, in_features: int, condition: Condition) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, 1)
        self.embedding = embedding_of(condition, in_features)

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        """Maps h (N, in_features) and the condition (int64 (N, ...), or ``None``) to logits (N,)."""
        logits = self.linear(h).squeeze(1)
        return logits if self.embedding is None else logits + (self.embedding(condition) * h).sum(1)


def initialize_normal(network: nn.Module, std: float = 0.02) -> None:
    """Draws weights from N(0, std^2) and batch norm scales from N(1, std^2), and sets biases to zero (DCGAN)."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)):
            nn.init.normal_(layer.weight, 0.0, std)
        elif isinstance(layer, nn.BatchNorm2d) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, std)
        bias = getattr(layer, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)
