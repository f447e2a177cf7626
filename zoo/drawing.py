"""Samples of a checkpoint, and what it makes of beginnings, as exhibits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from zoo.errors import ZooError
from zoo.exhibits import Drawn, Exhibit, Medium, medium_of

MAX_CLASS_COLUMNS = 20


def shown_as(module: Any) -> Medium:
    """Returns how a module's samples are shown.

    Raises:
        ZooError: If nothing says what its samples are.
    """
    medium = medium_of(module)
    if medium is None:
        raise ZooError(
            f"What this {type(module).__name__} samples cannot be shown, because its data are not recorded: save it "
            "after a training on a datamodule, or build it by for_data."
        )
    return medium


def draw_samples(
    module: Any,
    num_samples: int | None = None,
    generator: Generator | None = None,
    labels: Tensor | None = None,
    **settings: float,
) -> Exhibit:
    """Samples a module and shows what came out.

    Pictures make a grid, in which a class-conditional model gets a column a class where no labels are asked for; points
    make one scatter plot. Sequences are shown by their kind, and have a file beside the picture; see ``zoo.exhibits``.

    Args:
        module: Something that ``Samples`` and knows its ``data_spec``.
        num_samples: How many; by default as many as make a good exhibit.
        generator: Source of all randomness; by default one that is seeded with 0.
        labels: Classes to draw, int64 (num_samples,).
        settings: Further arguments of the method's ``sample``, as ``temperature``.

    Raises:
        ZooError: If the samples cannot be shown.
    """
    medium, spec = shown_as(module), getattr(module, "data_spec", None)
    num_samples = num_samples or medium.num
    num_classes, columns = getattr(module, "num_classes", None), None
    if num_classes is not None and labels is None:
        columns = min(num_classes, MAX_CLASS_COLUMNS)
        labels = torch.arange(num_samples) % num_classes
    if spec is not None and "length" not in settings and (length := medium.length(spec)) is not None:
        settings["length"] = length
    generator = generator or Generator().manual_seed(0)
    samples = module.sample(num_samples, labels=labels, generator=generator, **settings).cpu()
    return medium.show(Drawn(samples, spec, columns))


def continue_prefix(module: Any, prefix: Tensor, num_samples: int, generator: Generator, **settings: float) -> Exhibit:
    """Goes on from one beginning, several times.

    Args:
        module: Something that ``Continues`` and knows its ``data_spec``.
        prefix: (t, ...), t >= 1.
        num_samples: How many continuations.
        generator: Source of all randomness.
        settings: Further arguments of the method's ``continue_sequence``; ``length`` steps are drawn.
    """
    repeated = prefix.expand(num_samples, *prefix.shape)
    return _continued(module, repeated, (), generator, settings)


def continue_held_out(
    module: Any, truth: Sequence[Tensor], given: int, generator: Generator, **settings: float
) -> Exhibit:
    """Goes on from the first steps of held-out examples; pictures, drawings and clips are shown beside the true ones.

    Args:
        module: Something that ``Continues`` and knows its ``data_spec``.
        truth: Held-out examples (T, ...), each longer than ``given``.
        given: So many steps are given, at least 1.
        generator: Source of all randomness.
        settings: As in ``continue_prefix``.
    """
    prefixes = torch.stack([true[:given] for true in truth]).repeat_interleave(shown_as(module).each, 0)
    return _continued(module, prefixes, tuple(truth), generator, settings)


def _continued(
    module: Any, prefixes: Tensor, truth: tuple[Tensor, ...], generator: Generator, settings: dict[str, float]
) -> Exhibit:
    medium, spec = shown_as(module), module.data_spec
    given = prefixes.shape[1]
    length = settings.pop("length", None) or max((medium.length(spec) or spec.shape[0]) - given, 1)
    samples = module.continue_sequence(prefixes, length, generator=generator, **settings).cpu()
    return medium.show(Drawn(samples, spec, given=given, truth=truth))
