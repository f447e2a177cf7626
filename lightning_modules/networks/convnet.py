"""A small residual network for classifiers of small images."""

from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two 3x3 convolutions with batch normalisation, and an identity shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, channels, H, W) to the same shape."""
        return F.relu(x + self.body(x))


def shrink(channels_in: int, channels_out: int) -> nn.Sequential:
    """Returns a convolution that halves the side, with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class ConvNet(nn.Module):
    """Maps images (N, C, H, W) to features (N, 4 * width), non-negative and averaged over positions."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.num_features = 4 * width
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            shrink(width, 2 * width),
            Residual(2 * width),
            shrink(2 * width, 4 * width),
            Residual(4 * width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns features, shape (N, num_features)."""
        return self.layers(x).mean((2, 3))
