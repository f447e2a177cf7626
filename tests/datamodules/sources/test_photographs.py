"""Photographs of any kind are read as their authors meant them to look, or refused by name."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from datamodules.sources.photographs import covered, header_of, lanczos, lanczos_of_known, read_mask, read_photograph

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
    corners = {1: (0, 0), 2: (0, 5), 3: (3, 5), 4: (3, 0), 5: (0, 0), 6: (0, 3), 7: (5, 3), 8: (5, 0)}
    for ending in ("png", "tif", "webp"):
        for number, corner in corners.items():
            exif[0x0112] = number
            settings = {"lossless": True} if ending == "webp" else {}
            path = saved(tmp_path / f"{number}.{ending}", image, exif=exif, **settings)
            found = read_photograph(path)
            assert header_of(path) == found.size == ((4, 6) if number < 5 else (6, 4))
            assert (found.pixels.sum(0) == 0).nonzero().tolist() == [list(corner)]


def test_a_colour_profile_is_applied(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = read_photograph(saved(tmp_path / "same.png", flat("RGB", RED), icc_profile=profile))
    assert (same.pixels[:, 0, 0] - torch.tensor(RED)).abs().max() <= 1
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    with pytest.warns(UserWarning, match=r"strange\.png has a colour profile that cannot be read"):
        strange = read_photograph(saved(tmp_path / "strange.png", flat("RGB", RED), icc_profile=lab))
    assert strange.pixels[:, 0, 0].tolist() == list(RED)
    for damaged in (b"no profile", profile[:200], profile[:16] + b"\xdc\xa5\x86\xef" + profile[20:]):
        with pytest.warns(UserWarning, match=r"a\.png has a colour profile that cannot be read"):
            found = read_photograph(saved(tmp_path / "a.png", flat("RGB", RED), icc_profile=damaged))
        assert found.pixels[:, 0, 0].tolist() == list(RED)


def with_channels_swapped() -> bytes:
    """The profile of sRGB in which red and blue have changed places."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (number,) = struct.unpack(">I", profile[128:132])
    places = {profile[132 + 12 * i : 136 + 12 * i].decode(): 132 + 12 * i for i in range(number)}
    red, blue = places["rXYZ"] + 4, places["bXYZ"] + 4
    profile[red : red + 8], profile[blue : blue + 8] = profile[blue : blue + 8], profile[red : red + 8]
    return bytes(profile)


def linear_grey() -> bytes:
    """A profile of grey values that are proportional to the light."""
    white = struct.pack(">3i", 63190, 65536, 54061)
    tags = {
        b"wtpt": b"XYZ \0\0\0\0" + white,
        b"kTRC": b"curv" + bytes(8),
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"grey" + bytes(80),
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
    }
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white
    return header.ljust(128, b"\0") + table + body


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "clear"])
def test_a_colour_profile_is_applied_in_every_mode(mode: str, tmp_path: Path) -> None:
    image = flat("RGB", RED)
    image = image.quantize(4) if mode == "P" else image.convert("RGBA" if mode == "clear" else mode)
    if mode == "clear":
        image.putalpha(128)
    found = read_photograph(saved(tmp_path / "a.png", image, icc_profile=with_channels_swapped())).pixels[:, 0, 0]
    expected = torch.tensor(RED[::-1])
    expected = (expected * 128 + 255 * 127) / 255 if mode == "clear" else expected  # colours are mixed in sRGB
    assert (found - expected).abs().max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "16 bits"])
def test_the_profile_of_grey_values_is_applied_in_every_mode(mode: str, tmp_path: Path) -> None:
    image = flat("L", 60) if mode == "L" else flat("LA", (60, 255))
    image = Image.fromarray(np.full((4, 6), 60 * 257, np.uint16)) if mode == "16 bits" else image
    found = read_photograph(saved(tmp_path / "a.png", image, icc_profile=linear_grey()))
    # A share of 60 / 255 of the light is 1.055 (60 / 255)^(1 / 2.4) - 0.055 in sRGB, 133 of 255.
    assert (found.pixels[:, 0, 0].float() - 133).abs().max() <= 1
    assert found.is_grey


