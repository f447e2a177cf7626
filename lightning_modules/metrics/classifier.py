"""A small classifier as feature extractor: FID and Inception Score use its features and class probabilities.

Inception was trained on photographs; for 28x28 garments the features of a network that was trained on garments are more
informative. The classifier is trained first and then frozen, because every value measured with it depends on it: a
retrained classifier gets a new name.

Beside the class it can tell attributes of images, as the skin tone, person, role and style of emoji: then it also says
whether a model has drawn what it was asked for; see ``counterfactuals``.

NOTE: FIDs with different classifiers, or with Inception, cannot be compared with each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from datamodules.spec import Batch, DataSpec
from lightning_modules.base import ZooModule
from lightning_modules.networks.convnet import ConvNet
from lightning_modules.parts.optimizers import check_adamw
from lightning_modules.runtime.flags import planned_batches
from lightning_modules.runtime.held_out import Weighted

UNKNOWN = -1
"""Index of an attribute that an example does not have; see ``Batch.attributes``."""


class Classifier(ZooModule):
    """Residual network trained on cross-entropy with label smoothing, shifts and flips; it may tell attributes too.

    Args:
        shape: (C, H, W) of images in [-1, 1].
        num_classes: Number of classes.
        extractor_name: Name of the classifier in the names of metrics, ``"fashion_mnist"``.
        width: Channels at full resolution; the features have 4 * width.
        lr: Peak learning rate of AdamW in a one-cycle schedule over the whole run.
        weight_decay: AdamW's weight decay.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).
        max_shift: Training images are shifted by up to this many pixels, filled with ``ground``.
        flip: Training images are mirrored with probability 1/2.
        ground: Value of the pixels that a shift brings in, in [-1, 1]: that of the images' background.
        attributes: Number of values of each further attribute that it tells, by name, as ``DataSpec.attributes`` lists
            them; the loss is then the mean cross-entropy of the class and the attributes.

    Raises:
        ValueError: If a number is out of range, or ``shape`` is not that of images.
    """

    kinds = ("image",)
    value_range = (-1.0, 1.0)

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        num_classes: int = 10,
        extractor_name: str = "fashion_mnist",
        width: int = 32,
        lr: float = 4e-3,
        weight_decay: float = 0.02,
        label_smoothing: float = 0.05,
        max_shift: int = 2,
        flip: bool = True,
        ground: float = -1.0,
        attributes: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(num_classes)
        if len(shape) != 3:
            raise ValueError(f"shape={list(shape)} must be (channels, height, width).")
        if num_classes < 2 or width < 1 or max_shift < 0:
            raise ValueError(
                f"num_classes={num_classes} >= 2, width={width} >= 1 and max_shift={max_shift} >= 0 must hold."
            )
        check_adamw(lr, weight_decay)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing} must lie in [0, 1).")
        if not -1 <= ground <= 1:
            raise ValueError(f"ground={ground} must lie in [-1, 1], the range of images.")
        self.attribute_sizes = dict(attributes or {})
        if small := [name for name, size in self.attribute_sizes.items() if size < 2]:
            raise ValueError(f"attributes={self.attribute_sizes}: {small[0]!r} must have at least 2 values.")
        self.save_hyperparameters()
        self.extractor_name = extractor_name
        self.statistics_dir: str | None = None
        self.network = ConvNet(shape[0], width)
        self.num_features = self.network.num_features
        self.head = nn.Linear(self.num_features, num_classes)
        sizes = self.attribute_sizes.values()
        self.attribute_head = nn.Linear(self.num_features, sum(sizes)) if sizes else None
        self.to(memory_format=torch.channels_last)

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns shape, number of classes and name of the data.

        Raises:
            ValueError: If the data have no classes.
        """
        if spec.num_classes is None:
            raise ValueError(f"A Classifier needs classes, and {spec.name} has none.")
        derived = {"shape": list(spec.shape), "num_classes": spec.num_classes, "extractor_name": spec.name}
        sizes = {name: len(values) for name, values in spec.attributes}
        return {**derived, "attributes": sizes} if sizes else derived

    def data_problem(self, spec: DataSpec) -> str | None:
        """Returns why the attributes of data are not those that it was built for, or ``None``."""
        found = {name: len(values) for name, values in spec.attributes}
        if not spec.attributes or not self.attribute_sizes or list(found.items()) == list(self.attribute_sizes.items()):
            return None  # some data know their attributes after their setup
        return f"was built for attributes={self.attribute_sizes}, but {spec.name} has {found}."

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (N, C, H, W) in [-1, 1] to logits (N, num_classes)."""
        return self.head(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """Maps images (N, C, H, W) in [-1, 1] to features (N, num_features)."""
        features: Tensor = self.network(x.contiguous(memory_format=torch.channels_last))
        return features

    def attribute_logits(self, features: Tensor) -> dict[str, Tensor]:
        """Maps features (N, num_features) to the logits of each attribute by its name, (N, number of its values)."""
        if self.attribute_head is None:
            return {}
        parts = self.attribute_head(features).split(list(self.attribute_sizes.values()), dim=1)
        return dict(zip(self.attribute_sizes, parts, strict=True))

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps uint8 images (N, C, H, W) to features (N, num_features) and logits (N, num_classes), float32.

        Raises:
            ValueError: If the images are not uint8 of the classifier's shape.
        """
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != tuple(self.hparams["shape"]):
            raise ValueError(
                f"The classifier {self.extractor_name} takes uint8 images of shape {list(self.hparams['shape'])}, "
                f"not {images.dtype} of {list(images.shape[1:])}."
            )
        x = (images.float() / 127.5 - 1).to(self.head.weight.dtype)
        features = self.features(x)
        return features.float(), self.head(features).float()

    def augment(self, x: Tensor) -> Tensor:
        """Shifts and mirrors each image independently, by an index into its padded copy."""
        num, _, height, width = x.shape
        shift = self.hparams["max_shift"]
        rows = torch.arange(height, device=x.device) + self.noise.integers(2 * shift + 1, num, x.device)[:, None]
        columns = torch.arange(width, device=x.device).repeat(num, 1)
        if self.hparams["flip"]:
            mirrored = self.noise.uniform(num, 1, device=x.device) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        columns = columns + self.noise.integers(2 * shift + 1, num, x.device)[:, None]
        padded = F.pad(x, 4 * [shift], value=self.hparams["ground"])
        return padded.permute(0, 2, 3, 1)[
            torch.arange(num, device=x.device)[:, None, None], rows[:, :, None], columns[:, None, :]
        ].permute(0, 3, 1, 2)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the loss of a batch with shifted and mirrored images, in nats."""
        return self.objective(self.losses(replace(batch, x=self.augment(batch.x))))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the terms of the loss: cross-entropies with label smoothing, in nats.

        With attributes, the sum of the terms is the mean over the class and these, and each is a mean over the examples
        that have the attribute.
        """
        features, labels, smoothing = self.features(batch.x), batch.labels, self.hparams["label_smoothing"]
        assert labels is not None
        terms = {"cross_entropy": F.cross_entropy(self.head(features), labels, label_smoothing=smoothing)}
        for name, (logits, values) in self._told(features, batch).items():
            total = F.cross_entropy(logits, values, ignore_index=UNKNOWN, label_smoothing=smoothing, reduction="sum")
            terms[f"cross_entropy_{name}"] = total / (values != UNKNOWN).sum().clamp(min=1)  # a batch may have none
        return {name: term / len(terms) for name, term in terms.items()}

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Returns the class logits (N, num_classes) of the images of a batch.

        Raises:
            ValueError: If they are of another shape, type or range.
        """
        if problem := self.problem_with_form(batch) or self.problem_with_data(batch):
            raise ValueError(f"{type(self).__name__}: {problem}")
        logits: Tensor = self(batch.x)
        return logits

    def predict_dataloader(self) -> Any:
        """Refuses ``Trainer.predict`` without a loader.

        Raises:
            ValueError: Always; the message says what to pass.
        """
        raise ValueError("Trainer.predict gives the class logits of images: pass a loader or datamodule of images.")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Converts a batch, and refuses one that asks for samples.

        Raises:
            ValueError: If it has none of the supported forms.
        """
        if isinstance(batch, Mapping) and "num_samples" in batch:
            raise ValueError("A Classifier predicts class logits and has no samples: pass a loader of images.")
        converted: Batch = super().on_before_batch_transfer(batch, dataloader_idx)
        return converted

    def held_out(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Weighted]:
        """Measures ``accuracy`` in [0, 1] and ``cross_entropy`` in nats, and ``accuracy_<name>`` of each attribute."""
        features, labels = self.features(batch.x), batch.labels
        assert labels is not None
        logits = self.head(features)
        measured: dict[str, Weighted] = {
            "accuracy": (logits.argmax(1) == labels).float(),
            "cross_entropy": F.cross_entropy(logits, labels, reduction="none"),
        }
        for name, (told, values) in self._told(features, batch).items():
            measured[f"accuracy_{name}"] = ((told.argmax(1) == values).float(), (values != UNKNOWN).float())
        return measured

    def _told(self, features: Tensor, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Returns the logits of each attribute and its values in a batch, (N,), -1 where there is none."""
        if not self.attribute_sizes:
            return {}
        assert batch.attributes is not None
        pairs = zip(self.attribute_logits(features).items(), batch.attributes.unbind(1), strict=True)
        return {name: (logits, values) for (name, logits), values in pairs}

    def on_train_start(self) -> None:
        """Extends the one-cycle schedule over the whole run, also over one that is resumed to be longer than planned.

        Raises:
            ValueError: If the length of the run is not known.
        """
        super().on_train_start()
        (config,), (optimizer,) = self.trainer.lr_scheduler_configs, self.trainer.optimizers
        total, batches = self.total_batches(), self.trainer.global_step
        before = config.scheduler.state_dict()["total_steps"]
        config.scheduler = one_cycle(optimizer, self.hparams["lr"], total, batches)
        if batches and before != total:
            rank_zero_info(f"The one-cycle schedule now extends over {total} batches (was {before}).")

    def total_batches(self) -> int:
        """Returns the planned number of batches.

        Raises:
            ValueError: If it is not known.
        """
        planned = planned_batches(self.trainer)
        if planned is None:
            raise ValueError("A Classifier's schedule needs the length of the run: set max_steps or max_epochs.")
        return planned

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns AdamW with a one-cycle schedule, whose length ``on_train_start`` sets: then the data are read.

        Raises:
            ValueError: If neither steps nor epochs are limited.
        """
        if self.trainer.max_epochs == self.trainer.max_steps == -1:
            self.total_batches()
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"], fused=True
        )
        self.scheduled(optimizer)
        schedule = one_cycle(optimizer, self.hparams["lr"], total=2, batches=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def one_cycle(optimizer: torch.optim.Optimizer, lr: float, total: int, batches: int) -> OneCycleLR:
    """Returns torch's schedule over ``total`` batches, after ``batches`` of them."""
    schedule = OneCycleLR(optimizer, lr, total_steps=total)
    if batches:
        schedule.last_epoch, schedule._step_count = batches - 1, batches + 1
        schedule.step()
        schedule._step_count = batches + 1
    return schedule
