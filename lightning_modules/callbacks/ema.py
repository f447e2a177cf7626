"""Exponential moving average of the networks that sampling uses.

    average <- beta * average + (1 - beta) * weights,        beta = 0.5 ** (images of the batch / half-life)

once a batch. The half-life is counted in images, so that it means the same at every batch size and
number of processes. The module keeps its own weights and trains on; whoever samples asks for the average.

References:
    The Unusual Effectiveness of Averaging in GAN Training (Yazici et al., 2019), https://arxiv.org/abs/1806.04498
    Training Generative Adversarial Networks with Limited Data (Karras et al., 2020),
    https://arxiv.org/abs/2006.06676 (half-life in images, ramp-up)
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor, nn

from lightning_modules.parts.capabilities import Averages
from lightning_modules.parts.distributed import broadcast_buffers, broadcast_tensors, world_size


class EMA(Callback):
    """Averages ``module.averaged_networks()`` over the course of training.

    Parameters are averaged, buffers copied. Put it before the callbacks that sample, so that they see
    the average of the batch that has just ended.

    Args:
        half_life_images: Images (of all processes) after which a weight counts half.
        rampup: The half-life is at most this fraction of the images seen so far, so that the first
            random weights are forgotten early; ``None`` for a constant half-life.

    Raises:
        ValueError: If ``half_life_images`` or ``rampup`` is not positive.

    Example:
        >>> ema = EMA(half_life_images=20_000)
        >>> trainer = Trainer(callbacks=[ema])                           # doctest: +SKIP
        >>> with averaged_weights(trainer, module):                      # doctest: +SKIP
        ...     images = module.sample(64)
    """

    def __init__(self, half_life_images: float = 10_000, rampup: float | None = 0.05) -> None:
        if half_life_images <= 0:
            raise ValueError(f"half_life_images={half_life_images} must be a positive number of images.")
        if rampup is not None and rampup <= 0:
            raise ValueError(f"rampup={rampup} must be a positive fraction of the images seen, or None.")
        self.half_life_images = half_life_images
        self.rampup = rampup
        self.images = 0
        self._averages: dict[str, Tensor] = {}
        self._swapped = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses a module that does not say what to average.

        Raises:
            TypeError: If the module has no ``averaged_networks()``.
        """
        _averaged_networks(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts from a copy of the weights, or of what the checkpoint held."""
        self._aligned(pl_module)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the average by one batch."""
        batch_images = extract_batch_size(batch) * world_size()
        beta = self._beta(batch_images)
        self.images += batch_images

        averages: list[Tensor] = []
        weights: list[Tensor] = []
        for average, live in self._aligned(pl_module):
            if isinstance(live, nn.Parameter):
                averages.append(average)
                weights.append(live.to(average.dtype))
            else:
                average.copy_(live)
        if averages:
            torch._foreach_lerp_(averages, weights, 1 - beta)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the averages equal on all processes: buffers are copies of each process's own."""
        self.broadcast_buffers(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As before validation."""
        self.broadcast_buffers(pl_module)

    def broadcast_buffers(self, module: LightningModule) -> None:
        """Overwrites averaged buffers by those of process 0; every process must call it."""
        if world_size() > 1:
            aligned = self._aligned(module)
            broadcast_tensors([average for average, live in aligned if not isinstance(live, nn.Parameter)])

    @contextmanager
    def average_parameters(self, module: LightningModule) -> Iterator[None]:
        """Puts the averages into the module, and its own weights back bit for bit at the end.

        What happens to weights and buffers inside is forgotten at the end. Inside another one it does
        nothing. Not a collective call: a single process may sample alone.

        Args:
            module: The module that is trained.
        """
        if self._swapped:
            yield
            return
        aligned = self._aligned(module)
        with torch.no_grad():
            weights = [live.detach().clone() for _, live in aligned]
        self._swapped = True
        try:
            _overwrite([live for _, live in aligned], [average for average, _ in aligned])
            yield
        finally:
            _overwrite([live for _, live in aligned], weights)
            self._swapped = False

    def averaged_state_dict(self, module: LightningModule) -> dict[str, Tensor]:
        """Returns copies of the averages, named as in ``module.state_dict()``: ``"generator.weight"``."""
        self._aligned(module)
        live = _named_tensors(module)
        return {name: self._averages[name].to(live[name].dtype, copy=True) for name in live}

    def state_dict(self) -> dict[str, Any]:
        """Returns the images seen and the averages."""
        return {"images": self.images, "averages": dict(self._averages)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what a checkpoint holds; the averages move to the module's device when first used."""
        self.images = state_dict["images"]
        self._averages = dict(state_dict["averages"])

    def _beta(self, batch_images: int) -> float:
        half_life = self.half_life_images
        if self.rampup is not None:
            half_life = min(half_life, self.rampup * self.images)
        return 0.5 ** (batch_images / half_life) if half_life > 0 else 0.0

    def _aligned(self, module: LightningModule) -> list[tuple[Tensor, Tensor]]:
        """Pairs each average, made where it is missing, with the module's own tensor; tied ones once."""
        live = _named_tensors(module)
        if self._averages and (differing := sorted(self._averages.keys() ^ live.keys())):
            raise ValueError(
                f"The averages were kept of other networks than {type(module).__name__} has now; only one of "
                f"the two has {', '.join(differing[:5])}. Build the module as it was, or leave EMA out."
            )
        pairs: dict[int, tuple[Tensor, Tensor]] = {}
        for name, tensor in live.items():
            if id(tensor) not in pairs:
                pairs[id(tensor)] = (self._average(name, tensor), tensor)
            self._averages[name] = pairs[id(tensor)][0]
        return list(pairs.values())

    def _average(self, name: str, live: Tensor) -> Tensor:
        # Half precision cannot hold the small steps of a slow average.
        dtype = torch.promote_types(live.dtype, torch.float32) if live.is_floating_point() else live.dtype
        if name not in self._averages:
            # A tensor made in inference mode could not be updated in training.
            with torch.inference_mode(False), torch.no_grad():
                return live.detach().to(dtype, copy=True)
        average = self._averages[name]
        if average.shape != live.shape:
            raise ValueError(f"The average of {name} has shape {tuple(average.shape)}, the module {tuple(live.shape)}.")
        return average.to(live.device, dtype)


def averaged_weights(trainer: Trainer, module: LightningModule) -> AbstractContextManager[None]:
    """Puts averaged weights into the module for as long as the context lasts, if the run keeps any.

    Args:
        trainer: The trainer whose callbacks may hold an ``EMA``.
        module: The module that samples inside the context.
    """
    averages = _of(trainer)
    return nullcontext() if averages is None else averages.average_parameters(module)


def synchronize_buffers(trainer: Trainer, module: LightningModule) -> None:
    """Gives every process the buffers of process 0, the averaged ones too; every process must call it.

    For those who sample on all processes at another time than validation, where it happens by itself.
    """
    broadcast_buffers(module)
    averages = _of(trainer)
    if averages is not None:
        averages.broadcast_buffers(module)


def _of(trainer: Trainer) -> EMA | None:
    return next((callback for callback in trainer.callbacks if isinstance(callback, EMA)), None)  # type: ignore[attr-defined]


def _averaged_networks(module: LightningModule) -> dict[str, nn.Module]:
    if not isinstance(module, Averages):
        raise TypeError(
            f"EMA needs {type(module).__name__}.averaged_networks() -> dict of attribute name and network, "
            "those that sampling uses; add it, or leave the callback out."
        )
    return dict(module.averaged_networks())


def _named_tensors(module: LightningModule) -> dict[str, Tensor]:
    """All parameters and persistent buffers, a tied one under each of its names."""
    return {
        key: value
        for name, network in _averaged_networks(module).items()
        for key, value in network.state_dict(prefix=f"{name}.", keep_vars=True).items()
        if isinstance(value, Tensor)
    }


@torch.no_grad()
def _overwrite(targets: list[Tensor], sources: list[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
