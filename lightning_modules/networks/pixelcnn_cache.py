"""PixelCNN++ one pixel at a time: every activation is computed once, and kept for as long as a later pixel needs it.

The down stream at row r depends on the rows above r alone. So a whole row of it is computed when the row begins, and
with it all that the down-right stream takes from it and from its own row above. What remains for each pixel are, per
block, two products of the new column with a matrix: for this pixel, and for the next one. A scale that is k times
coarser is computed at every k-th row and every k-th pixel.

Reference:
    Fast Generation for Convolutional Autoregressive Models (Ramachandran et al., 2017),
    https://arxiv.org/abs/1704.06001

NOTE: The memory layout of rows is (column, image, channel): one column of all images is a contiguous matrix, and so are
several neighbouring columns.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.networks.pixelcnn import REACH, FirstLayer, GatedBlock, NormalizedConv, PixelCNN, Stage


def taps(conv: NormalizedConv) -> Tensor:
    """Returns the weight as matrices (kernel height, kernel width, channels in, channels out)."""
    return conv.weight().permute(2, 3, 1, 0).contiguous()


def concat_elu_last(x: Tensor) -> Tensor:
    """Maps (..., C) to (..., 2C), elu of x and of -x."""
    return F.elu_(torch.cat([x, -x], -1))


def add_product(total: Tensor, x: Tensor, matrix: Tensor) -> None:
    """Adds x (..., A) times a matrix (A, B) to contiguous ``total`` (..., B)."""
    total.view(-1, total.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]), matrix)


class DownBlock:
    """A block of the down stream, one row at a time."""

    def __init__(self, block: GatedBlock, columns: int, condition: Tensor | None, num: int) -> None:
        self.taps, self.base = taps(block.conv), base_of(block, condition, num)
        self.skip = None if block.skip is None else taps(block.skip)[0, 0]
        self.gate, self.gate_bias = taps(block.gate)[0, 0], block.gate.bias
        # The row computed last, with the zeros of the padding at both ends.
        self.row = self.base.new_zeros(columns + 2, num, self.taps.shape[2])

    def step(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Maps the next row (W, N, C) to the row of the result."""
        columns = len(x)
        hidden = self.base.repeat(columns, 1, 1)
        for shift in range(3):
            add_product(hidden, self.row[shift : shift + columns], self.taps[0, shift])
        self.row[1:-1] = concat_elu_last(x)
        for shift in range(3):
            add_product(hidden, self.row[shift : shift + columns], self.taps[1, shift])
        if skip is not None and self.skip is not None:
            add_product(hidden, concat_elu_last(skip), self.skip)
        return F.glu(torch.matmul(concat_elu_last(hidden), self.gate).add_(self.gate_bias), -1).add_(x)


