"""Pretrained generative models by name.

    gan = zoo.load("wgan_gp.fashion_mnist")
    images = gan.sample(64)

Importing ``zoo`` imports neither torch nor Lightning; the first ``load`` or ``save`` does. Everything is imported when
it is first used, so that ``python -m zoo`` comes to where it expects Ctrl-C at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.cards import Card, card, list_models, names
    from zoo.errors import UnknownNameError, ZooError
    from zoo.features import load_extractor, load_features
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
    "load_extractor",
    "load_features",
    "names",
    "save",
]


_MODULES = {
    "Card": "cards",
    "UnknownNameError": "errors",
    "ZooError": "errors",
    "card": "cards",
    "list_models": "cards",
    "load": "loading",
    "load_classifier": "loading",
    "load_extractor": "features",
    "load_features": "features",
    "names": "cards",
    "save": "saving",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    return getattr(import_module(f"zoo.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
