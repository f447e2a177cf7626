"""What a window of accumulated batches keeps between them, as tensors by name, for checkpoints."""

from collections.abc import Mapping

from torch import Tensor, nn

RealBatches = list[tuple[Tensor, Tensor | None]]
"""Real examples (N, *shape) and their labels, int64 (N,), of each batch of the window so far."""


def window_state(discriminator: nn.Module, batches: RealBatches) -> dict[str, Tensor]:
    """Returns the accumulated gradients of the discriminator and the real batches; nothing between windows."""
    if not batches:
        return {}
    gradients = {f"gradient.{name}": p.grad for name, p in discriminator.named_parameters() if p.grad is not None}
    reals = {f"real.{i:04d}": x for i, (x, _) in enumerate(batches)}
    labels = {f"labels.{i:04d}": y for i, (_, y) in enumerate(batches) if y is not None}
    return {**gradients, **reals, **labels}


def read_window(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], RealBatches]:
    """Returns the gradients by the names of their parameters, and the real batches, that ``window_state`` returned."""
    gradients = {key.partition(".")[2]: value for key, value in state.items() if key.startswith("gradient.")}
    reals = sorted(key for key in state if key.startswith("real."))
    labels = [state.get(key.replace("real.", "labels.")) for key in reals]
    return gradients, [(state[key], y) for key, y in zip(reals, labels, strict=True)]
