"""Digests by which the user's own data are known again."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules import ImageFolder, Ring, TextFile
from datamodules.sources.digests import BEGINNING, digest_of_file, digest_of_files
from tests.datamodules.small_data import image_folder


def test_the_digest_of_a_text_is_that_of_its_bytes(tmp_path: Path) -> None:
    body = bytes(range(256)) * 9000
    (tmp_path / "a.txt").write_bytes(body)
    assert digest_of_file(tmp_path / "a.txt") == hashlib.sha256(body).hexdigest()
    assert TextFile(str(tmp_path / "a.txt"), symbols="bytes").digest() == digest_of_file(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="nowhere"):
        digest_of_file(tmp_path / "nowhere")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda folder: (folder / "cat/00.png").write_bytes((folder / "dog/01.png").read_bytes()),
    "name": lambda folder: (folder / "cat/00.png").rename(folder / "cat/0.png"),
    "class": lambda folder: (folder / "cat").rename(folder / "lynx"),
    "fewer": lambda folder: (folder / "cat/00.png").unlink(),
    "more": lambda folder: (folder / "cat/x.png").write_bytes((folder / "cat/00.png").read_bytes()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_digest_of_a_folder_changes_with_its_images(change: str, tmp_path: Path) -> None:
    before = ImageFolder(str(image_folder(tmp_path / "pets"))).digest()
    CHANGES[change](tmp_path / "pets")
    assert ImageFolder(str(tmp_path / "pets")).digest() != before


def test_the_digest_of_a_folder_does_not_depend_on_where_it_lies_or_on_other_files(tmp_path: Path) -> None:
    before = ImageFolder(str(image_folder(tmp_path / "pets"))).digest()
    (tmp_path / "pets/notes.txt").write_text("x")
    (tmp_path / "pets").rename(tmp_path / "animals")
    assert ImageFolder(str(tmp_path / "animals"), image_size=8, seed=3).digest() == before


def test_of_large_files_the_beginning_and_the_size_count(tmp_path: Path) -> None:
    path, body = tmp_path / "a.png", b"x" * (BEGINNING + 9)
    path.write_bytes(body)
    before = digest_of_files(tmp_path, [path])
    path.write_bytes(body + b"x")
    assert digest_of_files(tmp_path, [path]) != before
    path.write_bytes(b"y" + body[1:])
    assert digest_of_files(tmp_path, [path]) != before


def test_other_data_have_none() -> None:
    assert Ring().digest() is None
