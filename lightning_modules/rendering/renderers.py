"""Renderers of samples, one for each kind of data: as an image, and as a file in a format for that kind."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, TypeVar

import torch
from PIL.Image import Image
from torch import Tensor

from datamodules.spec import DataSpec
from lightning_modules.rendering.image_rows import captioned_rows
from lightning_modules.rendering.images import image_grid
from lightning_modules.rendering.piano_roll import midi, roll_image
from lightning_modules.rendering.points import scatter
from lightning_modules.rendering.stroke_drawings import Sheet
from lightning_modules.rendering.text_images import text_image
from lightning_modules.rendering.video import animation, strips

T = TypeVar("T")
SEQUENCES = ("tokens", "piano_roll", "strokes", "video")
BETWEEN_TEXTS = "\n\n" + "-" * 60 + "\n\n"
STEPS_PER_QUARTER = {"jsb_chorales": 1, "nottingham": 2}
"""Steps per quarter note; 1 for other music. Nottingham does not state it; its bars have 6 and 8 steps, so eighths."""
TYPICAL_STEPS = {"omniglot_strokes": 31, "aaron_sheep_strokes": 125, "omniglot_and_aaron_sheep_strokes": 50}
"""Mean number of steps of a training drawing, for models that do not predict the end of a drawing."""


@dataclass(frozen=True)
class Rendering:
    """Rendered samples, to look at or listen to.

    Args:
        image: An image of all samples.
        files: Contents of further files, by extension: ``{".mid": b"MThd..."}``.
        texts: The samples, if they are text.
    """

    image: Image
    files: dict[str, bytes] = field(default_factory=dict)
    texts: tuple[str, ...] = ()

    def content(self, extension: str) -> bytes:
        """Returns the content of the file with this extension."""
        if extension != ".png":
            return self.files[extension]
        content = BytesIO()
        self.image.save(content, "PNG")
        return content.getvalue()


@dataclass(frozen=True)
class Samples:
    """Samples of a model, and what is needed to render them.

    Args:
        values: (N, ...), on the CPU.
        spec: Spec of the data that the model was trained on, or ``None`` if it is not recorded.
        columns: Images per row, or ``None`` for a square grid.
        given: Number of first steps of each sequence that were given to the model, not sampled.
        truth: Real examples. For sequences, the held-out ones (T, ...) that were continued, each by an equal number of
            consecutive samples; for points, real points to compare with.
        captions: The captions that images were sampled for, in turn.
    """

    values: Tensor
    spec: DataSpec | None
    columns: int | None = None
    given: int = 0
    truth: Sequence[Tensor] = ()
    captions: Sequence[str] = ()

    @property
    def value_range(self) -> tuple[float, float]:
        """The values that become black and white."""
        return (-1.0, 1.0) if self.spec is None or self.spec.value_range is None else self.spec.value_range

    def rows(self, rendered: Sequence[T]) -> Iterator[tuple[Tensor, Sequence[T]]]:
        """Yields each held-out example with the renderings of the samples that continue it."""
        each = len(rendered) // max(len(self.truth), 1)
        for i, true in enumerate(self.truth):
            yield true, rendered[i * each : (i + 1) * each]


def render_images(samples: Samples) -> Rendering:
    """Renders a grid of images, one row per caption if there are several; points without a spec as a scatter plot."""
    values = samples.values
    if values.ndim == 2 and values.shape[1] == 2:
        return render_points(samples)
    if values.ndim != 4:
        raise ValueError(f"Samples of shape {list(values.shape[1:])} are neither images nor points: nothing to render.")
    if len(samples.captions) > 1:
        return Rendering(captioned_rows(_by_caption(samples), samples.captions, samples.value_range))
    return Rendering(image_grid(values.float(), samples.value_range, samples.columns or _square(len(values))))


def _by_caption(samples: Samples) -> Tensor:
    """Returns the images (captions, columns, C, H, W), with white ones where a caption has fewer than others."""
    rows = len(samples.captions)
    columns = -(-len(samples.values) // rows)
    white = samples.values.new_full((columns * rows - len(samples.values), *samples.values.shape[1:]), 1.0)
    images = torch.cat([samples.values, white * samples.value_range[1]]).float()
    return images.unflatten(0, (columns, rows)).transpose(0, 1)


def render_points(samples: Samples) -> Rendering:
    """Renders a scatter plot, over real points if there are any."""
    real = torch.stack(list(samples.truth)).float() if len(samples.truth) else None
    return Rendering(scatter(samples.values.float(), real))


def render_text(samples: Samples) -> Rendering:
    """Renders the texts, one below the other."""
    assert samples.spec is not None
    texts = tuple(samples.spec.text(tokens.tolist()) for tokens in samples.values)
    # Sampled bytes may not be valid text, and a vocabulary in a file may have symbols that UTF-8 cannot encode.
    content = BETWEEN_TEXTS.join(texts).encode(errors="replace")
    given = len(samples.spec.text(samples.values[0, : samples.given].tolist()))
    return Rendering(text_image(texts, given), {".txt": content + b"\n"}, texts)


def render_pixels(samples: Samples) -> Rendering:
    """Renders bits as images, grey where a sequence ends early; with truth, a row begins with it and the given part."""
    assert samples.spec is not None
    num_pixels = samples.spec.shape[0]
    side = math.isqrt(num_pixels)
    if samples.values.shape[1] > num_pixels:
        raise ValueError(f"{samples.values.shape[1]} pixels are more than the {num_pixels} of an image: use fewer.")

    def laid_out(bits: Tensor) -> Tensor:
        image = torch.full((num_pixels,), 0.5)
        image[: len(bits)] = bits.float()
        return image.view(1, side, side)

    rendered = [laid_out(bits) for bits in samples.values]
    columns = samples.columns or _square(len(rendered))
    if samples.truth:
        columns = 2 + len(rendered) // len(samples.truth)
        rows = ([laid_out(true), laid_out(true[: samples.given]), *made] for true, made in samples.rows(rendered))
        rendered = [image for row in rows for image in row]
    return Rendering(image_grid(torch.stack(rendered), (0.0, 1.0), columns))


def render_music(samples: Samples) -> Rendering:
    """Renders piano rolls as an image and as a MIDI file."""
    rolls, steps = list(samples.values), _steps_per_quarter(samples.spec)
    return Rendering(roll_image(rolls, steps, samples.given), {".mid": midi(rolls, steps)})


def render_strokes(samples: Samples) -> Rendering:
    """Renders drawings as SVG and as an image, each until its end; with truth, each row begins with it."""
    drawings, columns, real = list(samples.values), samples.columns, range(0)
    if samples.truth:
        columns = 1 + len(drawings) // len(samples.truth)
        drawings = [drawing for true, made in samples.rows(drawings) for drawing in (true, *made)]
        real = range(0, len(drawings), columns)
    sheet = Sheet(drawings, samples.given, real, columns)
    scale = 1.0 if samples.spec is None or samples.spec.scale is None else samples.spec.scale
    return Rendering(sheet.image(), {".svg": sheet.svg(scale).encode()})


def render_video(samples: Samples) -> Rendering:
    """Renders strips of frames and an animation; with truth, each clip is below or to the right of the true one."""
    clips = (samples.values, samples.value_range, samples.given, samples.truth)
    return Rendering(strips(*clips), {".gif": animation(*clips)})


@dataclass(frozen=True)
class Renderer:
    """Renderer of one kind of data, with default numbers.

    Args:
        render: Renders samples.
        extension: Extension of the file in addition to the image, or ``None``.
        num: Default number of samples.
        num_continued: Default number of held-out examples to continue.
        each: Number of continuations of each.
        length: Steps of a sample, as a function of the data spec; ``None`` for the model's default.
        given: Steps of a held-out example that are given to the model.
    """

    render: Callable[[Samples], Rendering]
    extension: str | None = None
    num: int = 64
    num_continued: int = 8
    each: int = 1
    length: Callable[[DataSpec], int | None] = lambda spec: None
    given: Callable[[DataSpec], int] = lambda spec: spec.shape[0] // 2

    @property
    def extensions(self) -> tuple[str, ...]:
        """The extensions of all files."""
        return (".png",) if self.extension is None else (self.extension, ".png")


def _steps_per_quarter(spec: DataSpec | None) -> int:
    return 1 if spec is None else STEPS_PER_QUARTER.get(spec.name, 1)


def _square(num: int) -> int:
    return math.ceil(math.sqrt(num))


IMAGES, POINTS = Renderer(render_images), Renderer(render_points, num=2000)
TEXT = Renderer(
    render_text,
    ".txt",
    num=2,
    num_continued=2,
    length=lambda spec: 400,
    given=lambda spec: min(100, spec.shape[0] // 2),
)
PIXELS = Renderer(render_pixels, each=6)
RENDERERS = {
    "image": IMAGES,
    "points": POINTS,
    "tokens": TEXT,
    "piano_roll": Renderer(
        render_music,
        ".mid",
        num=4,
        num_continued=4,
        length=lambda spec: 64 * _steps_per_quarter(spec),
        given=lambda spec: min(16 * _steps_per_quarter(spec), spec.shape[0] // 2),
    ),
    "strokes": Renderer(
        render_strokes,
        ".svg",
        each=7,
        length=lambda spec: None if spec.marks_ends else TYPICAL_STEPS.get(spec.name),
        given=lambda spec: min(8, spec.shape[0] // 2),
    ),
    "video": Renderer(render_video, ".gif", num=8, num_continued=4),
}
"""How each kind of data is rendered."""


def renderer_for(spec: DataSpec) -> Renderer:
    """Returns the renderer of data with this spec."""
    return PIXELS if spec.kind == "tokens" and not spec.is_text else RENDERERS[spec.kind]


def known_spec(module: Any) -> DataSpec | None:
    """Returns the data spec of any module that samples, or ``None`` if it has none."""
    return getattr(module, "data_spec", None) if getattr(module, "has_data_spec", True) else None


def renderer_of(module: Any, spec: DataSpec | None = None) -> Renderer | None:
    """Returns the renderer of a module's samples, or ``None`` if the kind of data is not known.

    Args:
        module: A module that ``SupportsSampling``.
        spec: Spec of the data; by default that of the module.
    """
    spec = spec or known_spec(module)
    if spec is not None:
        return renderer_for(spec)
    return IMAGES if "image" in getattr(module, "kinds", ("image",)) else None  # images can be rendered without a spec