class RightBlock:
    """A block of the down-right stream: terms from above are computed once per row, terms from the left per pixel."""

    def __init__(self, block: GatedBlock, columns: int, condition: Tensor | None, num: int) -> None:
        width = len(block.conv.bias)
        conv = taps(block.conv)
        self.above_left, self.above, self.left, self.here = conv[0, 0], conv[0, 1], conv[1, 0], conv[1, 1]
        self.base = base_of(block, condition, num)
        # The skip connection is (u, l) or u alone; concat_elu puts its negative after it.
        skip = taps(cast(NormalizedConv, block.skip))[0, 0].view(2, -1, width, width)
        self.skip_down = skip[:, 0].reshape(2 * width, width)
        self.skip_right = skip[:, 1:].reshape(-1, width)  # empty without one
        self.gate, self.gate_bias = taps(block.gate)[0, 0], block.gate.bias

        self.row = self.base.new_zeros(columns, num, 2 * width)
        self.hidden = self.base.new_zeros(columns + 1, num, width)  # the last column is written but not read
        self.scratch = self.base.new_zeros(num, 2 * width)
        # Views are created once: creating one takes as long as a small product.
        self.row_at = [(column, column[:, :width], column[:, width:]) for column in self.row.unbind()]
        self.hidden_at = self.hidden.unbind()
        self.scratch_halves = self.scratch[:, :width], self.scratch[:, width:]

    def begin_row(self, u: Tensor) -> None:
        """Adds the terms from this stream's row above and from the down stream's new row (W, N, C)."""
        self.hidden.copy_(self.base)
        hidden = self.hidden[:-1]
        add_product(hidden, self.row, self.above)
        add_product(hidden[1:], self.row[:-1], self.above_left)
        add_product(hidden, concat_elu_last(u), self.skip_down)

    def step(self, column: int, x: Tensor, skip: Tensor | None) -> Tensor:
        """Maps the next pixel (N, C) to the pixel of the result."""
        activation, positive, negative = self.row_at[column]
        concat_elu_into(x, activation, positive, negative)
        hidden = self.hidden_at[column]
        hidden.addmm_(activation, self.here)
        self.hidden_at[column + 1].addmm_(activation, self.left)
        if skip is not None:
            concat_elu_into(skip, self.scratch, *self.scratch_halves)
            hidden.addmm_(self.scratch, self.skip_right)
        concat_elu_into(hidden, self.scratch, *self.scratch_halves)
        return F.glu(torch.addmm(self.gate_bias, self.scratch, self.gate), 1).add_(x)


def concat_elu_into(x: Tensor, whole: Tensor, positive: Tensor, negative: Tensor) -> None:
    """Writes elu of x and of -x into the halves of ``whole``."""
    positive.copy_(x)
    torch.neg(x, out=negative)
    F.elu_(whole)


def base_of(block: GatedBlock, condition: Tensor | None, num: int) -> Tensor:
    """Returns the biases of a block's hidden activations, with those of the condition if there is one, (N, C)."""
    bias = block.conv.bias if block.skip is None else block.conv.bias + block.skip.bias
    return bias.repeat(num, 1) if block.label is None else bias + block.label(condition)


