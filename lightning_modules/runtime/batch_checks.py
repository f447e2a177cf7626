"""What is wrong with a batch, as a sentence, before torch says it in its own words; and what is only suspicious.

Shapes and dtypes are known without waiting for the device, so they are checked on every batch; values on the first.
"""

import zlib
from collections.abc import Mapping, Sequence

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules.parts.processes import world_size
from lightning_modules.parts.sampling import holds_integers
from lightning_modules.parts.support import problem_with_shape, problem_with_step_shape
from lightning_modules.runtime.distributed import gather_objects


def form_problem(
    batch: Batch, shape: Sequence[int] | None, symbols: bool, step_shape: Sequence[int] | None = None
) -> str | None:
    """Returns what is wrong with the form of a batch, if anything is; it reads no value.

    Args:
        batch: The batch.
        shape: Shape of an example, or ``None`` where any is allowed.
        symbols: Whether examples are indices of symbols rather than numbers.
        step_shape: Shape of one step of a sequence, or ``None`` where examples are no sequences.
    """
    x = batch.x
    if x.ndim == 0 or len(x) == 0:
        return f"a batch has no examples: its shape is {list(x.shape)}."
    if shape is not None and (problem := problem_with_shape(x, shape)):
        return problem
    if step_shape is not None and (problem := problem_with_step_shape(x, step_shape)):
        return problem
    if x.numel() == 0:
        return f"the examples of a batch are empty: its shape is {list(x.shape)}."
    if x.is_complex() or (symbols and x.dtype == torch.bool):
        return f"a batch of {x.dtype} has neither numbers nor the indices of symbols; convert it."
    return None


def dtype_problem(x: Tensor, value_range: tuple[float, float] | None, symbols: bool = False) -> str | None:
    """Returns a sentence if examples, which should be floats, are not, as images before their conversion.

    Args:
        x: Examples.
        value_range: Range of images, or ``None``.
        symbols: Whether examples should be indices of symbols, which are no floats.
    """
    if symbols:
        return f"it expects indices of symbols, but a batch is of {x.dtype}." if x.is_floating_point() else None
    if x.is_floating_point():
        return None
    span = f"spans [{x.min().item():g}, {x.max().item():g}]"
    if value_range is None:
        return f"it expects floats, but a batch of {x.dtype} {span}; convert it, by x.float()."
    low, high = value_range
    convert = "x.float()" if x.max() <= 1 else "x.float() / 255" if low == 0 else "x.float() / 127.5 - 1"
    return f"it expects floats in [{low:g}, {high:g}], but a batch of {x.dtype} {span}; convert it, as by {convert}."


def label_problem(batch: Batch, num_classes: int, name: str = "num_classes") -> str | None:
    """Returns what is wrong with the class labels of a batch, if anything is; ``name`` is that of the number."""
    labels, built = batch.labels, f"it was built for {name}={num_classes}"
    if labels is None or labels.shape != batch.x.shape[:1] or not holds_integers(labels):
        return f"{built}; a batch must be (x, integer labels of shape (N,))."
    if labels.min() < 0 or labels.max() >= num_classes:
        return f"{built}, but the labels of a batch span [{labels.min()}, {labels.max()}]."
    return None


def caption_problem(batch: Batch, num_words: int) -> str | None:
    """Returns what is wrong with the captions of a batch, if anything is."""
    tokens, built = batch.tokens, f"it was built for num_words={num_words}"
    if tokens is None or tokens.ndim != 2 or len(tokens) != len(batch.x) or not tokens.shape[1]:
        return f"{built}; a batch must have tokens, integers of shape (N, S), as those of datamodules with captions."
    if not holds_integers(tokens):
        return f"{built}, but the tokens of a batch are {tokens.dtype}, not integers."
    problem = tokens_problem(tokens, num_words)
    return None if problem is None else f"{built}, but {problem}."


