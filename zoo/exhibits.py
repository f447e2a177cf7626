"""What samples of each kind of data look like: a picture always, and beside it the file that is natural to them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, TypeVar

import torch
from PIL.Image import Image
from torch import Tensor

from datamodules.spec import DataSpec
from datamodules.vocabulary import decode
from lightning_modules.parts.clips import animation, strips
from lightning_modules.parts.music import midi, roll_picture
from lightning_modules.parts.pen_drawings import Sheet
from lightning_modules.parts.pictures import image_grid, scatter
from lightning_modules.parts.text_picture import text_picture
from zoo.errors import ZooError

T = TypeVar("T")
SEQUENCES = ("tokens", "piano_roll", "strokes", "video")
BETWEEN_TEXTS = "\n\n" + "-" * 60 + "\n\n"
STEPS_A_QUARTER = {"jsb_chorales": 1, "nottingham": 2}
"""Steps in a quarter note, 1 of other music. Of Nottingham nothing says it; its bars have 6 and 8 steps, so eighths."""
TYPICAL_STEPS = {"omniglot_strokes": 31, "aaron_sheep_strokes": 125}
"""Mean steps of a training drawing: a model of strokes draws on for as long as it is asked to."""


@dataclass(frozen=True)
class Exhibit:
    """Samples as one can look at them, or listen to them.

    Args:
        picture: Of all of them.
        files: What is written beside the picture, by the end of its name: ``{".mid": b"MThd..."}``.
        texts: The samples, if they are text.
    """

    picture: Image
    files: dict[str, bytes] = field(default_factory=dict)
    texts: tuple[str, ...] = ()

    def content(self, extension: str) -> bytes:
        """Returns what a file with this end of its name holds."""
        if extension != ".png":
            return self.files[extension]
        content = BytesIO()
        self.picture.save(content, "PNG")
        return content.getvalue()


@dataclass(frozen=True)
class Drawn:
    """What came out of a model.

    Args:
        samples: (N, ...), on the CPU.
        spec: Of the data that the model has learnt, or ``None`` where it is not recorded.
        columns: Pictures a row, or ``None`` for a square.
        given: So many first steps of each sequence were given to the model, and not drawn.
        truth: Held-out examples (T, ...) that were gone on from, each by an equal part of the samples in turn.
    """

    samples: Tensor
    spec: DataSpec | None
    columns: int | None = None
    given: int = 0
    truth: tuple[Tensor, ...] = ()

    @property
    def value_range(self) -> tuple[float, float]:
        """The values that become black and white."""
        return (-1.0, 1.0) if self.spec is None or self.spec.value_range is None else self.spec.value_range

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The symbols of tokens."""
        return () if self.spec is None else self.spec.vocabulary

    def rows(self, shown: Sequence[T]) -> Iterator[tuple[Tensor, Sequence[T]]]:
        """Yields each held-out example with what is shown of the samples that go on from it."""
        each = len(shown) // max(len(self.truth), 1)
        for i, true in enumerate(self.truth):
            yield true, shown[i * each : (i + 1) * each]


def show_pictures(drawn: Drawn) -> Exhibit:
    """A grid; a scatter plot of points whose data are not recorded."""
    if drawn.samples.ndim == 2 and drawn.samples.shape[1] == 2:
        return show_points(drawn)
    if drawn.samples.ndim != 4:
        shape = list(drawn.samples.shape[1:])
        raise ZooError(f"Samples of shape {shape} are neither pictures nor points: nothing to draw.")
    return Exhibit(image_grid(drawn.samples.float(), drawn.value_range, drawn.columns or _square(len(drawn.samples))))


def show_points(drawn: Drawn) -> Exhibit:
    """A scatter plot."""
    return Exhibit(scatter(drawn.samples.float()))


def show_text(drawn: Drawn) -> Exhibit:
    """The texts, one after the other."""
    texts = tuple(decode(tokens, drawn.vocabulary) for tokens in drawn.samples)
    # Bytes that a model wrote may be no text, and a vocabulary out of a file may hold what UTF-8 does not.
    content = BETWEEN_TEXTS.join(texts).encode(errors="replace")
    given = len(decode(drawn.samples[0, : drawn.given], drawn.vocabulary))
    return Exhibit(text_picture(texts, given), {".txt": content + b"\n"}, texts)


def show_pixels(drawn: Drawn) -> Exhibit:
    """Bits laid out as pictures, grey where they end early; with truth, each row begins with it and with its part."""
    assert drawn.spec is not None
    num_pixels = drawn.spec.shape[0]
    side = math.isqrt(num_pixels)
    if drawn.samples.shape[1] > num_pixels:
        raise ZooError(f"{drawn.samples.shape[1]} pixels are more than the {num_pixels} of a picture: take fewer.")

    def laid_out(bits: Tensor) -> Tensor:
        picture = torch.full((num_pixels,), 0.5)
        picture[: len(bits)] = bits.float()
        return picture.view(1, side, side)

    shown = [laid_out(bits) for bits in drawn.samples]
    columns = drawn.columns or _square(len(shown))
    if drawn.truth:
        columns = 2 + len(shown) // len(drawn.truth)
        rows = ([laid_out(true), laid_out(true[: drawn.given]), *made] for true, made in drawn.rows(shown))
        shown = [picture for row in rows for picture in row]
    return Exhibit(image_grid(torch.stack(shown), (0.0, 1.0), columns))


