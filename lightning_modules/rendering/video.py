"""Renders video as strips of frames and as animations."""

from collections.abc import Sequence
from io import BytesIO

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.rendering.images import FAKE_COLOUR, PADDING, image_grid

MILLISECONDS = 120  # per frame
ZOOM = 2
COLUMNS = 4  # clips, or pairs of clips, per row of an animation
GREY, WHITE = 128, 255


def strips(
    clips: Tensor, value_range: tuple[float, float], given: int = 0, truth: Sequence[Tensor] = ()
) -> Image.Image:
    """Arranges clips as rows of frames, each below the true clip if that is given.

    Args:
        clips: (N, T, C, H, W) with one or three channels.
        value_range: The values that become black and white.
        given: Number of first frames that were not sampled by the model; a red line follows them.
        truth: N clips (T', C, H, W), or none; missing frames are white.

    Raises:
        ValueError: If there is no clip, a wrong number of channels, or a value is NaN or infinite.
    """
    num_frames, (height, width) = clips.shape[1], clips.shape[3:]
    rows = _with_truth(clips, value_range, truth)
    image = image_grid(rows.flatten(0, 1), value_range, columns=num_frames)
    if 0 < given < num_frames:
        image = image.convert("RGB")
        x, y = given * (width + PADDING), len(rows) * (height + PADDING)
        ImageDraw.Draw(image).rectangle([x, 0, x + PADDING - 1, y], fill=FAKE_COLOUR)
    return image


def animation(clips: Tensor, value_range: tuple[float, float], given: int = 0, truth: Sequence[Tensor] = ()) -> bytes:
    """Returns a GIF of all clips side by side, each to the right of the true clip if that is given.

    The background is grey for given frames, and white for frames that the model has sampled.

    Args:
        clips: As in ``strips``.
        value_range: As in ``strips``.
        given: As in ``strips``.
        truth: As in ``strips``.

    Raises:
        ValueError: As in ``strips``.
    """
    shown = _with_truth(clips, value_range, truth)
    columns = min(len(shown), 2 * COLUMNS if truth else COLUMNS)
    frames = []
    for t, frame in enumerate(shown.unbind(1)):
        image = image_grid(frame, value_range, columns, ground=GREY if t < given else WHITE)
        frames.append(image)
    return gif(frames)


def gif(frames: Sequence[Image.Image], milliseconds: int = MILLISECONDS, zoom: int = ZOOM) -> bytes:
    """Returns a GIF that repeats the frames endlessly, enlarged ``zoom`` times, each shown for ``milliseconds``."""
    large = [frame.resize((zoom * frame.width, zoom * frame.height), Image.Resampling.NEAREST) for frame in frames]
    content = BytesIO()
    large[0].save(content, "GIF", save_all=True, append_images=large[1:], duration=milliseconds, loop=0)
    return content.getvalue()


def _with_truth(clips: Tensor, value_range: tuple[float, float], truth: Sequence[Tensor]) -> Tensor:
    """Puts before each clip the true one, cut or filled with white to the same length."""
    if not truth:
        return clips
    num_frames = clips.shape[1]
    true = [
        F.pad(clip[:num_frames], [0] * 6 + [0, num_frames - len(clip[:num_frames])], value=value_range[1])
        for clip in truth
    ]
    return torch.stack([torch.stack(true).to(clips), clips], 1).flatten(0, 1)
