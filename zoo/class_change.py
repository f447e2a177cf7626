"""Gives a class-conditional model the classes of other data; what it knows of classes of the same name is kept."""

import torch
from torch import Tensor

from datamodules.spec import DataSpec
from lightning_modules.base import GenerativeModule
from zoo.errors import ZooError
from zoo.loading import build, layout


def with_classes(module: GenerativeModule, spec: DataSpec) -> tuple[GenerativeModule, str]:
    """Returns a model for the classes of other data, and a sentence that says what is new in it.

    Every weight that does not depend on the number of classes is kept. Of those that do, such as embeddings, the part
    of a class is kept if the model was trained on a class of that name, and is newly initialized otherwise.

    Args:
        module: A class-conditional model.
        spec: The other data.

    Raises:
        ZooError: If the data have no classes.
    """
    former = module.data_spec
    if spec.num_classes is None:
        raise ZooError(
            f"The model was trained with labels of {former.num_classes} classes, but {spec.name} has none: sort its "
            "images into one sub-folder for each class, two or more."
        )
    names = _names(spec)
    kept = {number: _names(former).index(name) for number, name in enumerate(names) if name in _names(former)}
    if len(kept) == len(names) == former.num_classes and all(new == old for new, old in kept.items()):
        return module, f"The classes of {spec.name} are those of the model: {', '.join(names)}."
    hyperparameters = dict(module.hparams) | {module.labels_are: spec.num_classes}
    other = build(type(module).__name__, hyperparameters)
    if not isinstance(other, GenerativeModule):
        raise ZooError(f"{type(module).__name__} does not sample, so it has no classes to change.")
    sizes = _class_dimensions(type(module).__name__, hyperparameters, module.labels_are)
    own, state = module.state_dict(), other.state_dict()
    for key, value in own.items():
        state[key] = _moved(value, state[key], sizes[key], kept) if key in sizes else value
    other.load_state_dict(state)
    new = [name for number, name in enumerate(names) if number not in kept]
    said = f"The model gets the classes of {spec.name}: {', '.join(names)}. "
    said += f"New weights are learned for {', '.join(new)}." if new else "It was trained on all of them before."
    return other, said


def _names(spec: DataSpec) -> tuple[str, ...]:
    return spec.class_names or tuple(f"class {number}" for number in range(spec.num_classes or 0))


def _class_dimensions(method: str, hyperparameters: dict[str, object], name: str) -> dict[str, int]:
    """Returns, for each tensor with a part for every class, the dimension that grows with ``name``."""
    number = int(str(hyperparameters[name]))
    one, more = (layout(build(method, {**hyperparameters, name: n}, device="meta")) for n in (number, number + 1))
    found: dict[str, int] = {}
    for key, (shape, _) in one.items():
        grown = [d for d, (a, b) in enumerate(zip(shape, more[key][0], strict=True)) if a != b]
        found |= {key: grown[0]} if grown else {}
    return found


def _moved(former: Tensor, fresh: Tensor, dimension: int, kept: dict[int, int]) -> Tensor:
    """Returns a freshly initialized tensor with the parts of the classes that are kept."""
    if not kept:
        return fresh
    new, old = (torch.tensor(list(part)) for part in (kept.keys(), kept.values()))
    return fresh.index_copy(dimension, new, former.index_select(dimension, old))
