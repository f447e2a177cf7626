"""Builds the network of a sequence model from names and sizes: a core that processes the past, and an emission."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.autoregressive.emissions import Categorical, IndependentNotes, NADENotes
from lightning_modules.autoregressive.frames_emission import GreyFrames, MixtureFrames
from lightning_modules.autoregressive.strokes_emission import StrokeMixture
from lightning_modules.networks.sequence_cores import CONTEXT, CausalTransformer, ConvLSTM, Recurrent, State
from lightning_modules.parts.checks import check_has_effect

ARCHITECTURES = ("lstm", "gru", "transformer", "conv_lstm")
OUTPUTS = {"tokens": ("independent",), "notes": ("independent", "nade"), "video": ("independent", "mixture")}
"""Names of emissions by kind of steps."""
Core = Recurrent | CausalTransformer | ConvLSTM
Emission = Categorical | IndependentNotes | NADENotes | GreyFrames | MixtureFrames | StrokeMixture


class SequenceNetwork(nn.Module):
    """A core that processes the past and an emission that gives the conditional distribution of the next step.

    Args:
        core: Maps embedded steps and a state to features and a state; one of ``networks.sequence_cores``.
        emission: One of ``autoregressive.emissions`` or of its kind, built for the core's features.
        num_classes: Number of classes of the sequences, for a recurrent core, or ``None``.
    """

    def __init__(self, core: Core, emission: Emission, num_classes: int | None = None) -> None:
        super().__init__()
        self.emission, self.core = emission, core
        self.classes: nn.Embedding | None = None
        if num_classes is not None:
            assert isinstance(core, Recurrent)
            self.classes = nn.Embedding(num_classes, math.prod(core.state_shape))

    def initial(self, labels: Tensor) -> State:
        """Returns the state before the first step of sequences of classes (N,), as sketch-rnn begins from its code."""
        assert self.classes is not None
        assert isinstance(self.core, Recurrent)
        return self.core.state_of(torch.tanh(self.classes(labels)))

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Maps inputs (N, T, ...) to features, each a function of all inputs so far, and the state after the last."""
        features, after = self.core(self.emission.embed(inputs), state)
        return features, after

    def inputs(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        """Returns the inputs that predict ``x``: the start, or the step before, and then all steps but the last."""
        first = self.emission.start(len(x), x.device) if before is None else before
        return torch.cat([first.to(x.dtype), x[:, :-1]], 1)

    def keep_rows(self, state: State, rows: Tensor) -> State:
        """Returns a state that starts anew in the rows where ``rows``, bool (N,), is false.

        Raises:
            ValueError: If the rows of a batch share a position, as in a transformer.
        """
        if not isinstance(self.core, Recurrent):
            raise ValueError("For this architecture streams must start in all rows at once: use windows.")
        return self.core.keep_rows(state, rows)


def sequence_network(
    step_shape: Sequence[int],
    vocabulary_size: int | None,
    architecture: str,
    width: int,
    num_layers: int,
    dropout: float,
    output: str,
    context: int,
    embedding: int | None = None,
) -> SequenceNetwork:
    """Builds the network that fits the steps: tokens, frames of a piano roll, or video.

    Args:
        step_shape: Shape of one step: () for tokens, (88,) for frames of a piano roll, (C, H, W) for video.
        vocabulary_size: Symbols of a token, or ``None`` for other steps.
        architecture: ``"lstm"``, ``"gru"``, ``"transformer"``, or ``"conv_lstm"`` for video.
        width: Size of the hidden state.
        num_layers: Layers.
        dropout: In [0, 1).
        output: ``"independent"`` or ``"nade"`` for the notes of a frame; ``"independent"`` or ``"mixture"``, of three
            logistics, for the pixels of video.
        context: Number of steps that a transformer attends to.
        embedding: Size of the embedding of a token or frame; ``None`` for the width, at most 256.

    Raises:
        ValueError: If the parts do not fit together.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture={architecture!r} is not one of {', '.join(ARCHITECTURES)}.")
    if width < 1 or num_layers < 1 or context < 1 or not 0 <= dropout < 1:
        raise ValueError(
            f"width={width}, num_layers={num_layers} and context={context} must be at least 1, "
            f"and dropout={dropout} in [0, 1)."
        )
    video = len(step_shape) == 3
    if video != (architecture == "conv_lstm"):
        raise ValueError(
            f"architecture={architecture!r} does not fit steps of shape {list(step_shape)}: "
            "conv_lstm is for video (C, H, W), and the others are for tokens and frames."
        )
    kind = "video" if video else "notes" if vocabulary_size is None else "tokens"
    if output not in OUTPUTS[kind]:
        raise ValueError(f"output={output!r} is not one of {', '.join(OUTPUTS[kind])}, those of {kind}.")
    if video and embedding is not None:
        raise ValueError(f"embedding={embedding} is for tokens and frames of notes; video is not embedded.")
    if video and dropout:
        raise ValueError(f"dropout={dropout} has no effect with architecture='conv_lstm'; leave it out.")
    attends = architecture == "transformer" or None
    check_has_effect("architecture='transformer'", attends, {"context": (context, CONTEXT)})
    check_steps(step_shape, vocabulary_size)
    if video:
        channels, height, length = step_shape
        core = ConvLSTM(channels, width, num_layers)
        frames = MixtureFrames if output == "mixture" else GreyFrames
        return SequenceNetwork(core, frames(channels, height, length, core.out_features))
    embedding = min(width, 256) if embedding is None else embedding
    if embedding < 1:
        raise ValueError(f"embedding={embedding} must be at least 1.")
    emission: Emission
    if vocabulary_size is not None:
        emission = Categorical(vocabulary_size, embedding, width)
    elif output == "nade":
        emission = NADENotes(step_shape[0], embedding, width)
    else:
        emission = IndependentNotes(step_shape[0], embedding, width)
    if architecture == "transformer":
        heads = max((head for head in (1, 2, 4, 6) if width % (2 * head) == 0), default=1)
        return SequenceNetwork(CausalTransformer(embedding, width, num_layers, heads, context, dropout), emission)
    return SequenceNetwork(Recurrent(architecture, embedding, width, num_layers, dropout), emission)


def check_steps(step_shape: Sequence[int], vocabulary_size: int | None) -> None:
    """Raises ValueError unless steps are tokens, frames of notes (D,), or video (C, H, W) of even sides."""
    shape = list(step_shape)
    if vocabulary_size is not None and vocabulary_size < 1:
        raise ValueError(f"vocabulary_size={vocabulary_size} must be at least 1, or null for frames.")
    if (not shape and vocabulary_size is None) or (len(shape) == 1 and vocabulary_size is not None):
        raise ValueError(
            f"step_shape={shape} and vocabulary_size={vocabulary_size}: tokens have step_shape=[] and the number of "
            "their symbols, frames have a shape and no vocabulary_size."
        )
    if len(shape) not in (0, 1, 3) or min(shape, default=1) < 1:
        raise ValueError(f"step_shape={shape} must be [] for tokens, [notes] for frames, or [C, H, W] for video.")
    if len(shape) == 3 and (shape[1] % 2 or shape[2] % 2):
        raise ValueError(f"step_shape={shape}: frames are halved in size, so both sides must be even.")
