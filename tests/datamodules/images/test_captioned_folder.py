"""Folders of images with captions: both forms, what a batch has, and captions that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from datamodules import CaptionedFolder, DataSpec
from tests.datamodules.small_data import image_folder, random_image
from tests.datamodules.small_emoji import captioned_folder


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return captioned_folder(tmp_path / "pets")


def captions_of(folder: Path) -> list[str]:
    return CaptionedFolder(str(folder)).captions_of(sorted(folder.rglob("*.png")))


def lines(folder: Path, *added: str | bytes) -> None:
    """Adds lines to the file of captions."""
    with (folder / "captions.jsonl").open("ab") as file:
        for line in added:
            file.write((line.encode() if isinstance(line, str) else line) + b"\n")


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_come_with_their_captions(pets: Path, in_memory: bool) -> None:
    data = CaptionedFolder(str(pets), image_size=8, batch_size=3, val_size=6, test_size=5, in_memory=in_memory)
    assert set(data.spec.vocabulary) == {"a", "cat", "dog", "owl", "number", "0", "1", "2", "3"}
    data.setup()
    assert len(data.spec.captions) == 19
    assert data.spec.caption_classes == tuple(data.images("train")[1].tolist())
    for loader, split in ((data.val_dataloader(), "val"), (data.test_dataloader(), "test")):
        tokens = torch.cat([batch.tokens for batch in loader])
        for row, caption, label in zip(tokens, data.captions(split), data.images(split)[1].tolist(), strict=True):
            assert row.tolist() == data.spec.tokens(caption)
            assert data.spec.class_names[label] in caption
    assert DataSpec.from_json(json.loads(json.dumps(data.spec.to_json()))) == data.spec


def test_captions_may_lie_beside_the_images(tmp_path: Path, pets: Path) -> None:
    folder = image_folder(tmp_path / "beside")
    for line in (pets / "captions.jsonl").read_text().splitlines():
        entry = json.loads(line)
        (folder / entry["file"]).with_suffix(".txt").write_text(entry["caption"] + "\n")
    assert captions_of(folder) == captions_of(pets)
    assert captions_of(folder)[0] == "A cat, number 0."


def test_lists_of_other_collections_are_read(tmp_path: Path) -> None:
    random_image(1).save(tmp_path / "a.png")
    lines(tmp_path, json.dumps({"file_name": "./a.png", "text": "A thing", "other": 1}), "")
    assert captions_of(tmp_path) == ["A thing"]


def test_the_digest_is_that_of_images_and_captions(pets: Path) -> None:
    def digest() -> str:
        return CaptionedFolder(str(pets)).digest()

    before = digest()
    assert digest() == before
    path = pets / "captions.jsonl"
    path.write_text(path.read_text().replace("number 1", "number 2", 1))
    assert digest() != before


def texts(folder: Path) -> Path:
    """Puts each caption into a text beside its image."""
    listed = folder / "captions.jsonl"
    for line in listed.read_text().splitlines():
        entry = json.loads(line)
        (folder / entry["file"]).with_suffix(".txt").write_text(entry["caption"])
    listed.unlink()
    return folder


def first_line(folder: Path, line: str) -> None:
    listed = folder / "captions.jsonl"
    listed.write_text("\n".join([line, *listed.read_text().split("\n")[1:]]), encoding="utf-8")


def in_place_of(path: Path, target: str = "") -> None:
    """Puts a link, or a folder, in the place of a file."""
    path.unlink()
    path.symlink_to(target) if target else path.mkdir()


@pytest.mark.parametrize("name", ["captions.jsonl", "cat/00.txt"])
def test_a_byte_order_mark_is_no_part_of_a_word(name: str, pets: Path) -> None:
    path = (pets if name == "captions.jsonl" else texts(pets)) / name
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert captions_of(pets)[0] == "A cat, number 0."


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\x1c"])
def test_separators_of_lines_may_be_in_a_caption(separator: str, pets: Path) -> None:
    line = json.dumps({"file": "cat/00.png", "caption": f"A{separator}cat"}, ensure_ascii=separator < " ")
    first_line(pets, line + "\r")
    assert captions_of(pets)[0] == f"A{separator}cat"
    assert {"a", "cat"} <= set(CaptionedFolder(str(pets)).spec.vocabulary)


def test_texts_beside_no_image_are_named(pets: Path) -> None:
    texts(pets)
    (pets / "cat/README.txt").write_text("Photographs of 2024")
    (pets / "cat/.hidden.txt").write_text("x")
    with pytest.warns(UserWarning, match=r"pets: cat/README\.txt lie beside no image"):
        assert len(captions_of(pets)) == 30


def linked_image(folder: Path) -> None:
    random_image(1).save(folder.parent / "secret.png")
    (folder / "cat/link.png").symlink_to(folder.parent / "secret.png")


def linked_list(folder: Path) -> None:
    (folder / "captions.jsonl").rename(folder.parent / "captions.jsonl")
    (folder / "captions.jsonl").symlink_to(folder.parent / "captions.jsonl")


def linked_text(folder: Path) -> None:
    (folder / "captions.jsonl").unlink()
    (folder.parent / "secret.txt").write_text("a secret")
    (folder / "cat/00.txt").symlink_to(folder.parent / "secret.txt")


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing images": (
        lambda folder: lines(folder, '{"file": "cat/99.png", "caption": "a cat"}'),
        r"captions\.jsonl names 1 image\(s\) that the folder does not have: cat/99\.png",
    ),
    "duplicates": (
        lambda folder: lines(folder, '{"file": "./cat/00.png", "caption": "a cat"}'),
        r"captions\.jsonl: lines 1 and 31 both name '\./cat/00\.png'",
    ),
    "up": (
        lambda folder: lines(folder, '{"file": "cat/../../x.png", "caption": "a cat"}'),
        r"line 31: 'cat/\.\./\.\./x\.png' leads out of the folder",
    ),
    "absolute": (
        lambda folder: lines(folder, '{"file": "/etc/x.png", "caption": "a cat"}'),
        r"line 31: '/etc/x\.png' leads out of the folder",
    ),
    "not UTF-8": (
        lambda folder: lines(folder, b'{"file": "cat/00.png", "caption": "caf\xe9"}'),
        r"captions\.jsonl is not UTF-8: byte 0xe9",
    ),
    "no JSON": (lambda folder: lines(folder, "cat/00.png a cat"), "line 31 is not JSON"),
    "another form": (lambda folder: lines(folder, '["cat/00.png"]'), r'line 31 must be \{"file"'),
    "no text": (lambda folder: lines(folder, '{"file": "a.png", "caption": 3}'), r'line 31 must be \{"file"'),
    "images without": (
        lambda folder: random_image(5).save(folder / "cat/new.png"),
        r"1 of 31 images have no caption in captions\.jsonl: cat/new\.png",
    ),
    "no captions": (
        lambda folder: (folder / "captions.jsonl").unlink(),
        r"30 of 30 images have no caption in a \.txt beside them, and no captions\.jsonl: cat/00\.png.* and 10 more",
    ),
    "wordless": (
        lambda folder: (
            (folder / "captions.jsonl").write_text(
                (folder / "captions.jsonl").read_text().replace('"A cat, number 0."', '" ,"', 1)
            )
            and None
        ),
        r"caption of cat/00\.png has no words",
    ),
    "image by link": (linked_image, r"cat/link\.png lead out of the folder by links"),
    "list by link": (linked_list, r"captions\.jsonl leads out of the folder by a link"),
    "a key twice": (
        lambda folder: first_line(folder, '{"file": "cat/00.png", "caption": "a cat", "caption": "a dog"}'),
        "line 1 has a key twice, .*: keep one of them",
    ),
    "half a character": (
        lambda folder: first_line(folder, r'{"file": "cat/00.png", "caption": "a \ud800x cat"}'),
        r"line 1: 'a \\ud800x cat' has half of a character, '\\ud800'",
    ),
    "half a character of a name": (
        lambda folder: first_line(folder, r'{"file": "cat/\ud800.png", "caption": "a cat"}'),
        "line 1: .* has half of a character",
    ),
    "deep": (lambda folder: lines(folder, "[" * 200_000), "line 31 is not JSON"),
    "a list of pairs": (
        lambda folder: first_line(folder, '[["file", "cat/00.png"], ["caption", "a cat"]]'),
        r'line 1 must be \{"file"',
    ),
    "a shared text": (
        lambda folder: random_image(1).save(texts(folder) / "cat/00.jpg"),
        r"cat/00\.jpg, cat/00\.png share the caption 00\.txt",
    ),
    "a folder of texts": (
        lambda folder: in_place_of(texts(folder) / "cat/00.txt"),
        r"cat/00\.txt cannot be read \(Is a directory\)",
    ),
    "a folder as list": (
        lambda folder: in_place_of(folder / "captions.jsonl"),
        r"captions\.jsonl cannot be read \(Is a directory\)",
    ),
    "a link to nothing": (
        lambda folder: in_place_of(folder / "captions.jsonl", "nothing"),
        r"captions\.jsonl cannot be read \(No such file or directory\)",
    ),
    "a link elsewhere to nothing": (
        lambda folder: in_place_of(folder / "captions.jsonl", "/nowhere/x"),
        r"captions\.jsonl leads out of the folder by a link",
    ),
    "a text that links to itself": (
        lambda folder: in_place_of(texts(folder) / "cat/00.txt", "00.txt"),
        r"cat/00\.txt cannot be read \(Too many levels of symbolic links\)",
    ),
    "text by link": (linked_text, r"cat/00\.txt leads out of the folder by a link"),
}


@pytest.mark.filterwarnings("ignore:.*no regular files")
@pytest.mark.parametrize("name", WRONG)
def test_captions_that_cannot_be_used_are_refused_before_work_starts(name: str, pets: Path) -> None:
    change, message = WRONG[name]
    change(pets)
    with pytest.raises(ValueError, match=message):
        CaptionedFolder(str(pets)).spec  # noqa: B018