def test_grey_values_may_have_a_profile_of_colours(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = read_photograph(saved(tmp_path / "a.png", flat("L", GREY), icc_profile=profile))
    assert (found.pixels[:, 0, 0].float() - GREY).abs().max() <= 1
    assert (found.pixels == found.pixels[:1]).all()


def png_of_16_bits(kind: int, row: list[int], key: list[int]) -> bytes:
    """One row of 16-bit values, grey (0) or RGB (2), of which one is transparent."""
    return png_with_key(len(row) // len(key), 16, kind, struct.pack(f">{len(row)}H", *row), key)


def png_with_key(width: int, bits: int, kind: int, row: bytes, key: list[int]) -> bytes:
    """One row of values of which one is transparent, if a key is given."""
    png = b"\x89PNG\r\n\x1a\n"
    for name, body in (
        (b"IHDR", struct.pack(">2I5B", width, 1, bits, kind, 0, 0, 0)),
        *([(b"tRNS", struct.pack(f">{len(key)}H", *key))] if key else []),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    ):
        png += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return png


def test_a_transparent_value_of_16_bits_is_transparent(tmp_path: Path) -> None:
    (tmp_path / "grey.png").write_bytes(png_of_16_bits(0, [2560, 51200], [2560]))
    (tmp_path / "colour.png").write_bytes(png_of_16_bits(2, [2560, 0, 512, 51200, 0, 0], [2560, 0, 512]))
    for name in ("grey.png", "colour.png"):
        found = read_photograph(tmp_path / name)
        assert found.opacity is not None
        assert found.opacity.tolist() == [[0, 255]]
        assert found.pixels[0].tolist() == [[255, 200]]


@pytest.mark.parametrize(("bits", "key"), [(1, 1), (2, 1), (4, 3), (8, 7)])
def test_a_transparent_grey_value_of_few_bits_is_transparent(bits: int, key: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_with_key(2, bits, 0, bytes([key << (8 - bits), 0]), [key]))
    found = read_photograph(tmp_path / "a.png")
    assert found.opacity is not None
    assert found.opacity.tolist() == [[0, 255]]


def test_16_bit_greys_with_opacity_are_grey(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_with_key(1, 16, 4, struct.pack(">2H", 51200, 65535), []))
    found = read_photograph(tmp_path / "a.png")
    assert found.is_grey
    assert found.pixels.flatten().tolist() == [200, 200, 200]


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_a_senseless_rotation_is_none(ending: str, tmp_path: Path) -> None:
    """As text, out of 1..8, or in a record that cannot be read: the size and the pixels are those of the file."""

    def tag(kind: int, count: int, value: bytes) -> bytes:
        return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI", 1, 0x0112, kind, count) + value + bytes(4)

    records = [tag(2, 2, b"6\0\0\0"), tag(3, 1, b"\x09\0\0\0"), tag(3, 1, b"\x2a\0\0\0"), b"Exif\0\0no record"]
    for number, exif in enumerate([*records, tag(3, 1, b"\x06\0\0\0")]):
        path = saved(tmp_path / f"{number}.{ending}", flat("RGB", RED), exif=exif)
        expected = (4, 6) if number < len(records) else (6, 4)
        assert header_of(path) == read_photograph(path).size == expected


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    """Files that are cut, or whose header has other bytes: Pillow raises errors of many kinds."""
    random, said = np.random.default_rng(0), []
    frames = [flat("RGB", RED, (48, 32)), flat("RGB", (0, 0, 255), (48, 32))]
    for ending in ("jpg", "png", "webp", "gif", "tif"):
        several: dict[str, object] = {"save_all": True, "append_images": frames[1:]}
        path = saved(tmp_path / f"a.{ending}", frames[0], **(several if ending in ("gif", "tif") else {}))
        whole = path.read_bytes()
        for number in range(30):
            content = bytearray(whole[: random.integers(8, len(whole))] if number % 2 else whole)
            for place in random.integers(4, min(len(content), 400), 0 if number % 2 else 5):
                content[place] = random.integers(256)
            path.write_bytes(content)
            for read in (header_of, read_photograph):
                try:
                    read(path)
                except ValueError as error:
                    said.append(str(error))
    assert len(said) > 100
    assert [message for message in said if str(tmp_path / "a.") not in message] == []


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


def test_a_pixel_of_a_resized_mask_is_kept_if_all_of_its_area_is() -> None:
    kept = torch.ones(12, 30, dtype=torch.bool)
    kept[7, 12:14] = False
    for height, width in ((12, 30), (4, 10), (5, 7), (1, 1), (36, 60), (13, 31)):
        rows, columns = (torch.arange(size).double() for size in (height, width))
        hidden = torch.zeros(height, width, dtype=torch.bool)
        for y, x in (~kept).nonzero().tolist():  # the open intervals of both pixels meet
            meets_y = (rows * 12 / height < y + 1) & ((rows + 1) * 12 / height > y)
            meets_x = (columns * 30 / width < x + 1) & ((columns + 1) * 30 / width > x)
            hidden |= meets_y[:, None] & meets_x
        assert torch.equal(covered(kept, height, width), ~hidden)


def test_what_is_hidden_does_not_shine_through_into_what_is_known() -> None:
    pixels, kept = torch.full((3, 64, 64), 128, dtype=torch.uint8), torch.ones(64, 64, dtype=torch.bool)
    kept[24:40, 20:44] = False
    pixels[:, ~kept] = 255
    for height, width in ((24, 24), (32, 32), (48, 50), (100, 100)):
        known = covered(kept, height, width)
        assert lanczos_of_known(pixels, kept, height, width)[:, known].unique().tolist() == [128]


def test_resizing_is_that_of_pillow() -> None:
    image = Image.effect_noise((32, 24), 80).convert("RGB")
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    expected = np.array(image.resize((9, 7), Image.Resampling.LANCZOS))
    assert np.array_equal(lanczos(pixels, 7, 9).permute(1, 2, 0).numpy(), expected)
