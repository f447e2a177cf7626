"""Networks that others trained, by name: their weights are fetched, checked against their digests and never shipped."""

from lightning_modules.pretrained.named_features import load_features

__all__ = ["load_features"]
