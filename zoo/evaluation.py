"""Measuring a checkpoint by the library's protocols."""

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

import datamodules
from datamodules.pixel_sequence import PixelSequence
from datamodules.text import TextDataModule
from lightning_modules.autoregressive.sequence import SequenceModule
from lightning_modules.callbacks.evaluation import evaluate_classes, evaluate_samples, train_fid
from lightning_modules.callbacks.generation_measure import metric_name
from lightning_modules.callbacks.mode_coverage import evaluate_points
from lightning_modules.callbacks.real_statistics import real_statistics
from zoo.cards import Card
from zoo.errors import ZooError
from zoo.loading import load, load_folder
from zoo.paths import NAME, checkpoint_names, recipe_names, recipe_path
from zoo.sequence_evaluation import AsPictures, compared, evaluate_sequences

SPLIT = "test"
NUM_PICTURES, NUM_POINTS = 10_000, 2500


def evaluate(
    card: Card,
    *,
    num_samples: int | None = None,
    judge: str | None = None,
    data_dir: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    likelihood: bool = True,
) -> dict[str, float]:
    """Measures a checkpoint against the test split of its data.

    A density, a bound or an energy: what its ``test_step`` measures, -log p in nats and bits/dim by kind.

    A classifier: accuracy, and what FIDs and Inception Scores under it are to be compared with: the FID of 10 000
    training pictures (where there are so many) and the score of the real pictures. A sampler of pictures: FID,
    Inception Score, KID, precision and recall under a judge, and if it is class-conditional how often the judge names
    the class it was asked for. A sampler of points from a mixture: which modes it finds. Sequences: see
    ``evaluate_sequences``; those of pixels are judged as pictures.

    Args:
        card: The checkpoint.
        num_samples: Samples judged; by default 10 000 pictures, 2 000 of a slow sampler, 2 500 points, 100 texts, or
            as many songs as there are real ones.
        judge: Checkpoint of the classifier that looks at the pictures; ``classifier.<data>`` by default.
        data_dir: Where the data are, if they are needed; searched by default.
        seed: Seed of the samples.
        device: Where to compute.
        likelihood: Whether to run the tests that need the data, too; without, samples alone are measured.

    Returns:
        Values by names that carry the protocol.

    Raises:
        ZooError: If it cannot be measured, with what is missing.
    """
    module: Any = load_folder(card.path, card.name, device=device)
    if hasattr(module, "extract"):
        datamodule = _datamodule(card, data_dir)
        return _test(module, datamodule, device) | _references(module.to(device).eval(), datamodule)
    if not hasattr(module, "sample") or module.data_spec is None:
        raise ZooError(f"{card.name} cannot be measured: it does not sample, or its data are not recorded.")
    spec = module.data_spec
    values: dict[str, float] = {}
    if likelihood and is_overridden("test_step", module, LightningModule):
        datamodule = _datamodule(card, data_dir)
        if isinstance(datamodule, TextDataModule):  # the state is carried over the whole split
            datamodule.evaluation, datamodule.evaluation_streams = "streams", 1
        values = _test(module, datamodule, device)
        module = module.to(device).eval()
        if isinstance(module, SequenceModule):
            values |= evaluate_sequences(module, datamodule, split=SPLIT, num_samples=num_samples, seed=seed)
    if isinstance(module, SequenceModule):
        if spec.name != PixelSequence.name:
            return values
        spec = _pictures(card, data_dir).spec
        module = AsPictures(module, spec.shape)
    if spec.kind == "points":
        if not spec.modes:
            return values
        return values | evaluate_points(
            module, spec=spec, num_samples=num_samples or NUM_POINTS, split=SPLIT, seed=seed
        )

    extractor = load(judge or _default_judge(spec.name), device=device)
    try:
        statistics = real_statistics(extractor, spec, SPLIT)
    except ValueError:  # neither shipped nor cached: the data are needed
        statistics = real_statistics(extractor, spec, SPLIT, _pictures(card, data_dir), progress=True)
    values |= evaluate_samples(
        module,
        extractor,
        spec=spec,
        num_samples=num_samples or module.num_judged,
        split=SPLIT,
        seed=seed,
        statistics=statistics,
    )
    if getattr(module, "num_classes", None) is not None:
        values |= evaluate_classes(module, extractor, spec=spec, split=SPLIT, seed=seed)
    return values


