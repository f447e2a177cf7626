"""Renders samples of a module, and its continuations of given prefixes."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from datamodules.spec import DataSpec
from lightning_modules.parts.sampling import drawable_classes
from lightning_modules.rendering.renderers import Renderer, Rendering, Samples, known_spec, renderer_of

MAX_CLASS_COLUMNS = 20


def rendered_as(module: Any, spec: DataSpec | None = None) -> Renderer:
    """Returns the renderer of a module's samples; arguments as in ``renderer_of``.

    Raises:
        ValueError: If the kind of its samples is not known.
    """
    renderer = renderer_of(module, spec)
    if renderer is None:
        raise ValueError(
            f"The samples of this {type(module).__name__} cannot be rendered, because its data are not recorded: "
            "train it with a datamodule before saving it, or build it by for_data."
        )
    return renderer


def render_samples(
    module: Any,
    num_samples: int | None = None,
    generator: Generator | None = None,
    labels: Tensor | None = None,
    *,
    columns: int | None = None,
    real: Sequence[Tensor] = (),
    spec: DataSpec | None = None,
    captions: Sequence[str] = (),
    **settings: Any,
) -> Rendering:
    """Samples a module and renders the samples.

    Images are rendered as a grid, with one column per class for a class-conditional model if no labels are given, or
    one row per caption; points as one scatter plot. Sequences are rendered by their kind, as an image and a further
    file. A class that a model of captions has none of is left out, unless labels ask for it.

    Args:
        module: A module that ``SupportsSampling``.
        num_samples: Number of samples; by default that of the renderer.
        generator: Source of all random numbers; by default one that is seeded with 0.
        labels: Class labels, int64 (num_samples,).
        columns: Images per row; by default a square grid, or the classes.
        real: Real points, over which sampled ones are drawn.
        spec: Spec of the data; by default that of the module.
        captions: Captions for a model of these, used in turn.
        settings: Further arguments of the method's ``sample``, such as ``temperature``.

    Raises:
        ValueError: If the samples cannot be rendered.
    """
    renderer, spec = rendered_as(module, spec), spec or known_spec(module)
    num_samples = num_samples or renderer.num
    if captions:
        settings["captions"] = list(captions)
    elif labels is None and (classes := drawable_classes(module, getattr(module, "num_classes", None))) is not None:
        each = max(1, round(math.sqrt(num_samples) / len(classes)))  # of few classes several columns
        columns = columns or min(each * len(classes), MAX_CLASS_COLUMNS)
        labels = classes[torch.arange(num_samples) % len(classes)]
    if spec is not None and "length" not in settings and (length := renderer.length(spec)) is not None:
        settings["length"] = length
    generator = generator or Generator().manual_seed(0)
    values = module.sample(num_samples, labels=labels, generator=generator, **settings).cpu()
    return renderer.render(Samples(values, spec, columns, truth=real, captions=captions))


def render_continuations(
    module: Any, prefix: Tensor, num_samples: int, generator: Generator, **settings: Any
) -> Rendering:
    """Continues one prefix several times, and renders the results.

    Args:
        module: A ``GenerativeModule`` that ``SupportsContinuation``.
        prefix: (t, ...), t >= 1.
        num_samples: Number of continuations.
        generator: Source of all random numbers.
        settings: Further arguments of the method's ``continue_sequence``; ``length`` steps are sampled, and ``labels``
            has a class for each continuation.
    """
    repeated = prefix.expand(num_samples, *prefix.shape)
    return _render_continued(module, repeated, (), generator, settings)


def render_held_out_continuations(
    module: Any, truth: Sequence[Tensor], given: int, generator: Generator, **settings: Any
) -> Rendering:
    """Continues the first steps of held-out examples; images, drawings and clips are shown with the true ones.

    Args:
        module: A ``GenerativeModule`` that ``SupportsContinuation``.
        truth: Held-out examples (T, ...), each longer than ``given``.
        given: Number of first steps that are given to the module, at least 1.
        generator: Source of all random numbers.
        settings: As in ``render_continuations``.
    """
    prefixes = torch.stack([true[:given] for true in truth]).repeat_interleave(rendered_as(module).each, 0)
    return _render_continued(module, prefixes, tuple(truth), generator, settings)


def _render_continued(
    module: Any, prefixes: Tensor, truth: tuple[Tensor, ...], generator: Generator, settings: dict[str, Any]
) -> Rendering:
    renderer, spec, given = rendered_as(module), module.data_spec, prefixes.shape[1]
    length = settings.pop("length", None) or max((renderer.length(spec) or spec.shape[0]) - given, 1)
    values = module.continue_sequence(prefixes, length, generator=generator, **settings).cpu()
    return renderer.render(Samples(values, spec, given=given, truth=truth))
