"""Pictures of what a checkpoint has learnt beyond its samples, each by the capability that it needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL.Image import Image
from torch import Generator, Tensor

from lightning_modules.parts.interpolation import spherical_interpolation
from lightning_modules.parts.pictures import energy_surface, image_grid
from zoo.cards import Card
from zoo.curves import draw_curves
from zoo.drawing import continue_held_out, shown_as
from zoo.errors import ZooError
from zoo.evaluation import compared_sequences, held_out_pictures, held_out_sequences
from zoo.exhibits import SEQUENCES
from zoo.sequence_evaluation import EXPOSURE, exposure

STEPS = 10
MARGIN = 1.5  # of the pictured plane, around the furthest mode
NUM_POINTS = 500
SPAN = 3.0  # standard deviations of the prior, on each side


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        module: The checkpoint's module.
        num: Rows (or pictures) of the view.
        generator: Source of all randomness.
        real: Held-out pictures (num, C, H, W); empty for views that need none.
        sequences: Held-out sequences (T, ...), instead of pictures.
    """

    module: Any
    num: int
    generator: Generator
    real: Tensor = field(default_factory=lambda: torch.empty(0))
    sequences: Sequence[Tensor] = ()

    @property
    def value_range(self) -> tuple[float, float]:
        """The values that become black and white."""
        spec = self.module.data_spec
        return (-1.0, 1.0) if spec is None or spec.value_range is None else spec.value_range


def reconstructions(request: Request) -> Image:
    """Held-out pictures, each beside what is decoded from its code."""
    made = request.module.reconstruct(request.real).cpu()
    pairs = torch.stack([request.real, made], 1).flatten(0, 1)
    return image_grid(pairs, request.value_range, columns=min(2 * request.num, 2 * STEPS))


def interpolation(request: Request) -> Image:
    """Rows of codes on an arc between two draws of the prior, decoded."""
    start, end = (request.module.sample_latent(request.num, generator=request.generator) for _ in range(2))
    codes = spherical_interpolation(start, end, STEPS).flatten(0, 1)
    return image_grid(request.module.decode(codes).cpu(), request.value_range, columns=STEPS)


def traversal(request: Request) -> Image:
    """A row for each of the first coordinates of one code, moved from -3 to 3 while the others stay."""
    z = request.module.sample_latent(1, generator=request.generator)
    values = torch.linspace(-SPAN, SPAN, STEPS)
    rows = [request.module.traverse(z, dimension, values)[0] for dimension in range(min(request.num, z.shape[1]))]
    return image_grid(torch.cat(rows).cpu(), request.value_range, columns=STEPS)


def completion(request: Request) -> Image:
    """Held-out pictures: each whole, its upper half, and several ways in which the model goes on from there."""
    height = request.real.shape[2]
    upper = request.real.clone()
    upper[:, :, height // 2 :] = request.value_range[0]
    repeated = upper.repeat_interleave(STEPS - 2, 0)
    drawn = request.module.complete(repeated, height // 2, generator=request.generator).cpu()
    rows = torch.cat([request.real[:, None], upper[:, None], drawn.unflatten(0, (request.num, STEPS - 2))], 1)
    return image_grid(rows.flatten(0, 1), request.value_range, columns=STEPS)


def continuation(request: Request) -> Image:
    """Held-out sequences, and how the model goes on from their beginnings."""
    given = shown_as(request.module).given(request.module.data_spec)
    return continue_held_out(request.module, request.sequences, given, request.generator).picture


def filters(request: Request) -> Image:
    """Weights of hidden units, grey for zero."""
    return image_grid(request.module.filters()[: request.num].cpu(), (-1.0, 1.0))


def fantasies(request: Request) -> Image:
    """Where the persistent chains of training were at its end."""
    return image_grid(request.module.fantasy_particles()[: request.num].cpu(), request.value_range)


def energy(request: Request) -> Image:
    """The density that the energy of a point in the plane stands for, with level lines."""
    spec, points = request.module.data_spec, request.module.sample(NUM_POINTS, generator=request.generator)
    reach = [abs(x) for mode in spec.modes for x in mode] or points.abs().amax(1).tolist()
    return energy_surface(request.module.energy, MARGIN * max(reach))


def exposure_bias(request: Request) -> Image:
    """How far the model drifts from held-out sequences, by the steps that it has run freely."""
    curves = exposure(request.module, torch.stack(list(request.sequences)), request.generator.initial_seed())
    return draw_curves({type(request.module).__name__: curves})


def with_held_out(request: Request, card: Card, data_dir: str | None = None) -> Request:
    """Returns the request with the first test examples of a checkpoint's data; sequences are long enough to go on."""
    spec = request.module.data_spec
    if spec.kind not in SEQUENCES:
        return replace(request, real=held_out_pictures(card, request.num, data_dir))
    given = shown_as(request.module).given(spec)
    return replace(request, sequences=held_out_sequences(card, request.num, given, data_dir))


def with_compared(request: Request, card: Card, data_dir: str | None = None) -> Request:
    """Returns the request with the test sequences of which exposure bias is measured, twice ``num`` at most."""
    return replace(request, sequences=compared_sequences(card, request.num, data_dir))


@dataclass(frozen=True)
class View:
    """A picture that can be drawn, of modules that have all of ``needs``; ``gather`` finds the data that it shows."""

    draw: Callable[[Request], Image]
    needs: tuple[str, ...]
    kinds: tuple[str, ...] = ("image",)
    gather: Callable[[Request, Card, str | None], Request] | None = None
    num: int = 8


VIEWS = {
    "reconstructions": View(reconstructions, ("encode", "reconstruct"), gather=with_held_out, num=40),
    "interpolation": View(interpolation, ("sample_latent", "decode")),
    "traversal": View(traversal, ("sample_latent", "traverse")),
    "completion": View(completion, ("complete",), gather=with_held_out),
    "continuation": View(continuation, ("continue_sequence",), kinds=SEQUENCES, gather=with_held_out, num=4),
    "exposure_bias": View(
        exposure_bias, ("continue_sequence", "network"), kinds=tuple(EXPOSURE), gather=with_compared, num=250
    ),
    "filters": View(filters, ("filters",), num=100),
    "fantasies": View(fantasies, ("fantasy_particles",), num=100),
    "energy": View(energy, ("energy",), kinds=("points",)),
}


def views_of(module: Any) -> list[str]:
    """Returns the names of the views that a module has."""
    kind = None if module.data_spec is None else module.data_spec.kind
    return [
        name for name, view in VIEWS.items() if kind in view.kinds and all(hasattr(module, need) for need in view.needs)
    ]


def check_view(module: Any, name: str, view: str) -> View:
    """Returns a view that a module has.

    Raises:
        ZooError: If it has no such view, with those that it has.
    """
    if view not in (found := views_of(module)):
        have = f"It has {', '.join(found)}." if found else "It has samples only: python -m zoo sample."
        raise ZooError(f"{name} is a {type(module).__name__}, which has no view {view!r}. {have}")
    return VIEWS[view]
