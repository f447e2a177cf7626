"""Checkpoints of the zoo by ``torch.hub``, without an installation.

    gan = torch.hub.load("path/to/generative-zoo", "wgan_gp_ring8", source="local")
    gan = torch.hub.load("path/to/generative-zoo", "load", "wgan_gp.ring8", source="local")

Every checkpoint has an entry point of its name, with underscores in place of dots, and one with the dots.
"""

from collections.abc import Callable as _Callable
from typing import Any as _Any

import datamodules as _datamodules  # noqa: F401  # all packages are found while torch.hub has this folder on the path
import lightning_modules as _lightning_modules  # noqa: F401
import zoo as _zoo

dependencies = [
    *("torch", "lightning", "torchvision", "torchmetrics", "safetensors"),
    *("numpy", "scipy", "PIL", "yaml", "tqdm", "matplotlib"),
]
"""Packages that must be installed, by the names under which they are imported."""


def load(name: str, **settings: _Any) -> _Any:
    """Returns a pretrained module in eval mode: ``zoo.load``, also for classifiers.

    Args:
        name: A name of the zoo, the path of a folder, or a Hugging Face Hub id.
        **settings: ``weights``: ``"ema"`` for averaged weights (the default) or ``"raw"``; ``device``.
    """
    return _zoo.load(name, **settings)


def _entry_point(name: str) -> _Callable[..., _Any]:
    def entry_point(**settings: _Any) -> _Any:
        return _zoo.load(name, **settings)

    card = _zoo.card(name)
    entry_point.__name__ = name.replace(".", "_")
    entry_point.__doc__ = (
        f"Returns {name}: {card.method}, trained on {card.data}, {card.parameters:,} parameters; arguments as in load."
    )
    return entry_point


for _name in _zoo.names():
    globals()[_name] = globals()[_name.replace(".", "_")] = _entry_point(_name)
