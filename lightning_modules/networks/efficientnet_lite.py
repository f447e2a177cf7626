"""EfficientNet-Lite0, a small classifier of photographs: EfficientNet-B0 without squeeze and excitation, with ReLU6.

Inverted residuals: a 1x1 convolution expands the channels sixfold, a depthwise one filters each, a 1x1 convolution
without activation projects to few channels again, and blocks that keep resolution and channels have a shortcut.

NOTE: Weights that were trained in TensorFlow need its padding: a convolution of stride 2 pads more at the right and
bottom, by an amount that depends on the size of the image. ``drop_connect`` of the training is left out.

MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al., 2018), https://arxiv.org/abs/1801.04381
EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan and Le, 2019),
https://arxiv.org/abs/1905.11946
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F


class Stage(NamedTuple):
    """A number of equal blocks, of which the first has the stride and changes the channels; table 1 of the paper."""

    repeats: int
    channels: int
    kernel: int
    stride: int
    expansion: int


IMAGE_SIDE, PIXEL_MEAN, PIXEL_STD = 224, 127.0, 128.0
"""Side of the images that it was trained on, and their normalization: (x - mean) / std of x in [0, 255]."""
STEM_CHANNELS, NUM_FEATURES, NUM_CLASSES = 32, 1280, 1000
STAGES = (
    Stage(1, 16, 3, 1, 1),
    Stage(2, 24, 3, 2, 6),
    Stage(2, 40, 5, 2, 6),
    Stage(3, 80, 3, 2, 6),
    Stage(3, 112, 5, 1, 6),
    Stage(4, 192, 5, 2, 6),
    Stage(1, 320, 3, 1, 6),
)


class NormalizedConv(nn.Module):
    """A convolution with TensorFlow's padding and batch normalization, then ReLU6 unless it is a projection."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.01)
        self.activation = nn.ReLU6() if active else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, channels_in, H, W) to (N, channels_out, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        rows, columns = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:])
        if rows or columns:
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return self.activation(self.norm(self.conv(x)))


class InvertedResidual(nn.Module):
    """Expands, filters each channel and projects, with a shortcut where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * channels_in
        self.expand = NormalizedConv(channels_in, inner) if expansion > 1 else nn.Identity()
        self.depthwise = NormalizedConv(inner, inner, kernel, stride, groups=inner)
        self.project = NormalizedConv(inner, channels_out, active=False)
        self.has_shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, channels_in, H, W) to (N, channels_out, ceil(H / stride), ceil(W / stride))."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.has_shortcut else y


class EfficientNetLite0(nn.Module):
    """Maps images (N, 3, H, W), normalized by (x - 127) / 128 from [0, 255], to logits (N, 1000) of ImageNet.

    It was trained at 224 x 224 pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_features = NUM_FEATURES
        self.stem = NormalizedConv(3, STEM_CHANNELS, 3, 2)
        blocks, channels = [], STEM_CHANNELS
        for stage in STAGES:
            for index in range(stage.repeats):
                stride = stage.stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, stage.channels, stage.kernel, stride, stage.expansion))
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.head = NormalizedConv(channels, NUM_FEATURES)
        self.classifier = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """Returns the features before the classifier, (N, 1280), averaged over positions; in [0, 6]."""
        return self.head(self.blocks(self.stem(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits (N, 1000)."""
        return self.classifier(self.features(x))
