"""Video as pictures: strips of frames, and frames that move."""

from collections.abc import Sequence
from io import BytesIO

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.parts.pictures import FAKE_COLOUR, PADDING, image_grid

MILLISECONDS = 120  # a frame
ZOOM = 2
COLUMNS = 4  # of clips that move, or of pairs of them
GREY, WHITE = 128, 255


def strips(
    clips: Tensor, value_range: tuple[float, float], given: int = 0, truth: Sequence[Tensor] = ()
) -> Image.Image:
    """Lays clips out as rows of frames, each below the true one where that is given.

    Args:
        clips: (N, T, C, H, W) with one or three channels.
        value_range: The values that become black and white.
        given: The first so many frames were not made by the model; a red line stands after them.
        truth: N clips (T', C, H, W), or none; where they have fewer frames, white follows.

    Raises:
        ValueError: If there is no clip, a wrong number of channels, or a value is NaN or infinite.
    """
    num_frames, (height, width) = clips.shape[1], clips.shape[3:]
    rows = _beside(clips, value_range, truth)
    picture = image_grid(rows.flatten(0, 1), value_range, columns=num_frames)
    if 0 < given < num_frames:
        picture = picture.convert("RGB")
        x, y = given * (width + PADDING), len(rows) * (height + PADDING)
        ImageDraw.Draw(picture).rectangle([x, 0, x + PADDING - 1, y], fill=FAKE_COLOUR)
    return picture


def animation(clips: Tensor, value_range: tuple[float, float], given: int = 0, truth: Sequence[Tensor] = ()) -> bytes:
    """Returns clips that move side by side as GIF; each stands right of the true one where that is given.

    The ground is grey as long as frames are given, and white where the model has made them.

    Args:
        clips: As in ``strips``.
        value_range: As in ``strips``.
        given: As in ``strips``.
        truth: As in ``strips``.

    Raises:
        ValueError: As ``strips`` does.
    """
    shown = _beside(clips, value_range, truth)
    columns = min(len(shown), 2 * COLUMNS if truth else COLUMNS)
    frames = []
    for t, frame in enumerate(shown.unbind(1)):
        picture = image_grid(frame, value_range, columns, ground=GREY if t < given else WHITE)
        frames.append(picture.resize((ZOOM * picture.width, ZOOM * picture.height), Image.Resampling.NEAREST))
    content = BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0)
    return content.getvalue()


def _beside(clips: Tensor, value_range: tuple[float, float], truth: Sequence[Tensor]) -> Tensor:
    """Puts each clip after the true one, cut or filled with white to its length."""
    if not truth:
        return clips
    num_frames = clips.shape[1]
    true = [
        F.pad(clip[:num_frames], [0] * 6 + [0, num_frames - len(clip[:num_frames])], value=value_range[1])
        for clip in truth
    ]
    return torch.stack([torch.stack(true).to(clips), clips], 1).flatten(0, 1)
