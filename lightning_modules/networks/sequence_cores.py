"""Causal networks over sequences that process many steps or one step, with an explicit state.

Every core maps inputs (N, T, ...) and a state to features (N, T, ...), which at step t depend on inputs up to t, and to
the state after the last step. So sampling processes each step once and never repeats a prefix. A state is a tuple of
tensors, ``None`` at the start of a sequence; truncated back-propagation passes it on detached.
"""

import math
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.bfloat16 import lacks_bfloat16

State = tuple[Tensor, ...]


CONTEXT = 256
"""Steps that a transformer attends to, unless another number is asked for."""


def detached(state: State) -> State:
    """Returns a state detached from its graph."""
    return tuple(tensor.detach() for tensor in state)


class Recurrent(nn.Module):
    """LSTM or GRU layers.

    Args:
        cell: ``"lstm"`` or ``"gru"``.
        in_features: Size of an input.
        width: Size of the hidden state.
        num_layers: Layers.
        dropout: Between the layers and on the features, in [0, 1).

    Shapes: (N, T, in_features) to (N, T, width); the state holds (num_layers, N, width) tensors.
    """

    def __init__(self, cell: str, in_features: int, width: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        layer = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.layers = layer(in_features, width, num_layers, dropout=between, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.out_features = width
        self.state_shape = (2 if cell == "lstm" else 1, num_layers, width)
        if cell == "lstm":
            for name, bias in self.layers.named_parameters():
                if name.startswith("bias_ih"):  # forget gates start open (Gers et al., 2000)
                    nn.init.ones_(bias.data[width : 2 * width])

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Returns features and the state after the last step."""
        lstm = isinstance(self.layers, nn.LSTM)
        float32 = lstm and lacks_bfloat16(x)  # there torch has no LSTM in bfloat16 at all
        with torch.autocast("cpu", enabled=False) if float32 else nullcontext():
            x = x.float() if float32 else x
            if state is not None and not torch.is_autocast_enabled(x.device.type):
                state = tuple(tensor.to(x.dtype) for tensor in state)  # of a run that began in another precision
            features, after = self.layers(x, None if state is None else state if lstm else state[0])
        return self.dropout(features), after if lstm else (after,)

    def state_of(self, values: Tensor) -> State:
        """Returns values (N, product of ``state_shape``) as the state of N sequences."""
        each = values.unflatten(1, self.state_shape).unbind(1)
        return tuple(tensor.transpose(0, 1).contiguous() for tensor in each)

    def keep_rows(self, state: State, rows: Tensor) -> State:
        """Returns the state with zeros where ``rows``, bool (N,), is false: there a new sequence begins."""
        return tuple(tensor * rows.view(1, -1, 1) for tensor in state)


class CausalTransformer(nn.Module):
    """Pre-norm transformer with rotary positions (Su et al., 2021); its state is the cache of keys and values.

    A step attends to itself and to the ``context`` - 1 steps before it, in training as in sampling, so that the cost
    per step does not grow with the length of a sequence.

    Args:
        in_features: Size of an input.
        width: Size of the residual stream, a multiple of ``num_heads``, with an even size per head.
        num_layers: Blocks.
        num_heads: Heads of attention.
        context: Number of steps that a step attends to.
        dropout: On attention, on the branches and on the inputs, in [0, 1).

    Raises:
        ValueError: If ``width`` does not divide into heads of even size.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        num_layers: int,
        num_heads: int = 4,
        context: int = CONTEXT,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % num_heads or (width // num_heads) % 2:
            raise ValueError(f"width={width} must be a multiple of 2 * num_heads={2 * num_heads}.")
        self.input = nn.Linear(in_features, width)
        self.blocks = nn.ModuleList(Block(width, num_heads, context, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.out_features = width
        for name, parameter in self.named_parameters():
            if name.endswith("weight") and parameter.ndim == 2:
                residual = name.endswith(("project.weight", "contract.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * num_layers) if residual else 0.02)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Returns features (N, T, width), and the position with each block's keys and values."""
        position = 0 if state is None else int(state[0])
        h, caches = self.dropout(self.input(x)), []
        for i, block in enumerate(self.blocks):
            cache = None if state is None else (state[1 + 2 * i], state[2 + 2 * i])
            h, kept = block(h, position, cache)
            caches += kept
        return self.norm(h), (torch.tensor(position + x.shape[1]), *caches)


class Block(nn.Module):
    """Attention within a causal window and a two-layer network, each added to the residual stream."""

    def __init__(self, width: int, num_heads: int, context: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.context, self.rate = num_heads, context, dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, h: Tensor, position: int, cache: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Adds both branches; returns the residual stream and the last ``context`` - 1 keys and values."""
        steps = h.shape[1]
        heads = self.attend(self.norm1(h)).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        query, key = rotated(query, position), rotated(key, position)
        if cache is not None:
            key, value = torch.cat([cache[0], key], 2), torch.cat([cache[1], value], 2)
        ages = torch.arange(key.shape[2] - steps, key.shape[2], device=h.device)[:, None] - torch.arange(
            key.shape[2], device=h.device
        )
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=(ages >= 0) & (ages < self.context),
            dropout_p=self.rate if self.training else 0.0,
        )
        h = h + self.dropout(self.project(attended.transpose(1, 2).flatten(2)))
        h = h + self.dropout(self.contract(F.gelu(self.expand(self.norm2(h)))))
        kept = max(key.shape[2] - self.context + 1, 0)
        return h, (key[:, :, kept:], value[:, :, kept:])


def rotated(x: Tensor, position: int) -> Tensor:
    """Rotates pairs of features (N, heads, T, D) by angles that are proportional to the position of the step."""
    half = x.shape[-1] // 2
    rates = 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    angles = torch.arange(position, position + x.shape[2], device=x.device)[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class ConvLSTM(nn.Module):
    """LSTM whose maps are convolutions (Shi et al., 2015, https://arxiv.org/abs/1506.04214), without peepholes.

    A strided convolution halves the size of the frames; features are of that half size. Features are the hidden state
    and the frame itself, with each 2x2 pixels as channels: the next frame is mostly the current one, moved, so the
    state does not have to hold the current one.

    Args:
        channels: Channels of a frame.
        width: Channels of the hidden state.
        num_layers: Layers.

    Shapes: (N, T, C, H, W) to (N, T, width + 4 C, H/2, W/2); the state holds h and c of each layer.
    """

    def __init__(self, channels: int, width: int, num_layers: int = 1) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(channels, width, 4, stride=2, padding=1)
        self.gates = nn.ModuleList(nn.Conv2d(2 * width, 4 * width, 3, padding=1) for _ in range(num_layers))
        self.width, self.out_features = width, width + 4 * channels
        for layer in self.gates:
            nn.init.ones_(layer.bias.data[width : 2 * width])  # type: ignore[index]

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Returns features and the state after the last frame."""
        num, steps = x.shape[:2]
        inputs = F.leaky_relu(self.shrink(x.flatten(0, 1)), 0.2).unflatten(0, (num, steps))
        memory = list(state) if state is not None else [torch.zeros_like(inputs[:, 0])] * (2 * len(self.gates))
        features = []
        for t in range(steps):
            h = inputs[:, t]
            for layer, gates in enumerate(self.gates):
                above, cell = memory[2 * layer : 2 * layer + 2]
                enter, forget, leave, candidate = gates(torch.cat([h, above], 1)).split(self.width, 1)
                cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
                h = torch.sigmoid(leave) * torch.tanh(cell)
                memory[2 * layer], memory[2 * layer + 1] = h, cell
            features.append(torch.cat([h, halved(x[:, t]).to(h.dtype)], 1))
        return torch.stack(features, 1), tuple(memory)


def halved(frames: Tensor) -> Tensor:
    """Maps frames (N, C, H, W) to (N, 4 * C, H / 2, W / 2); torch leaves the shape of no frames as it is."""
    num, channels, height, width = frames.shape
    return F.pixel_unshuffle(frames, 2) if num else frames.view(0, 4 * channels, height // 2, width // 2)
