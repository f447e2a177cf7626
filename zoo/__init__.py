"""Pretrained generative models by name.

    gan = zoo.load("wgan_gp.fashion_mnist")
    images = gan.sample(64)

Importing ``zoo`` imports neither torch nor Lightning; the first ``load`` or ``save`` does.
"""

from typing import TYPE_CHECKING, Any

from zoo.cards import Card, card, list_models, names
from zoo.errors import UnknownNameError, ZooError

if TYPE_CHECKING:
    from zoo.loading import load, load_classifier
    from zoo.saving import save

__version__ = "0.1.0"

__all__ = [
    "Card",
    "UnknownNameError",
    "ZooError",
    "__version__",
    "card",
    "list_models",
    "load",
    "load_classifier",
    "names",
    "save",
]


def __getattr__(name: str) -> Any:
    if name in ("load", "load_classifier"):
        from zoo import loading

        return getattr(loading, name)
    if name == "save":
        from zoo.saving import save

        return save
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
