"""Photographs of any kind are read as their authors meant them to look, or refused by name."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from datamodules.sources.photographs import header_of, lanczos, read_mask, read_photograph

RED, GREY = (200, 30, 40), 77


def saved(path: Path, image: Image.Image, **settings: object) -> Path:
    image.save(path, **settings)  # type: ignore[arg-type]
    return path


def flat(mode: str, colour: object, size: tuple[int, int] = (6, 4)) -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def test_colours_are_kept_bit_for_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    found = read_photograph(saved(tmp_path / "a.png", Image.fromarray(values)))
    assert found.pixels.dtype == torch.uint8
    assert np.array_equal(found.pixels.permute(1, 2, 0).numpy(), values)
    assert (found.size, found.opacity, found.is_grey) == ((4, 6), None, False)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK"])
def test_other_modes_become_the_same_colours(mode: str, tmp_path: Path) -> None:
    colour = {"L": GREY, "LA": (GREY, 255), "1": 1}.get(mode)
    red = flat("RGB", RED)
    image = flat(mode, colour) if colour is not None else red.quantize() if mode == "P" else red.convert(mode)
    expected = {"L": 3 * (GREY,), "LA": 3 * (GREY,), "1": (255, 255, 255)}.get(mode, RED)
    name, settings = ("a.jpg", {"quality": 100}) if mode == "CMYK" else ("a.png", {})
    found = read_photograph(saved(tmp_path / name, image, **settings))
    assert found.pixels.shape == (3, 4, 6)
    assert (found.pixels.float().mean((1, 2)) - torch.tensor(expected).float()).abs().max() <= 2
    assert found.is_grey == (mode in ("L", "LA", "1"))
    assert found.opacity is None


def test_16_bits_are_reduced_to_8(tmp_path: Path) -> None:
    values = np.array([[0, 257, 65535]], np.uint16)
    found = read_photograph(saved(tmp_path / "grey.png", Image.fromarray(values)))
    assert found.pixels[:, 0].tolist() == 3 * [[0, 1, 255]]
    assert found.is_grey
    row = b"\0" + struct.pack(">6H", 65535, 0, 257, 256 * 10, 256 * 20, 256 * 30)
    png = b"\x89PNG\r\n\x1a\n"
    for kind, body in (
        (b"IHDR", struct.pack(">2I5B", 2, 1, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row)),
        (b"IEND", b""),
    ):
        png += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    (tmp_path / "colour.png").write_bytes(png)
    found = read_photograph(tmp_path / "colour.png")
    assert found.pixels[:, 0].T.tolist() == [[255, 0, 1], [10, 20, 30]]


def test_transparent_parts_are_white_and_their_opacity_is_kept(tmp_path: Path) -> None:
    image = flat("RGBA", (*RED, 255))
    image.putpixel((5, 0), (0, 0, 0, 0))
    for name, kept in (("a.png", image), ("palette.png", image.quantize())):
        found = read_photograph(saved(tmp_path / name, kept))
        assert found.opacity is not None
        assert found.opacity[0].tolist() == [255, 255, 255, 255, 255, 0]
        assert found.pixels[:, 0, 5].tolist() == [255, 255, 255]
        assert found.pixels[:, 1, 5].tolist() == list(RED)


def test_the_rotation_of_the_camera_is_applied(tmp_path: Path) -> None:
    image = flat("RGB", RED)
    image.putpixel((0, 0), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.png", image, exif=exif)
    found = read_photograph(path)
    assert found.size == header_of(path) == (6, 4)
    assert found.pixels[:, 0, 3].tolist() == [0, 0, 0]  # the first corner has turned to the right


def test_a_colour_profile_is_applied(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = read_photograph(saved(tmp_path / "same.png", flat("RGB", RED), icc_profile=profile))
    assert (same.pixels[:, 0, 0] - torch.tensor(RED)).abs().max() <= 1
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    with pytest.warns(UserWarning, match=r"strange\.png has a colour profile that cannot be read"):
        strange = read_photograph(saved(tmp_path / "strange.png", flat("RGB", RED), icc_profile=lab))
    assert strange.pixels[:, 0, 0].tolist() == list(RED)


def test_what_is_no_still_image_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png is no image"):
        read_photograph(tmp_path / "text.png")
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(whole, "PNG")
    (tmp_path / "half.png").write_bytes(whole.getvalue()[:1500])
    with pytest.raises(ValueError, match=r"half\.png is a damaged image"):
        read_photograph(tmp_path / "half.png")
    frames = [flat("RGB", RED), flat("RGB", (0, 0, 255))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"moving\.gif is an animation of 2 frames"):
        read_photograph(tmp_path / "moving.gif")
    saved(tmp_path / "float.tiff", flat("F", 0.5))
    with pytest.raises(ValueError, match=r"float\.tiff has values of 0\.5 to 0\.5 in mode F"):
        read_photograph(tmp_path / "float.tiff")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        read_photograph("nowhere.png")


def test_an_enormous_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = struct.pack(">2I5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "bomb.png").write_bytes(png + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    with pytest.raises(ValueError, match=r"bomb\.png .*reduce"):
        read_photograph(tmp_path / "bomb.png")


def test_white_of_a_mask_is_kept(tmp_path: Path) -> None:
    mask = flat("L", 255)
    mask.putpixel((2, 1), 0)
    path = saved(tmp_path / "mask.png", mask)
    kept = read_mask(path)
    assert kept.shape == (4, 6)
    assert not kept[1, 2]
    assert int(kept.sum()) == 23
    assert torch.equal(read_mask(path, invert=True), ~kept)
    assert torch.equal(read_mask(saved(tmp_path / "rgb.png", mask.convert("RGB"))), kept)


@pytest.mark.parametrize(("colour", "invert", "what"), [
    (255, False, "all white, which leaves nothing to fill"),
    (0, False, "all black, which leaves nothing to keep"),
    (255, True, "all white, which leaves nothing to keep"),
])  # fmt: skip
def test_masks_of_one_colour_are_refused(colour: int, invert: bool, what: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "mask.png", flat("L", colour))
    with pytest.raises(ValueError, match=what):
        read_mask(path, invert)


def test_resizing_is_that_of_pillow() -> None:
    image = Image.effect_noise((32, 24), 80).convert("RGB")
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    expected = np.array(image.resize((9, 7), Image.Resampling.LANCZOS))
    assert np.array_equal(lanczos(pixels, 7, 9).permute(1, 2, 0).numpy(), expected)