def held_out_pictures(card: Card, num: int, data_dir: str | None = None) -> Tensor:
    """Returns the first test pictures of a checkpoint's data, as the model takes them, (num, C, H, W)."""
    datamodule = _datamodule(card, data_dir)
    datamodule.batch_size = num
    return next(iter(datamodule.test_dataloader()))[0]


def held_out_sequences(card: Card, num: int, longer_than: int = 0, data_dir: str | None = None) -> list[Tensor]:
    """Returns the first test sequences of a checkpoint's data that have more steps than asked, (T, ...) each.

    Raises:
        ZooError: If there is none.
    """
    x, lengths = _datamodule(card, data_dir).sequences(SPLIT)
    if not len(chosen := (lengths > longer_than).nonzero().flatten()[:num]):
        raise ZooError(
            f"The longest test sequence of {card.data} has {int(lengths.max())} steps: to go on from {longer_than} it "
            "must be longer. Give fewer."
        )
    return [x[i, : int(lengths[i])] for i in chosen.tolist()]


def compared_sequences(card: Card, num: int, data_dir: str | None = None) -> Sequence[Tensor]:
    """Returns the test sequences of which exposure bias is measured, (T, ...) each, twice ``num`` at most."""
    return compared(_datamodule(card, data_dir), SPLIT, num).unbind()


def _test(module: LightningModule, datamodule: LightningDataModule, device: str) -> dict[str, float]:
    place = torch.device(device)
    with _without_advice():
        trainer = Trainer(
            accelerator=place.type,
            devices=1 if place.index is None else [place.index],
            logger=False,
            enable_model_summary=False,
            enable_progress_bar=sys.stdout.isatty(),
        )
        (values,) = trainer.test(module, datamodule, verbose=False)
    return {name: float(value) for name, value in values.items()}


def _references(judge: LightningModule, datamodule: Any) -> dict[str, float]:
    """Measures real pictures, and their bits, through a judge: what a model that has learnt all there is would get."""
    values: dict[str, float] = {}
    for real in (datamodule, datamodule.binarized()):
        statistics = real_statistics(judge, real.spec, SPLIT, real)
        name = metric_name(SPLIT, "inception_score_of_real_pictures", judge, statistics.num_samples, real.spec)
        values[name.rpartition("-")[0]] = float(statistics.inception_score.mean)
        if len(real.images("train")[0]) >= NUM_PICTURES:
            name = metric_name(SPLIT, "fid_of_training_pictures", judge, NUM_PICTURES, real.spec)
            values[name] = train_fid(
                judge,
                real,
                num_samples=NUM_PICTURES,
                split=SPLIT,
                statistics=statistics,
                progress=sys.stdout.isatty(),
            )
    return values


def _pictures(card: Card, data_dir: str | None) -> Any:
    """Builds the datamodule of the pictures that a checkpoint's data are, also where it takes them pixel by pixel."""
    datamodule = _datamodule(card, data_dir)
    return datamodule.pictures.binarized() if isinstance(datamodule, PixelSequence) else datamodule


def _default_judge(data: str) -> str:
    """Returns the zoo's own judge of a data set, whose name may come out of anybody's config."""
    name = f"classifier.{data}"
    if not NAME.fullmatch(data) or name not in checkpoint_names():
        raise ZooError(
            f"The zoo has no judge {name!r} of such pictures. Give one with --judge: the name, folder or Hub id of a "
            "Classifier that was trained on them."
        )
    return name


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silences what no user can act upon: the accelerators not used, and how Lightning calls torch."""
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")
            yield
    finally:
        log.setLevel(level)


def _datamodule(card: Card, data_dir: str | None) -> Any:
    """Builds the datamodule of the checkpoint's recipe if it yields the checkpoint's data, else by their name."""
    where = {} if data_dir is None else {"data_dir": data_dir}
    if card.recipe in recipe_names():
        data = yaml.safe_load(recipe_path(card.recipe).read_text(encoding="utf-8"))["data"]
        datamodule_class = datamodules.DATAMODULES[data["class_path"].rpartition(".")[2]]
        datamodule = datamodule_class(**data.get("init_args", {}), **where)
        if datamodule.spec.name == card.data:  # an override may have chosen other data
            return datamodule
    for candidate in datamodules.DATAMODULES.values():
        if card.data is not None and getattr(candidate, "name", None) == card.data:
            return candidate(**where)
    raise ZooError(f"{card.name} was trained on {card.data!r}, for which there is no datamodule here.")
