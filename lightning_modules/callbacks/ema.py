"""Exponential moving average of the networks that sampling uses.

    average <- beta * average + (1 - beta) * weights,        beta = 0.5 ** (images of the batch / half-life)

once per batch. The half-life is counted in images, so that its effect does not depend on the batch size or on the
number of processes. Training uses the module's own weights; the average is used for sampling, by ``averaged_weights``.

Batch normalisation's running statistics are averaged as the weights are, as BigGAN's code does: those of the last
weights do not fit averaged ones. Other buffers are copied.

References:
    The Unusual Effectiveness of Averaging in GAN Training (Yazici et al., 2019), https://arxiv.org/abs/1806.04498
    Training Generative Adversarial Networks with Limited Data (Karras et al., 2020),
    https://arxiv.org/abs/2006.06676 (half-life in images, ramp-up)
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from numbers import Real
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor, nn

from lightning_modules.parts.capabilities import SupportsAveraging
from lightning_modules.parts.processes import world_size
from lightning_modules.runtime.distributed import broadcast_buffers, broadcast_tensors
from lightning_modules.runtime.loaded import AVERAGES_KEY

RUNNING_STATISTICS = (".running_mean", ".running_var")


def is_positive(value: Any) -> bool:
    """Returns whether a value is a number above 0, which NaN is not."""
    return isinstance(value, Real) and not isinstance(value, bool) and float(value) > 0


class EMA(Callback):
    """Averages ``module.averaged_networks()`` during training.

    Parameters and running statistics are averaged, other buffers copied. Put it before the callbacks that sample, so
    that they use the average after the batch that has just ended. A trainer may have several: the first is used for
    sampling, by ``averaged_weights``, and saved by ``zoo.save``; the others through their own ``average_parameters``.

    Args:
        half_life_images: Number of images (of all processes) after which a weight counts half; or a function of the
            number of earlier batches, which a growing network needs, such as ``parts.schedules.Interpolation``.
        rampup: The half-life is at most this fraction of the images seen so far, so that the first, random weights
            soon have no influence; ``None`` for a constant half-life.

    Raises:
        ValueError: If ``half_life_images`` or ``rampup`` is not positive.

    Example:
        >>> ema = EMA(half_life_images=20_000)
        >>> trainer = Trainer(callbacks=[ema])                           # doctest: +SKIP
        >>> with averaged_weights(trainer, module):                      # doctest: +SKIP
        ...     images = module.sample(64)
    """

    def __init__(self, half_life_images: float | Callable[[int], float] = 10_000, rampup: float | None = 0.05) -> None:
        if not callable(half_life_images) and not is_positive(half_life_images):
            raise ValueError(f"half_life_images={half_life_images} must be a positive number of images.")
        if rampup is not None and not is_positive(rampup):
            raise ValueError(f"rampup={rampup} must be a positive fraction of the images seen, or None.")
        self.half_life_images = half_life_images
        self.rampup = rampup
        self.images = 0
        self._averages: dict[str, Tensor] = {}
        self._swapped = False
        self._prediction = ExitStack()
        self._key: str | None = None

    @property
    def is_started(self) -> bool:
        """Whether there are averages: not before training, nor after processes that were spawned, which keep theirs."""
        return bool(self._averages)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses a module that does not name the networks to average.

        Raises:
            TypeError: If the module has no ``averaged_networks()``.
        """
        _averaged_networks(pl_module)
        place = [callback for callback in trainer.callbacks if isinstance(callback, EMA)].index(self)  # type: ignore[attr-defined]
        self._key = AVERAGES_KEY + (f" {place + 1}" if place else "")

    @property
    def state_key(self) -> str:
        """Where a checkpoint keeps the state: ``"EMA"``, ``"EMA 2"``, in the order of the trainer's callbacks."""
        return self._key or f"{AVERAGES_KEY} of {id(self)}"  # before setup, when Lightning asks for different keys

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts from a copy of the weights, or from the averages in the checkpoint."""
        self._aligned(pl_module)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Updates the average after a batch."""
        batch_images = extract_batch_size(batch) * world_size()
        beta = self._beta(batch_images, trainer.global_step - 1)
        self.images += batch_images

        averages: list[Tensor] = []
        weights: list[Tensor] = []
        for average, live, averaged in self._aligned(pl_module):
            if averaged:
                averages.append(average)
                weights.append(live.to(average.dtype))
            else:
                average.copy_(live)
        if averages:
            torch._foreach_lerp_(averages, weights, 1 - beta)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says how to sample with the averages."""
        if self.state_key == AVERAGES_KEY:
            rank_zero_info(
                "The module keeps the weights of the last batch; it samples with the averaged ones inside of "
                "`with averaged_weights(trainer, module):`, and zoo.save writes both."
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the averages equal on all processes: buffers are copies of each process's own."""
        self.broadcast_buffers(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the averages equal on all processes, as before validation."""
        self.broadcast_buffers(pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the averages into the module for ``Trainer.predict``, if this is the callback that samples are of."""
        if _of(trainer) is self:
            self.broadcast_buffers(pl_module)
            self._prediction.enter_context(self.average_parameters(pl_module))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores the module's own weights."""
        self._prediction.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restores the module's own weights after an error in ``Trainer.predict``."""
        self._prediction.close()

    def broadcast_buffers(self, module: LightningModule) -> None:
        """Overwrites averaged buffers by those of process 0; every process must call it."""
        if world_size() > 1:
            aligned = self._aligned(module)
            broadcast_tensors([average for average, live, _ in aligned if not isinstance(live, nn.Parameter)])

    @contextmanager
    def average_parameters(self, module: LightningModule) -> Iterator[None]:
        """Replaces the module's weights by the averages, and restores them bit for bit at the end.

        Changes of weights and buffers inside the context are lost. A nested call does nothing. It is not a collective
        call: a single process may sample alone.

        Args:
            module: The module that is trained.
        """
        if self._swapped:
            yield
            return
        aligned = self._aligned(module)
        with torch.no_grad():
            weights = [live.detach().clone() for _, live, _ in aligned]
        self._swapped = True
        try:
            _overwrite([live for _, live, _ in aligned], [average for average, _, _ in aligned])
            yield
        finally:
            _overwrite([live for _, live, _ in aligned], weights)
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
        """Restores images seen and averages; the averages move to the module's device when first used."""
        self.images = state_dict["images"]
        self._averages = dict(state_dict["averages"])

    def _beta(self, batch_images: int, step: int) -> float:
        half_life = self.half_life_images(step) if callable(self.half_life_images) else self.half_life_images
        if not half_life >= 0:
            raise ValueError(f"half_life_images is {half_life} after {step} batches; it must be at least 0.")
        if self.rampup is not None:
            half_life = min(half_life, self.rampup * self.images)
        return 0.5 ** (batch_images / half_life) if half_life > 0 else 0.0

    def _aligned(self, module: LightningModule) -> list[tuple[Tensor, Tensor, bool]]:
        """Returns each average (created if missing), the module's own tensor and whether that is averaged or copied.

        Tied tensors are listed once.
        """
        live = _named_tensors(module)
        if self._averages and (differing := sorted(self._averages.keys() ^ live.keys())):
            raise ValueError(
                f"The averages are of other networks than {type(module).__name__} has now; only one of the two has "
                f"{', '.join(differing[:5])}. Build the module as before, or leave EMA out."
            )
        aligned: dict[int, tuple[Tensor, Tensor, bool]] = {}
        for name, tensor in live.items():
            if id(tensor) not in aligned:
                averaged = isinstance(tensor, nn.Parameter) or name.endswith(RUNNING_STATISTICS)
                aligned[id(tensor)] = (self._average(name, tensor), tensor, averaged)
            self._averages[name] = aligned[id(tensor)][0]
        return list(aligned.values())

    def _average(self, name: str, live: Tensor) -> Tensor:
        # Half precision cannot represent the small changes of a slow average.
        dtype = torch.promote_types(live.dtype, torch.float32) if live.is_floating_point() else live.dtype
        if name not in self._averages:
            # A tensor created in inference mode could not be updated in training.
            with torch.inference_mode(False), torch.no_grad():
                return live.detach().to(dtype, copy=True)
        average = self._averages[name]
        if average.shape != live.shape:
            raise ValueError(f"The average of {name} has shape {tuple(average.shape)}, the module {tuple(live.shape)}.")
        return average.to(live.device, dtype)


def averaged_weights(trainer: Trainer, module: LightningModule) -> AbstractContextManager[None]:
    """Returns a context in which the module has averaged weights, if the run keeps any.

    Args:
        trainer: The trainer whose callbacks may hold an ``EMA``; of several, the first is used.
        module: The module that samples inside the context.
    """
    averages = _of(trainer)
    return nullcontext() if averages is None else averages.average_parameters(module)


def synchronize_buffers(trainer: Trainer, module: LightningModule) -> None:
    """Gives every process the buffers of process 0, also the averaged ones; every process must call it.

    It is needed to sample on all processes at another time than validation, where it is done automatically.
    """
    broadcast_buffers(module)
    averages = _of(trainer)
    if averages is not None:
        averages.broadcast_buffers(module)


def _of(trainer: Trainer) -> EMA | None:
    return next((callback for callback in trainer.callbacks if isinstance(callback, EMA)), None)  # type: ignore[attr-defined]


def _averaged_networks(module: LightningModule) -> dict[str, nn.Module]:
    if not isinstance(module, SupportsAveraging):
        raise TypeError(
            f"EMA needs {type(module).__name__}.averaged_networks(), a dictionary of attribute names and networks that "
            "sampling uses; add it, or leave the callback out."
        )
    return dict(module.averaged_networks())


def _named_tensors(module: LightningModule) -> dict[str, Tensor]:
    """Returns all parameters and persistent buffers, a tied one under each of its names."""
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
