"""Base classes of all modules: data spec, batch checks, held-out means and exact resume; sampling for models.

Convention: a method that a base class defines is abstract, a hook (a documented method that does nothing), or final.
Lightning's own hooks may be overridden by a method that calls ``super()`` once; ``hyperparameters_for`` may be
overridden freely.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback
from torch import Generator, Tensor, nn

from datamodules.argument_types import check_argument_types
from datamodules.spec import DataSpec
from lightning_modules.parts.conditions import given_condition
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.processes import rank
from lightning_modules.parts.sampling import CHUNK, evaluating
from lightning_modules.parts.schedules import Schedule
from lightning_modules.runtime.checked_batches import CheckedModule
from lightning_modules.runtime.checked_calls import ChecksCalls
from lightning_modules.runtime.checkpoint_checks import check_fits
from lightning_modules.runtime.checkpoint_io import write_atomically
from lightning_modules.runtime.distributed import broadcast_buffers, gather_objects
from lightning_modules.runtime.flags import refuse_half_precision, refuse_unsupported_flags, refuse_unsupported_strategy
from lightning_modules.runtime.given_conditions import TakesConditions
from lightning_modules.runtime.prediction import PredictsSamples
from lightning_modules.runtime.random_states import RandomStates
from lightning_modules.runtime.run_folder import PlainNames
from lightning_modules.runtime.tracking_state import join_run, resume_run, save_run_id
from lightning_modules.runtime.training_data import TrainingData

Method = TypeVar("Method", bound="ZooModule")


class MissingDataSpec(ValueError):
    """The data spec of a module was requested, but neither a datamodule nor a checkpoint has provided one."""


class ZooModule(CheckedModule, ABC):
    """Abstract: base of everything that trains on a datamodule. It defines no networks and no loss.

    Hyperparameters are plain JSON values, so that a module can be rebuilt from its checkpoint alone. Every random
    number of a training step is drawn from ``noise``. ``trainer.global_step`` counts batches, however many optimizers
    there are.

    Args:
        num_classes: Number of classes of a batch's labels, or ``None`` for a module that takes no labels.
        lr_schedule: As in ``runtime.optimization``.
        clip_norm: As in ``runtime.optimization``.

    Raises:
        ValueError: If an argument of a method that is annotated as a count, a truth value, a list or values by name is
            none.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Checks the arguments of every method, before it builds anything of them."""
        if args or kwargs:  # there are none where a module is copied
            check_argument_types(cls.__init__, args, kwargs)
        return super().__new__(cls)

    def __init__(
        self, num_classes: int | None = None, lr_schedule: Schedule | None = None, clip_norm: float | None = None
    ) -> None:
        super().__init__(num_classes, lr_schedule, clip_norm)
        self.noise = Noise()
        self.restored_state: Mapping[str, Tensor] | None = None
        self._data_spec: DataSpec | None = None

    # Data

    @property
    def data_spec(self) -> DataSpec:
        """The spec of the data that the module was built for or trained on.

        Raises:
            MissingDataSpec: If there is none.
        """
        if self._data_spec is None:
            raise MissingDataSpec(
                f"This {type(self).__name__} has no data spec: train it with a datamodule, build it with "
                f"{type(self).__name__}.for_data(spec), or set data_spec."
            )
        return self._data_spec

    @data_spec.setter
    def data_spec(self, spec: DataSpec) -> None:
        self._data_spec = spec

    @property
    def has_data_spec(self) -> bool:
        """Whether ``data_spec`` is known."""
        return self._data_spec is not None

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns the hyperparameters that follow from the data: the shape. Families override this to add theirs."""
        return {"shape": list(spec.shape)}

    @classmethod
    def for_data(cls: type[Method], spec: DataSpec, **overrides: Any) -> Method:
        """Builds the method for a datamodule's ``spec``; ``overrides`` are further hyperparameters."""
        cls.check_kind(spec)
        module = cls(**{**cls.hyperparameters_for(spec), **overrides})
        module.check_data(spec)
        module.data_spec = spec
        return module

    @classmethod
    def check_kind(cls, spec: DataSpec) -> None:
        """Raises ValueError unless the method models data of this kind."""
        if spec.kind not in cls.kinds:
            raise ValueError(f"{cls.__name__} models {' and '.join(cls.kinds)}, but {spec.name} yields {spec.kind}.")

    def check_data(self, spec: DataSpec) -> None:
        """Compares shape, classes and range with the data.

        Raises:
            ValueError: If they differ; the message names the module's value and the data's.
        """
        self.check_kind(spec)
        if problem := self.data_problem(spec):
            raise ValueError(f"{type(self).__name__} {problem}")
        own = {"shape": tuple(self.hparams.get("shape", spec.shape)), "num_classes": self.num_classes}
        for key, value in own.items():
            if value is not None and value != getattr(spec, key):
                raise ValueError(
                    f"{type(self).__name__} was built for {key}={as_json(value)}, but {spec.name} has "
                    f"{key}={as_json(getattr(spec, key))}."
                )
        if (words := self.num_words) is not None and spec.vocabulary and words != len(spec.vocabulary):
            raise ValueError(
                f"{type(self).__name__} was built for num_words={words}, but the captions of {spec.name} have "
                f"{len(spec.vocabulary)} words."
            )
        if self.value_range and spec.value_range and tuple(spec.value_range) != self.value_range:
            remedy = f"build the datamodule {'with' if self.value_range == (0.0, 1.0) else 'without'} binarize"
            if tuple(spec.value_range) == (0.0, 1.0) and not spec.is_binarized:
                remedy = f"scale its images by 2 * x - 1, or {remedy}"
            raise ValueError(
                f"{type(self).__name__} models images in {as_json(self.value_range)}, but {spec.name} yields "
                f"{as_json(spec.value_range)}; {remedy}."
            )

    def data_problem(self, spec: DataSpec) -> str | None:
        """Hook: returns a further reason why data do not fit, or ``None``; it follows the class name in the message."""
        return None

    def half_precision_problem(self) -> str | None:
        """Hook: returns why weights and data of 16 bits (``precision="bf16-true"``) do not suffice, as a sentence."""
        return None

    def configure_callbacks(self) -> Sequence[Callback]:
        """Attaches the callbacks that exact resume needs, so that a bare ``Trainer.fit`` has them."""
        refuse_unsupported_flags(self.trainer, self)  # here, because Lightning refuses them right after this hook
        return [RandomStates(), TrainingData(), PlainNames()]

    def setup(self, stage: str) -> None:
        """Takes the data spec from the trainer's datamodule."""
        super().setup(stage)
        spec = getattr(getattr(self.trainer, "datamodule", None), "spec", None)
        if spec is not None:
            self.check_data(spec)
            self.data_spec = spec
            if self.num_words is not None and not spec.is_captioned:  # some data know their words after their setup
                raise ValueError(
                    f"{type(self).__name__} was built for num_words={self.num_words}, but {spec.name} has no captions."
                )
        if stage != "predict":
            refuse_half_precision(self.trainer, self, self.half_precision_problem())
        if stage != "fit":
            join_run(self.trainer)
        if stage == "fit" and not self.automatic_optimization:
            refuse_unsupported_strategy(self.trainer, num_optimizers=2)
            # The warning advises to keep the weights from before each step; here those from after it are wanted.
            warnings.filterwarnings("ignore", "Using ModelCheckpoint with manual optimization", UserWarning)
        write_atomically(self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the data spec, the id of the tracked run, and the states of all processes."""
        super().on_save_checkpoint(checkpoint)
        broadcast_buffers(self)
        checkpoint["data_spec"] = self.data_spec.to_json() if self.has_data_spec else None
        save_run_id(self.trainer, checkpoint)
        if own := self.rank_state():
            checkpoint["rank_states"] = gather_objects(own)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the data spec, unless a datamodule has set one, and the state of this process; resumes tracking."""
        check_fits(self, checkpoint, self._trainer)
        super().on_load_checkpoint(checkpoint)
        resume_run(self._trainer, checkpoint)
        if not self.has_data_spec and checkpoint.get("data_spec") is not None:
            self.data_spec = DataSpec.from_json(checkpoint["data_spec"])
        states = checkpoint.get("rank_states", [])
        if rank() < len(states):  # another number of processes is refused when the run is resumed
            self.restored_state = states[rank()]
            self.load_rank_state(self.restored_state)
        self.batches_before = int(checkpoint.get("global_step", 0))

    def on_train_start(self) -> None:
        """Restores the state of this process on its device: the module was on the CPU when its checkpoint was read."""
        super().on_train_start()
        if self.restored_state is not None:
            self.load_rank_state({key: value.to(self.device) for key, value in self.restored_state.items()})
        self.restored_state = None

    def rank_state(self) -> dict[str, Tensor]:
        """Hook: returns the state that each process keeps for itself: persistent chains, replay buffers.

        It is not kept in buffers of the module, because those of process 0 overwrite those of all others.
        """
        return {}

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Hook: restores what ``rank_state`` returned on this process."""


class GenerativeModule(PredictsSamples, TakesConditions, ZooModule, ChecksCalls):
    """Abstract: a model that new data can be sampled from, also by ``Trainer.predict``; see ``runtime.prediction``.

    Args:
        num_classes: Number of classes of a class-conditional model, or ``None``.
        lr_schedule: As in ``runtime.optimization``.
        clip_norm: As in ``runtime.optimization``.
        num_words: Number of words of the captions that the model is conditional on, or ``None``.

    Raises:
        ValueError: If ``num_classes`` or ``num_words`` is not positive.
    """

    num_evaluated: int = 10_000
    """Number of samples for FID and Inception Score: 2 000 where 10 000 would take over half an hour."""
    class_probabilities: Tensor | None

    def __init__(
        self,
        num_classes: int | None = None,
        lr_schedule: Schedule | None = None,
        clip_norm: float | None = None,
        num_words: int | None = None,
    ) -> None:
        super().__init__(num_classes, lr_schedule, clip_norm)
        self.num_words = num_words
        if num_words is not None and num_words < 1:
            raise ValueError(f"num_words={num_words} must be at least 1, or null for a model without captions.")
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes={num_classes} must be at least 1, or null for a model without classes.")
        uniform = None if num_classes is None else torch.full((num_classes,), 1 / num_classes)
        self.register_buffer("class_probabilities", uniform)

    def setup(self, stage: str) -> None:
        """Takes the data spec and the class frequencies from the trainer's datamodule."""
        super().setup(stage)
        if self.class_probabilities is not None and self.has_data_spec and (counts := self.data_spec.class_counts):
            weights = torch.tensor(counts, dtype=torch.float32, device=self.class_probabilities.device)
            self.class_probabilities.copy_(weights / weights.sum())

    @abstractmethod
    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """Samples examples, shape (num_samples, *shape), in the range that the datamodule yields.

        It runs in evaluation mode without gradients. Methods may have further keyword arguments with defaults.

        Args:
            num_samples: Number of samples, at least 1.
            labels: Class labels, int64 (num_samples,), for a class-conditional model; ``None`` draws them by their
                frequency in training.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system. The global random
                state does not change.

        Raises:
            ValueError: If ``num_samples`` is not positive, or ``labels`` do not fit the model.
        """

    def decode_in_chunks(
        self,
        network: nn.Module,
        z: Tensor,
        labels: Tensor | None,
        read: Callable[[Tensor], Tensor] = lambda outputs: outputs,
    ) -> Tensor:
        """Maps codes (N, latent_dim) to examples in evaluation mode, ``CHUNK`` at a time.

        Args:
            network: Maps codes and the condition to outputs.
            z: The codes.
            labels: The condition, int64 (N, ...), for a conditional model.
            read: Maps outputs to examples.

        Raises:
            ValueError: If a code is of another form, or labels are missing or do not fit.
        """
        z = self.codes(z).to(self.device, next(network.parameters()).dtype)
        return self.in_chunks(lambda *pair: read(given_condition(network, *pair)), z, self.labels_for(len(z), labels))

    def in_chunks(
        self, function: Callable[[Tensor, Tensor | None], Tensor], inputs: Tensor, labels: Tensor | None
    ) -> Tensor:
        """Returns a function of inputs (N, ...) and their condition or ``None``, in evaluation mode, by ``CHUNK``."""
        chunks = inputs.split(CHUNK)
        conditions: Sequence[Tensor | None] = [None] * len(chunks) if labels is None else labels.split(CHUNK)
        with evaluating(self):
            return torch.cat([function(*pair) for pair in zip(chunks, conditions, strict=True)])


def as_json(value: Any) -> Any:
    """Returns a tuple as a list, the form in which hyperparameters are stored, and any other value as it is."""
    return list(value) if isinstance(value, tuple) else value
