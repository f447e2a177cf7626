"""Views of a checkpoint other than samples, each for modules with the methods that it needs."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from lightning_modules.metrics.generator_jacobian import NUM_CODES
from lightning_modules.parts.files import replace_file
from lightning_modules.parts.interpolation import spherical_interpolation
from lightning_modules.parts.sampling import drawable_classes
from lightning_modules.rendering.curves import draw_curves
from lightning_modules.rendering.images import image_grid, save_png
from lightning_modules.rendering.modules import render_held_out_continuations, rendered_as
from lightning_modules.rendering.points import energy_surface
from lightning_modules.rendering.renderers import SEQUENCES
from lightning_modules.rendering.video import gif
from zoo.cards import Card
from zoo.counterfactual_figures import draws_captioned_emoji
from zoo.counterfactual_view import counterfactual, with_counterfactuals
from zoo.data import compared_sequences, held_out_batch, held_out_sequences
from zoo.errors import ZooError
from zoo.latent_views import inversion, jacobian, neighbours, with_neighbours
from zoo.sequence_evaluation import EXPOSURE, exposure
from zoo.view_request import Request

STEPS = 10
MARGIN = 1.5  # extent of the rendered plane, relative to the furthest mode
NUM_POINTS = 500
FRAMES, MILLISECONDS = 48, 80
SPAN = 3.0  # standard deviations of the prior, on each side


def reconstructions(request: Request) -> Image:
    """Renders held-out images, each with its reconstruction to the right of it."""
    made = request.module.reconstruct(request.real, **as_argument(request.labels)).cpu()
    pairs = torch.stack([request.real, made], 1).flatten(0, 1)
    return image_grid(pairs, request.value_range, columns=min(2 * request.num, 2 * STEPS))


def interpolation(request: Request) -> Image:
    """Renders rows of decoded codes on an arc between two samples of the prior."""
    start, end = (request.module.sample_latent(request.num, generator=request.generator) for _ in range(2))
    codes = spherical_interpolation(start, end, STEPS).flatten(0, 1)
    images = decoded(request, codes, in_turn(request, request.num), STEPS)
    return image_grid(images, request.value_range, columns=STEPS)


def circles(request: Request) -> list[Image]:
    """Renders frames of decoded codes on circles through two samples of the prior, cos(t) z_1 + sin(t) z_2.

    If the prior is N(0, I), the code is itself a sample of it at every angle t; a learned mixture has codes only at
    both ends. A class-conditional model has a column per class.
    """
    start, end = (request.module.sample_latent(request.num, generator=request.generator) for _ in range(2))
    classes = drawable_classes(request.module, request.module.num_classes)
    columns = math.ceil(math.sqrt(2 * request.num)) if classes is None else len(classes)
    angles = 2 * math.pi * torch.arange(FRAMES) / FRAMES
    labels = in_turn(request, request.num)
    frames = (decoded(request, t.cos() * start + t.sin() * end, labels) for t in angles)
    return [image_grid(frame, request.value_range, min(columns, request.num)) for frame in frames]


def in_turn(request: Request, num: int) -> Tensor | None:
    """Returns a condition of ``num`` codes: the classes in turn, and captions among those of training."""
    classes = drawable_classes(request.module, request.module.num_classes)
    labels = None if classes is None else classes[torch.arange(num) % len(classes)]
    if getattr(request.module, "num_words", None) is None:
        return labels
    condition: Tensor = request.module.choose_condition(num, labels, None, request.generator)
    return condition


def decoded(request: Request, codes: Tensor, labels: Tensor | None, repeated: int = 1) -> Tensor:
    """Decodes codes, ``repeated`` in a row with each condition."""
    images: Tensor = request.module.decode(codes, **as_argument(labels, repeated)).cpu()
    return images


def as_argument(labels: Tensor | None, repeated: int = 1) -> dict[str, Tensor]:
    """Returns a condition, ``repeated`` in a row, as an argument for methods that may take none."""
    return {} if labels is None else {"labels": labels.repeat_interleave(repeated, 0)}


def traversal(request: Request) -> Image:
    """Renders a row for each of the first coordinates of one code, varied from -3 to 3 with the others constant."""
    z = request.module.sample_latent(1, generator=request.generator)
    labels, values = as_argument(in_turn(request, 1)), torch.linspace(-SPAN, SPAN, STEPS)
    dimensions = range(min(request.num, z.shape[1]))
    rows = [request.module.traverse(z, dimension, values, **labels)[0] for dimension in dimensions]
    return image_grid(torch.cat(rows).cpu(), request.value_range, columns=STEPS)


def completion(request: Request) -> Image:
    """Renders held-out images: each complete, its upper half, and several completions by the model."""
    height = request.real.shape[2]
    upper = request.real.clone()
    upper[:, :, height // 2 :] = request.value_range[0]
    repeated = upper.repeat_interleave(STEPS - 2, 0)
    labels = as_argument(request.labels, STEPS - 2)
    completed = request.module.complete(repeated, height // 2, generator=request.generator, **labels).cpu()
    rows = torch.cat([request.real[:, None], upper[:, None], completed.unflatten(0, (-1, STEPS - 2))], 1)
    return image_grid(rows.flatten(0, 1), request.value_range, columns=STEPS)


def continuation(request: Request) -> Image:
    """Renders held-out sequences, and the model's continuations of their prefixes."""
    given = rendered_as(request.module).given(request.module.data_spec)
    return render_held_out_continuations(request.module, request.sequences, given, request.generator).image


def filters(request: Request) -> Image:
    """Renders the weights of hidden units, with grey for zero."""
    return image_grid(request.module.filters()[: request.num].cpu(), (-1.0, 1.0))


