"""Hourglass networks with skip connections, whose architecture is the prior of deep image prior.

Deep Image Prior (Ulyanov et al., 2018), https://arxiv.org/abs/1711.10925, figure 21 of the extended version
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2
UPSAMPLINGS = ("bilinear", "nearest")


def convolution(in_channels: int, out_channels: int, side: int, stride: int = 1) -> nn.Sequential:
    """Returns a convolution with reflection at the borders, batch normalization and a leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, side, stride, padding=side // 2, padding_mode="reflect"),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


class Level(nn.Module):
    """One resolution: goes down by a factor of 2, through the levels below, up again, and past a skip connection.

    Args:
        in_channels: Channels of the input.
        width: Channels of the output.
        skip_width: Channels of the skip connection; 0 for none.
        below: The next level, or ``None`` for the lowest.
        upsampling: ``"bilinear"`` or ``"nearest"``.
    """

    def __init__(self, in_channels: int, width: int, skip_width: int, below: "Level | None", upsampling: str) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.skip = convolution(in_channels, skip_width, 1) if skip_width else None
        self.down = nn.Sequential(convolution(in_channels, width, 3, stride=2), convolution(width, width, 3))
        self.below = below
        self.norm = nn.BatchNorm2d(width + skip_width)
        self.up = nn.Sequential(convolution(width + skip_width, width, 3), convolution(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, width, H, W)."""
        deeper = self.down(x)
        if self.below is not None:
            deeper = self.below(deeper)
        corners = {} if self.upsampling == "nearest" else {"align_corners": False}
        parts = [F.interpolate(deeper, x.shape[2:], mode=self.upsampling, **corners)]
        if self.skip is not None:
            parts.append(self.skip(x))
        h: Tensor = self.up(self.norm(torch.cat(parts, 1)))
        return h


class Hourglass(nn.Module):
    """Maps codes of the size of an image to the image.

    Args:
        in_channels: Channels of the code.
        width: Channels at every resolution.
        depth: Number of resolutions below that of the image; each has half the side.
        skip_width: Channels of the skip connections; 0 for none.
        upsampling: ``"bilinear"`` or ``"nearest"``.

    Raises:
        ValueError: If a number is out of range or the upsampling unknown.
    """

    def __init__(
        self, in_channels: int = 32, width: int = 128, depth: int = 5, skip_width: int = 4, upsampling: str = "bilinear"
    ) -> None:
        super().__init__()
        if min(in_channels, width, depth) < 1 or skip_width < 0:
            raise ValueError(
                f"in_channels={in_channels}, width={width} and depth={depth} must be at least 1, and "
                f"skip_width={skip_width} at least 0."
            )
        if upsampling not in UPSAMPLINGS:
            raise ValueError(f"upsampling={upsampling!r} is not one of {', '.join(UPSAMPLINGS)}.")
        level: Level | None = None
        for number in reversed(range(depth)):
            level = Level(width if number else in_channels, width, skip_width, level, upsampling)
        assert level is not None
        self.levels, self.head = level, nn.Conv2d(width, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Maps codes (N, in_channels, H, W) to images (N, 3, H, W) in [-1, 1]; a side needs 2^(depth + 1) pixels."""
        # The paper's sigmoid in [0, 1], on the scale of this library.
        return 2 * torch.sigmoid(self.head(self.levels(z))) - 1
