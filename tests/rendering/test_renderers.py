"""Which renderer samples of a kind of data have, and what it makes of bits and of bytes."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import DataSpec, Ring
from lightning_modules import WGANGP, TeacherForcing
from lightning_modules.rendering.modules import rendered_as
from lightning_modules.rendering.renderers import (
    IMAGES,
    PIXELS,
    POINTS,
    RENDERERS,
    TEXT,
    Rendering,
    Samples,
    render_images,
    render_pixels,
    render_text,
    renderer_for,
    renderer_of,
)
from tests.zoo.sequence_checkpoints import SPECS, built


def test_bits_are_images_and_other_tokens_are_text() -> None:
    assert [kind for kind in ("text", "bytes", "pixels", "music") if SPECS[kind].is_text] == ["text", "bytes"]
    chain = DataSpec("markov_source", "tokens", (16,), vocabulary=("0", "1"))
    assert chain.is_text, "two symbols alone make no image"
    assert renderer_for(chain) is TEXT
    assert renderer_for(SPECS["pixels"]) is PIXELS


def test_each_caption_has_a_row_of_its_samples_and_white_where_it_has_fewer() -> None:
    levels = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
    values = levels.view(5, 1, 1, 1).expand(5, 3, 2, 2)
    shown = np.asarray(render_images(Samples(values, None, captions=("", ""))).image)[:, -2 * (3 * 4 + 2) :, 0]
    centres = [[int(shown[2 * (4 * row + 3), 2 * (4 * column + 3)]) for column in range(3)] for row in range(2)]
    assert centres == [[0, 128, 255], [64, 191, 255]]
    alone = render_images(Samples(values, None, captions=("a cat",))).image
    assert alone == render_images(Samples(values, None)).image, "one caption needs no rows"


def test_bits_lie_in_rows_from_the_top_left() -> None:
    bits = torch.zeros(2, 16, dtype=torch.int64)
    bits[0, [1, 4]] = 1
    shown = np.asarray(render_pixels(Samples(bits[:, :10], SPECS["pixels"])).image)[2:6, 2:6, 0]
    assert shown.tolist() == [[0, 255, 0, 0], [255, 0, 0, 0], [0, 0, 128, 128], [128] * 4]


def test_bytes_that_are_no_text_are_written_all_the_same() -> None:
    tokens = torch.tensor([[0xFF, 0x41, 0xC3, 0xA9, 0x0A]])
    rendering = render_text(Samples(tokens, SPECS["bytes"], given=2))
    assert rendering.texts == ("\ufffdAé\n",)
    assert rendering.content(".txt") == "\ufffdAé\n\n".encode()
    with Image.open(BytesIO(rendering.content(".png"))) as image:
        assert image.size == rendering.image.size


def test_a_rendering_has_no_other_files() -> None:
    with pytest.raises(KeyError):
        Rendering(Image.new("L", (1, 1))).content(".mid")


@pytest.mark.parametrize(
    ("kind", "extensions"),
    [
        ("text", (".txt", ".png")),
        ("bytes", (".txt", ".png")),
        ("pixels", (".png",)),
        ("music", (".mid", ".png")),
        ("strokes", (".svg", ".png")),
        ("video", (".gif", ".png")),
    ],
)
def test_each_kind_of_sequence_has_its_files(kind: str, extensions: tuple[str, ...]) -> None:
    assert rendered_as(built(kind)).extensions == extensions


def test_without_recorded_data_only_images_can_be_rendered() -> None:
    assert renderer_of(WGANGP(width=2)) is IMAGES
    assert renderer_of(WGANGP.for_data(Ring().spec, width=2)) is POINTS is RENDERERS["points"]
    assert renderer_of(TeacherForcing(width=2)) is None
    with pytest.raises(ValueError, match="TeacherForcing"):
        rendered_as(TeacherForcing(width=2))
