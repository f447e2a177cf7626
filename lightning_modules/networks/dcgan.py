"""Deep convolutional networks after DCGAN, for square images of 28, 32, 64, ... pixels.

NOTE: The generator ends with a 3x3 convolution at full resolution instead of a transposed one, to avoid checkerboard
patterns. The feature maps of the discriminator have sides 28, 14, 7, 4 for images of 28 pixels.

Unsupervised Representation Learning with Deep Convolutional GANs (Radford et al., 2015), https://arxiv.org/abs/1511.06434
"""

from collections.abc import Sequence

from torch import Tensor, nn

from lightning_modules.networks.blocks import CodeWithLabel, ProjectionHead, base_resolution, initialize_normal
from lightning_modules.networks.text_encoder import Condition


class Generator(nn.Module):
    """Maps codes (N, latent_dim) to images (N, C, H, W) in [-1, 1].

    Args:
        shape: (C, H, W) with H = W = 28, 32, 64, ...
        latent_dim: Size of the code z.
        width: Channels at full resolution; doubled with each halving, up to 8 * width.
        condition: Number of classes, captions, or ``None``.
    """

    def __init__(self, shape: Sequence[int], latent_dim: int, width: int, condition: Condition = None) -> None:
        super().__init__()
        base, doublings = base_resolution(shape)
        channels = [width * 2 ** min(power, 3) for power in range(doublings, -1, -1)]
        self.code = CodeWithLabel(latent_dim, condition)
        self.project = nn.Sequential(
            nn.Linear(self.code.out_features, channels[0] * base * base, bias=False),
            nn.Unflatten(1, (channels[0], base, base)),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
        )
        self.upsample = nn.Sequential(
            *(
                nn.Sequential(
                    nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(narrow),
                    nn.ReLU(),
                )
                for wide, narrow in zip(channels, channels[1:], strict=False)
            )
        )
        self.output = nn.Sequential(nn.Conv2d(channels[-1], shape[0], 3, padding=1), nn.Tanh())
        initialize_normal(self)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps codes and the condition (int64 (N, ...), or ``None``) to images (N, C, H, W)."""
        return self.output(self.upsample(self.project(self.code(z, condition))))


class Discriminator(nn.Module):
    """Maps images (N, C, H, W) to logits (N,).

    Args:
        shape: (C, H, W) with H = W = 28, 32, 64, ...
        width: Channels after the first convolution; doubled with each halving, up to 8 * width.
        condition: Number of classes, captions, or ``None``; they enter by projection.
        batch_norm: Batch normalisation after all but the first convolution, as in the paper. It makes the examples of
            a batch depend on each other, so it cannot be used with penalties on input gradients.
    """

    def __init__(self, shape: Sequence[int], width: int, condition: Condition = None, batch_norm: bool = False) -> None:
        super().__init__()
        side, halvings = base_resolution(shape)[0], base_resolution(shape)[1]
        channels = [shape[0]] + [width * 2 ** min(power, 3) for power in range(halvings)]
        layers: list[nn.Module] = []
        for depth, (narrow, wide) in enumerate(zip(channels, channels[1:], strict=False)):
            norm = batch_norm and depth > 0
            layers.append(nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=not norm))
            layers.extend([nn.BatchNorm2d(wide)] if norm else [])
            layers.append(nn.LeakyReLU(0.2))
        if side > 4:  # 28 -> 14 -> 7: one more convolution, to 4, keeps the head small
            layers += [nn.Conv2d(channels[-1], 2 * channels[-1], 3, stride=2, padding=1, bias=not batch_norm)]
            layers += [nn.BatchNorm2d(2 * channels[-1])] if batch_norm else []
            layers += [nn.LeakyReLU(0.2)]
            channels, side = [*channels, 2 * channels[-1]], (side + 1) // 2
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = ProjectionHead(channels[-1] * side * side, condition)
        initialize_normal(self)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps images and the condition (int64 (N, ...), or ``None``) to logits (N,)."""
        return self.head(self.features(x), condition)
