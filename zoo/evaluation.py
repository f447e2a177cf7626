"""Measuring a checkpoint by the library's protocols."""

from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

import datamodules
from lightning_modules.callbacks.evaluation import evaluate_classes, evaluate_samples
from lightning_modules.callbacks.mode_coverage import evaluate_points
from lightning_modules.callbacks.real_statistics import real_statistics
from zoo.cards import Card
from zoo.errors import ZooError
from zoo.loading import load, load_folder
from zoo.paths import recipe_names, recipe_path

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
) -> dict[str, float]:
    """Measures a checkpoint against the test split of its data.

    A classifier: accuracy. A sampler of pictures: FID, Inception Score, KID, precision and recall under a judge, and if
    it is class-conditional how often the judge names the class it was asked for. A sampler of points from a mixture:
    which modes it finds.

    Args:
        card: The checkpoint.
        num_samples: Samples judged; 10 000 pictures or 2 500 points by default.
        judge: Checkpoint of the classifier that looks at the pictures; ``classifier.<data>`` by default.
        data_dir: Where the data are, if they are needed; searched by default.
        seed: Seed of the samples.
        device: Where to compute.

    Returns:
        Values by names that carry the protocol.

    Raises:
        ZooError: If it cannot be measured, with what is missing.
    """
    module = load_folder(card.path, card.name, device=device)
    if hasattr(module, "extract"):
        return _test(module, _datamodule(card, data_dir), device)
    if not hasattr(module, "sample") or module.data_spec is None:
        raise ZooError(f"{card.name} cannot be measured: it does not sample, or its data are not recorded.")
    spec = module.data_spec
    if spec.kind == "points":
        return evaluate_points(module, spec=spec, num_samples=num_samples or NUM_POINTS, split=SPLIT, seed=seed)

    extractor = load(judge or f"classifier.{spec.name}", device=device)
    try:
        statistics = real_statistics(extractor, spec, SPLIT)
    except ValueError:  # neither shipped nor cached: the data are needed
        statistics = real_statistics(extractor, spec, SPLIT, _datamodule(card, data_dir), progress=True)
    values = evaluate_samples(
        module,
        extractor,
        spec=spec,
        num_samples=num_samples or NUM_PICTURES,
        split=SPLIT,
        seed=seed,
        statistics=statistics,
    )
    if getattr(module, "num_classes", None) is not None:
        values |= evaluate_classes(module, extractor, spec=spec, split=SPLIT, seed=seed)
    return values


def _test(module: LightningModule, datamodule: LightningDataModule, device: str) -> dict[str, float]:
    accelerator = "cpu" if device == "cpu" else "auto"
    trainer = Trainer(accelerator=accelerator, devices=1, logger=False, enable_model_summary=False)
    (values,) = trainer.test(module, datamodule, verbose=False)
    return {name: float(value) for name, value in values.items()}


def _datamodule(card: Card, data_dir: str | None) -> Any:
    """Builds the datamodule of the checkpoint's recipe, or of its data set's name."""
    if card.recipe in recipe_names():
        data = yaml.safe_load(recipe_path(card.recipe).read_text(encoding="utf-8"))["data"]
        name, arguments = data["class_path"].rpartition(".")[2], data.get("init_args", {})
    else:
        known = {getattr(value, "name", None): key for key, value in datamodules.DATAMODULES.items()}
        if card.data not in known:
            raise ZooError(f"{card.name} was trained on {card.data!r}, for which there is no datamodule here.")
        name, arguments = known[card.data], {}
    return datamodules.DATAMODULES[name](**arguments, **({} if data_dir is None else {"data_dir": data_dir}))
