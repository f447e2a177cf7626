"""Measuring a checkpoint by the library's protocols."""

from typing import Any

import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

import datamodules
from lightning_modules.callbacks.evaluation import evaluate_samples
from lightning_modules.callbacks.real_statistics import real_statistics
from lightning_modules.parts.mode_coverage import mode_coverage
from zoo.cards import Card
from zoo.errors import ZooError
from zoo.loading import load_folder
from zoo.paths import recipe_names, recipe_path

SPLIT = "test"


def evaluate(
    card: Card,
    *,
    num_samples: int = 10_000,
    judge: str | None = None,
    data_dir: str | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, float]:
    """Measures a checkpoint against the test split of its data.

    A classifier: accuracy. A sampler of pictures: FID, Inception Score, KID, precision and recall under a judge. A
    sampler of points from a mixture: which modes it finds.

    Args:
        card: The checkpoint.
        num_samples: Samples judged.
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
        if not spec.modes:
            raise ZooError(f"{card.name}: {spec.name} is no mixture with known modes, so none can be counted.")
        samples = module.sample(num_samples, generator=torch.Generator().manual_seed(seed))
        found = mode_coverage(samples.cpu(), torch.tensor(spec.modes), spec.mode_scale)
        protocol = f"{num_samples // 1000}k" if num_samples % 1000 == 0 else str(num_samples)
        return {f"{SPLIT}/{name}-{protocol}": float(value) for name, value in found._asdict().items()}
    from zoo.loading import load

    extractor = load(judge or f"classifier.{spec.name}", device=device)
    try:
        statistics = real_statistics(extractor, spec, SPLIT)
    except ValueError:  # neither shipped nor cached: the data are needed
        statistics = real_statistics(extractor, spec, SPLIT, _datamodule(card, data_dir), progress=True)
    return evaluate_samples(
        module, extractor, spec=spec, num_samples=num_samples, split=SPLIT, seed=seed, statistics=statistics
    )


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
        known = {getattr(value, "name", None): key for key, value in vars(datamodules).items()}
        if card.data not in known:
            raise ZooError(f"{card.name} was trained on {card.data!r}, for which there is no datamodule here.")
        name, arguments = known[card.data], {}
    return getattr(datamodules, name)(**arguments, **({} if data_dir is None else {"data_dir": data_dir}))