def fantasies(request: Request) -> Image:
    """Renders the states of the persistent chains at the end of training."""
    return image_grid(request.module.fantasy_particles()[: request.num].cpu(), request.value_range)


def energy(request: Request) -> Image:
    """Renders the unnormalised density exp(-E(x)) of points in the plane, with level lines."""
    spec, points = request.module.data_spec, request.module.sample(NUM_POINTS, generator=request.generator)
    reach = [abs(x) for mode in spec.modes for x in mode] or points.abs().amax(1).tolist()
    return energy_surface(request.module.energy, MARGIN * max(reach))


def exposure_bias(request: Request) -> Image:
    """Renders the divergence of the model from held-out sequences, by the number of free-running steps."""
    curves = exposure(request.module, torch.stack(list(request.sequences)), request.generator.initial_seed())
    return draw_curves({type(request.module).__name__: curves})


def with_held_out(request: Request, card: Card, data_dir: str | None = None) -> Request:
    """Returns the request with the first test examples of a checkpoint's data; sequences are longer than the prefix."""
    spec = request.module.data_spec
    if spec.kind not in SEQUENCES:
        batch = held_out_batch(card, request.num, data_dir)
        say_if_fewer(len(batch.x), request.num)
        return replace(request, real=batch.x, labels=request.module.condition(batch), num=len(batch.x))
    given = rendered_as(request.module).given(spec)
    sequences = held_out_sequences(card, request.num, given, data_dir)
    say_if_fewer(len(sequences), request.num)
    return replace(request, sequences=sequences)


def say_if_fewer(found: int, asked: int) -> None:
    """Warns if there are fewer test examples than were asked for."""
    if found < asked:
        warnings.warn(f"There are {found} test examples, not {asked}: these are shown.", stacklevel=3)


def with_compared(request: Request, card: Card, data_dir: str | None = None) -> Request:
    """Returns the request with the test sequences for exposure bias, at most twice ``num`` of them."""
    protocol = EXPOSURE[request.module.data_spec.kind]
    steps = protocol["prefix"] + protocol["steps"]
    return replace(request, sequences=compared_sequences(card, steps, request.num, data_dir))


@dataclass(frozen=True)
class View:
    """An image that can be rendered for modules that have all of ``needs``.

    Args:
        draw: Renders the image.
        needs: Methods and attributes that a module must have.
        kinds: Kinds of data that it supports.
        gather: Adds the data that it shows to the request, or ``None``.
        num: Default number of rows or images.
        frames: Renders the frames of an animation, or ``None``.
        counted: Whether it has rows or images to count.
        compares: Whether it compares features of images.
        applies: What else must be true of a module.
    """

    draw: Callable[[Request], Image]
    needs: tuple[str, ...]
    kinds: tuple[str, ...] = ("image",)
    gather: Callable[[Request, Card, str | None], Request] | None = None
    num: int = 8
    frames: Callable[[Request], list[Image]] | None = None
    counted: bool = True
    compares: bool = False
    applies: Callable[[Any], bool] = lambda module: True


GENERATOR = ("sample_latent", "decode", "generator", "latent_dim")
"""What ``HasGenerator`` has."""
VIEWS = {
    "reconstructions": View(reconstructions, ("encode", "reconstruct"), gather=with_held_out, num=40),
    "interpolation": View(interpolation, ("sample_latent", "decode"), frames=circles),
    "inversion": View(inversion, GENERATOR, gather=with_held_out, num=10),
    "neighbours": View(neighbours, ("sample",), gather=with_neighbours, num=8, compares=True),
    "jacobian": View(jacobian, GENERATOR, kinds=("image", "points"), num=NUM_CODES),
    "traversal": View(traversal, ("sample_latent", "traverse")),
    "completion": View(completion, ("complete",), gather=with_held_out),
    "continuation": View(continuation, ("continue_sequence",), kinds=SEQUENCES, gather=with_held_out, num=4),
    "exposure_bias": View(
        exposure_bias, ("continue_sequence", "network"), kinds=tuple(EXPOSURE), gather=with_compared, num=250
    ),
    "filters": View(filters, ("filters",), num=100),
    "fantasies": View(fantasies, ("fantasy_particles",), num=100),
    "counterfactual": View(
        counterfactual, ("sample",), gather=with_counterfactuals, num=12, applies=draws_captioned_emoji
    ),
    "energy": View(energy, ("energy",), kinds=("points",), counted=False),
}


def views_of(module: Any) -> list[str]:
    """Returns the names of the views that a module supports."""
    kind = module.data_spec.kind if module.has_data_spec else None
    return [
        name
        for name, view in VIEWS.items()
        if kind in view.kinds and all(hasattr(module, need) for need in view.needs) and view.applies(module)
    ]


def write_view(view: View, request: Request, path: Path) -> None:
    """Writes a view as PNG, or as animated GIF if it supports that, and creates missing folders.

    Raises:
        ZooError: If the file has another extension.
    """
    if path.suffix.lower() == ".png":
        save_png(view.draw(request), path)
        return
    if path.suffix.lower() != ".gif" or view.frames is None:
        formats = ".png" if view.frames is None else ".png or .gif"
        raise ZooError(f"--out {path} ends in {path.suffix or 'nothing'!r}, but this view is written as {formats}.")
    replace_file(path, gif(view.frames(request), MILLISECONDS))


def check_view(module: Any, name: str, view: str) -> View:
    """Returns a view that a module supports.

    Raises:
        ZooError: If it does not support the view; the message names those that it does.
    """
    if view not in (found := views_of(module)):
        have = f"It has {', '.join(found)}." if found else "It has samples only: python -m zoo sample."
        raise ZooError(f"{name} is a {type(module).__name__}, which has no view {view!r}. {have}")
    return VIEWS[view]