def show_music(drawn: Drawn) -> Exhibit:
    """Piano rolls, and a MIDI file that plays them."""
    rolls = list(drawn.samples)
    steps = _steps_a_quarter(drawn.spec)
    return Exhibit(roll_picture(rolls, steps, drawn.given), {".mid": midi(rolls, steps)})


def show_strokes(drawn: Drawn) -> Exhibit:
    """Drawings, as lines and as a picture; with truth, each row begins with it."""
    shown, columns, real = list(drawn.samples), drawn.columns, range(0)
    if drawn.truth:
        columns = 1 + len(shown) // len(drawn.truth)
        shown = [drawing for true, made in drawn.rows(shown) for drawing in (true, *made)]
        real = range(0, len(shown), columns)
    sheet = Sheet(shown, drawn.given, real, columns)
    scale = 1.0 if drawn.spec is None or drawn.spec.scale is None else drawn.spec.scale
    return Exhibit(sheet.picture(), {".svg": sheet.svg(scale).encode()})


def show_video(drawn: Drawn) -> Exhibit:
    """Strips of frames, and clips that move; with truth, each is below or beside the true one."""
    shown = (drawn.samples, drawn.value_range, drawn.given, drawn.truth)
    return Exhibit(strips(*shown), {".gif": animation(*shown)})


@dataclass(frozen=True)
class Medium:
    """How data of one kind are shown.

    Args:
        show: Makes an exhibit of samples.
        extension: End of the name of the file beside the picture, or ``None``.
        num: How many samples make a good exhibit.
        continued: How many held-out examples that are gone on from do.
        each: Continuations of each.
        length: Steps of a sample, given the data; ``None`` for the model's own.
        given: Steps of a held-out example that are given to go on from.
    """

    show: Callable[[Drawn], Exhibit]
    extension: str | None = None
    num: int = 64
    continued: int = 8
    each: int = 1
    length: Callable[[DataSpec], int | None] = lambda spec: None
    given: Callable[[DataSpec], int] = lambda spec: spec.shape[0] // 2

    @property
    def extensions(self) -> tuple[str, ...]:
        """The ends of the names of all files."""
        return (".png",) if self.extension is None else (self.extension, ".png")


def _steps_a_quarter(spec: DataSpec | None) -> int:
    return 1 if spec is None else STEPS_A_QUARTER.get(spec.name, 1)


def _square(num: int) -> int:
    return math.ceil(math.sqrt(num))


PICTURES, POINTS = Medium(show_pictures), Medium(show_points, num=2000)
TEXT = Medium(
    show_text, ".txt", num=2, continued=2, length=lambda spec: 400, given=lambda spec: min(100, spec.shape[0] // 2)
)
PIXELS = Medium(show_pixels, each=6)
MEDIA = {
    "image": PICTURES,
    "points": POINTS,
    "tokens": TEXT,
    "piano_roll": Medium(
        show_music,
        ".mid",
        num=4,
        continued=4,
        length=lambda spec: 64 * _steps_a_quarter(spec),
        given=lambda spec: min(16 * _steps_a_quarter(spec), spec.shape[0] // 2),
    ),
    "strokes": Medium(
        show_strokes,
        ".svg",
        each=7,
        length=lambda spec: TYPICAL_STEPS.get(spec.name),
        given=lambda spec: min(8, spec.shape[0] // 2),
    ),
    "video": Medium(show_video, ".gif", num=8, continued=4),
}
"""How each kind of data is shown."""


def medium_of(module: Any) -> Medium | None:
    """Returns how a module's samples are shown, or ``None`` if nothing says what they are."""
    spec = getattr(module, "data_spec", None)
    if spec is None:  # of pictures, samples alone say enough
        return PICTURES if "image" in getattr(module, "kinds", ("image",)) else None
    return medium_for(spec)


def medium_for(spec: DataSpec) -> Medium:
    """Returns how data are shown."""
    return PIXELS if spec.kind == "tokens" and not is_text(spec) else MEDIA[spec.kind]


def is_text(spec: DataSpec) -> bool:
    """Returns whether data are tokens, and not those that are the bits of square pictures."""
    return spec.kind == "tokens" and not (
        spec.vocabulary == ("0", "1")
        and spec.preprocessing.endswith("binarized")
        and math.isqrt(spec.shape[0]) ** 2 == spec.shape[0]
    )