def attribute_problem(batch: Batch, sizes: Mapping[str, int]) -> str | None:
    """Returns what is wrong with the attributes of a batch, if anything is; ``sizes`` are the numbers of values."""
    found, built = batch.attributes, f"it was built for attributes={dict(sizes)}"
    if found is None or found.shape != (len(batch.x), len(sizes)) or not holds_integers(found):
        return (
            f"{built}; a batch must have attributes, integers of shape (N, {len(sizes)}): ask the datamodule for them."
        )
    for (name, size), values in zip(sizes.items(), found.unbind(1), strict=True):
        if values.min() < -1 or values.max() >= size:
            return f"{built}, but {name} of a batch spans [{values.min()}, {values.max()}]."
    return None


def tokens_problem(tokens: Tensor, num_words: int) -> str | None:
    """Returns what is wrong with captions as tokens, integers (N, S), if anything is."""
    if tokens.min() < 0 or tokens.max() > num_words:
        return f"tokens span [{tokens.min()}, {tokens.max()}], while words are 1 to {num_words} and padding is 0"
    is_word = tokens > 0
    if not bool(is_word[:, 0].all()) or bool((is_word[:, 1:] & ~is_word[:, :-1]).any()):
        return "a caption is empty, or its padding comes before its words"
    return None


def length_problem(batch: Batch) -> str | None:
    """Returns what is wrong with the lengths of a batch, if anything is; on a CPU, where it waits for nothing."""
    lengths = batch.lengths
    if lengths is None or lengths.device.type != "cpu" or lengths.numel() == 0 or batch.x.ndim < 2:
        return None
    if lengths.is_floating_point() or 1 <= int(lengths.min()) <= int(lengths.max()) <= batch.x.shape[1]:
        return None  # other types are found by the form
    return f"lengths must lie in 1..{batch.x.shape[1]}, but those of a batch span [{lengths.min()}, {lengths.max()}]."


def warn_if_never_full(batch: Batch, name: str) -> None:
    """Warns if no sequence is as long as the batch, as where class labels were read as lengths.

    Args:
        batch: The first batch.
        name: Name of the method.
    """
    lengths = batch.lengths
    if lengths is not None and lengths.numel() and batch.x.ndim > 1 and int(lengths.max()) < batch.x.shape[1]:
        rank_zero_warn(
            f"{name}: no sequence of the first batch is as long as the batch, {batch.x.shape[1]} steps. The second "
            f"part of a batch was read as lengths, the longest {int(lengths.max())}; class labels are not used here."
        )


def warn_if_never_negative(x: Tensor, value_range: tuple[float, float] | None, name: str) -> None:
    """Warns if images that should lie in [-1, 1] seem to lie in [0, 1].

    Args:
        x: Examples.
        value_range: The range that the method models.
        name: Name of the method.
    """
    if x.ndim == 4 and value_range == (-1.0, 1.0) and x.min() >= 0:
        rank_zero_warn(
            f"{name} models images in [-1, 1], but no value of the first batch is negative: it spans "
            f"[{x.min():.4g}, {x.max():.4g}]. If the images lie in [0, 1], scale them by 2 * x - 1."
        )


def is_same_everywhere(batch: Batch) -> bool:
    """Returns whether there are several processes and all have the same batch; all must call it together.

    Lightning splits what a ``DataLoader`` reads over processes, but no ``IterableDataset`` and no other iterable.
    """
    if world_size() == 1:
        return False
    content = batch.x.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
    digests = gather_objects((tuple(batch.x.shape), zlib.crc32(content)))
    return len(set(digests)) == 1


def warn_of_same_batches(name: str) -> None:
    """Warns that all processes train on the same batches; ``name`` is that of the method."""
    rank_zero_warn(
        f"{name} gets the same batch on all {world_size()} processes: Lightning does not split this loader. Let each "
        "process read its own part, or pass a datamodule or a DataLoader of a data set with a length."
    )