class Between:
    """The strided convolutions from one scale to the next coarser one, and back."""

    def __init__(self, network: PixelCNN, scale: int, columns: int, num: int) -> None:
        shrink_down = cast(NormalizedConv, network.shrink_down[scale])
        shrink_right = cast(NormalizedConv, network.shrink_right[scale])
        self.down_taps, self.down_bias = taps(shrink_down), shrink_down.bias
        right = taps(shrink_right)
        self.above_left, self.above, self.left, self.here = right[0, 0], right[0, 1], right[1, 0], right[1, 1]
        self.right_bias = shrink_right.bias
        self.enlarge_down = enlarging(cast(NormalizedConv, network.enlarge_down[scale].conv))
        self.enlarge_right = enlarging(cast(NormalizedConv, network.enlarge_right[scale].conv))
        width, new = len(self.right_bias), self.right_bias.new_zeros
        self.width, self.columns = width, columns
        self.last_down = new(columns + 2, num, width)
        self.last_right = new(columns, num, width)
        self.last_right_at = self.last_right.unbind()
        self.coarse = new(columns // 2 + 1, num, width)
        self.coarse_at = self.coarse.unbind()
        self.raised_down = new(2, columns, num, width)
        self.raised_right = new(2, columns, num, width)
        self.raised_right_at = [row.unbind() for row in self.raised_right]
        self.raised_right_blocks = self.raised_right.view(2, columns // 2, 2, num, width).unbind(1)

    def shrink_down_row(self, u: Tensor) -> Tensor:
        """Maps an even row (W, N, C) and the one before it to a row (W / 2, N, C)."""
        coarse = self.down_bias.repeat(self.columns // 2, u.shape[1], 1)
        for shift in range(3):
            add_product(coarse, self.last_down[shift : shift + self.columns : 2], self.down_taps[0, shift])
        self.last_down[1:-1] = u
        for shift in range(3):
            add_product(coarse, self.last_down[shift : shift + self.columns : 2], self.down_taps[1, shift])
        return coarse

    def enlarge_down_row(self, u: Tensor) -> None:
        """Computes the next two rows from a coarse row (W / 2, N, C)."""
        for row, (matrix, bias) in enumerate(zip(*self.enlarge_down, strict=True)):
            both = torch.matmul(u, matrix).add_(bias).unflatten(-1, (2, self.width))
            self.raised_down[row] = both.transpose(1, 2).reshape(self.columns, -1, self.width)

    def begin_row(self) -> None:
        """Adds the terms of the coarse row from the odd row before it."""
        self.coarse.copy_(self.right_bias)
        coarse = self.coarse[:-1]
        add_product(coarse, self.last_right[0::2], self.above)
        add_product(coarse[1:], self.last_right[1:-1:2], self.above_left)

    def enlarge_right_pixel(self, coarse_column: int, x: Tensor) -> None:
        """Computes the next 2x2 pixels from a coarse pixel (N, C)."""
        matrices, biases = self.enlarge_right
        for row, block in enumerate(self.raised_right_blocks[coarse_column]):
            both = torch.addmm(biases[row], x, matrices[row])
            block.copy_(both.view(-1, 2, self.width).transpose(0, 1))


def enlarging(conv: NormalizedConv) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Returns matrices (C, 2C) and biases (2C,) of the upper and the lower row of the 2x2 pixels, left then right."""
    width = conv.direction.shape[1]
    weight = conv.weight().view(width, 2, 2, width).permute(1, 3, 2, 0).reshape(2, width, 2 * width)
    return weight.unbind(), conv.bias.view(width, 2, 2).permute(1, 2, 0).reshape(2, 2 * width).unbind()


class First:
    """The first layer: the down stream one row at a time, the down-right stream by adding each pixel to later ones."""

    def __init__(self, layer: FirstLayer, columns: int, num: int) -> None:
        self.columns, side = columns, 2 * REACH + 1
        self.down = taps(layer.down).flatten(0, 2)
        self.down_bias = layer.down.bias
        width, channels = len(self.down_bias), layer.down.direction.shape[1]
        left = taps(layer.left)
        # Of the row above: the kernel of `above`, and the upper half of that of `left`, which ends one pixel before.
        above = taps(layer.above)[0].clone()
        above[:REACH] += left[0]
        self.above = above.flatten(0, 1)
        self.bias = layer.above.bias + layer.left.bias
        self.left = left[1].flip(0).contiguous()  # the weights for the next pixel come first
        self.side = side
        new = self.bias.new_zeros
        # The three rows above the current one, then the current one; a last channel of ones inside the image.
        self.rows = [new(columns + 2 * REACH, num, channels) for _ in range(REACH + 1)]
        self.state = new(columns + REACH, num, width)
        self.state_at = self.state.unbind()
        self.next_at = [self.state[column + 1 : column + 1 + REACH] for column in range(columns)]

    def begin_row(self) -> Tensor:
        """Returns the row of the down stream (W, N, C), and adds the rows above to the down-right stream."""
        above = [self.unfolded(row) for row in self.rows[1:]]
        self.rows = [*self.rows[1:], torch.zeros_like(self.rows[0])]
        self.state.copy_(self.bias)
        add_product(self.state[: self.columns], above[-1], self.above)
        return torch.matmul(torch.cat(above, -1), self.down).add_(self.down_bias)

    def unfolded(self, row: Tensor) -> Tensor:
        """Returns for each column the pixels of a row that the kernels cover, (W, N, 7 * channels)."""
        return torch.cat([row[shift : shift + self.columns] for shift in range(self.side)], -1)

    def put(self, column: int, pixel: Tensor) -> None:
        """Adds this pixel (N, channels) to the next pixels of the row."""
        here = self.rows[-1][REACH + column]
        here[:, :-1] = pixel
        here[:, -1] = 1
        self.next_at[column].baddbmm_(here.expand(REACH, -1, -1), self.left)


class CachedPasses:
    """Computes the same parameters as ``FullPasses``, one pixel after another, a hundred times faster.

    Args:
        network: The network in evaluation mode; later changes of its weights have no effect.
        num: Number of images.
        condition: Classes or captions, int64 (num, ...), for a conditional network, else ``None``.
    """

    def __init__(self, network: PixelCNN, num: int, condition: Tensor | None) -> None:
        condition = network.encoder(condition)
        columns = [network.shape[2] >> scale for scale in range(network.num_scales)]
        self.first = First(network.first, columns[0], num)

        def caches(stages: Sequence[Stage]) -> tuple[list[list[DownBlock]], list[list[RightBlock]]]:
            return (
                [[DownBlock(b, columns[s], condition, num) for b in stage.down] for s, stage in enumerate(stages)],  # type: ignore[arg-type]
                [[RightBlock(b, columns[s], condition, num) for b in stage.right] for s, stage in enumerate(stages)],  # type: ignore[arg-type]
            )

        self.down_descent, self.right_descent = caches(cast(Sequence[Stage], network.descent))
        self.down_ascent, self.right_ascent = caches(cast(Sequence[Stage], network.ascent))
        self.between = [Between(network, scale, columns[scale], num) for scale in range(network.num_scales - 1)]
        self.head, self.head_bias = taps(network.head)[0, 0], network.head.bias

    def parameters_at(self, row: int, column: int) -> Tensor:
        """Returns the parameters of a pixel, (num, num_parameters); must be called in raster order."""
        if column == 0:
            self.begin_row(row, 0, self.first.begin_row())
        x = self.visit(row, column, 0, self.first.state_at[column])
        return torch.addmm(self.head_bias, concat_elu_last(x), self.head)

    def put(self, row: int, column: int, pixel: Tensor) -> None:
        """Sets the pixel whose parameters were computed last, (num, C) in [-1, 1]."""
        self.first.put(column, pixel)

    def begin_row(self, row: int, scale: int, u: Tensor) -> Tensor:
        """Runs the down stream over a row (W, N, C) of a scale, and of all coarser scales that have a new row here."""
        states = [u]
        for down, right in zip(self.down_descent[scale], self.right_descent[scale], strict=True):
            u = down.step(u, None)
            right.begin_row(u)
            states.append(u)
        skips = states[:-1]
        if scale < len(self.between):
            skips, between = states[1:], self.between[scale]
            if row % 2 == 0:
                coarse = between.shrink_down_row(u)
                between.begin_row()
                between.enlarge_down_row(self.begin_row(row // 2, scale + 1, coarse))
            else:
                between.last_down[1:-1] = u
            u = between.raised_down[row % 2]
        for down, right in zip(self.down_ascent[scale], self.right_ascent[scale], strict=True):
            u = down.step(u, skips.pop())
            right.begin_row(u)
        return u

    def visit(self, row: int, column: int, scale: int, x: Tensor) -> Tensor:
        """Runs the down-right stream over a pixel (N, C) of a scale, and of all coarser scales with a new one here."""
        states = [x]
        for block in self.right_descent[scale]:
            x = block.step(column, x, None)
            states.append(x)
        skips = states[:-1]
        if scale < len(self.between):
            skips, between = states[1:], self.between[scale]
            if row % 2 == 1:
                between.last_right_at[column].copy_(x)
            elif column % 2 == 1:
                between.coarse_at[column // 2 + 1].addmm_(x, between.left)
            else:
                coarse = between.coarse_at[column // 2].addmm_(x, between.here)
                between.enlarge_right_pixel(column // 2, self.visit(row // 2, column // 2, scale + 1, coarse))
            x = between.raised_right_at[row % 2][column]
        for block in self.right_ascent[scale]:
            x = block.step(column, x, skips.pop())
        return x
