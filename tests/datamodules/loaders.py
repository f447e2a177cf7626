"""The loaders of a datamodule, by split."""

from datamodules import ZooDataModule
from datamodules.loader import EvaluationLoader, TrainingLoader


def held_out(data: ZooDataModule, split: str = "val") -> EvaluationLoader:
    """Returns the loader of "val" or "test", which must have examples."""
    loader = data.val_dataloader() if split == "val" else data.test_dataloader()
    assert isinstance(loader, EvaluationLoader)
    return loader


def loader_of(data: ZooDataModule, split: str) -> TrainingLoader | EvaluationLoader:
    """Returns the loader of a split, which must have examples."""
    return data.train_dataloader() if split == "train" else held_out(data, split)
