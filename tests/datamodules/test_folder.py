"""Folders of pictures and the streaming path; the pictures are made here."""

import hashlib
import io
import threading
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import CelebA, DataNotFoundError, ImageFolder, celeba, folder
from datamodules.public_files import PublicDataset, PublicFile
from datamodules.streaming import FileSource, fitted


def picture(seed: int, width: int = 12, height: int = 10) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Thirty pictures in three classes."""
    for number in range(30):
        path = tmp_path / "pets" / ("cat", "dog", "owl")[number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    return tmp_path / "pets"


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_folder_yields_what_its_spec_says(pictures: Path, in_memory: bool) -> None:
    data = ImageFolder(str(pictures), image_size=8, batch_size=4, val_size=6, test_size=5, in_memory=in_memory)
    data.setup()
    assert (data.spec.name, data.spec.shape, data.spec.class_names) == ("pets", (3, 8, 8), ("cat", "dog", "owl"))
    assert sum(data.spec.class_counts) == 19
    assert len(data.train_dataloader()) == 4
    assert [len(x) for x, _ in data.val_dataloader()] == [4, 2]
    assert [len(x) for x, _ in data.test_dataloader()] == [4, 1]
    for x, y in data.train_dataloader():
        assert (x.shape, x.dtype, y.dtype) == ((4, 3, 8, 8), torch.float32, torch.int64)


@pytest.mark.parametrize(
    "form", [{}, {"binarize": True}, {"dequantize": True}, {"channels_last": True}, {"grey": True}]
)
def test_streaming_equals_in_memory(pictures: Path, form: dict[str, bool]) -> None:
    def make(in_memory: bool) -> ImageFolder:
        return ImageFolder(str(pictures), image_size=8, batch_size=4, val_size=6, in_memory=in_memory, **form)  # type: ignore[arg-type]

    held, streamed = make(True), make(False)
    loaders = [(data.train_dataloader(), data.val_dataloader(), data.test_dataloader()) for data in (held, streamed)]
    for left, right in zip(*loaders, strict=True):
        for _ in range(2):
            for (x, y), (other, label) in zip(left, right, strict=True):
                assert torch.equal(x, other)
                assert torch.equal(y, label)
    for split in ("train", "val", "test"):
        assert torch.equal(held.images(split)[0], streamed.images(split)[0])


def test_streaming_resumes_in_the_middle_of_an_epoch(pictures: Path) -> None:
    def loader() -> object:
        return ImageFolder(str(pictures), image_size=8, batch_size=4, in_memory=False).train_dataloader()

    whole = [x for x, _ in loader()]  # type: ignore[attr-defined]
    stopped, resumed = loader(), loader()
    batches = iter(stopped)  # type: ignore[call-overload]
    next(batches), next(batches)
    resumed.load_state_dict(stopped.state_dict())  # type: ignore[attr-defined]
    rest = [x for x, _ in resumed]  # type: ignore[attr-defined]
    assert torch.equal(torch.stack(rest), torch.stack(whole[2:]))


def test_streaming_reads_a_little_ahead_and_ends_its_threads(pictures: Path) -> None:
    def decoders() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("decode")}

    opened, before = [], decoders()

    def opener(name: str) -> io.BufferedReader:
        opened.append(name)
        return open(name, "rb")

    names = [str(path) for path in folder.list_pictures(pictures)]
    source = FileSource(names, torch.zeros(30, dtype=torch.int64), (3, 8, 8), opener, threads=2)
    stream = source.stream(torch.arange(30).split(2))
    next(stream)
    assert decoders() - before
    stream.close()
    assert 2 <= len(opened) <= 6
    assert not decoders() - before


def test_the_split_is_seeded_and_complete(pictures: Path) -> None:
    def parts(seed: int) -> list[set[bytes]]:
        data = ImageFolder(str(pictures), image_size=8, val_size=7, test_size=3, seed=seed)
        return [{image.numpy().tobytes() for image in data.images(split)[0]} for split in ("train", "val", "test")]

    first = parts(0)
    assert [len(part) for part in first] == [20, 7, 3]
    assert len(set.union(*first)) == 30
    assert parts(0) == first
    assert parts(1) != first


def test_labels_follow_the_sub_folders(pictures: Path) -> None:
    data = ImageFolder(str(pictures), image_size=10, val_size=0, test_size=0)
    images, labels = data.images("train")
    expected = {}
    for number in range(30):
        square = fitted(picture(number), 10, grey=False)
        expected[np.asarray(square).transpose(2, 0, 1).tobytes()] = number % 3
    assert [expected[image.contiguous().numpy().tobytes()] for image in images] == labels.tolist()


def test_loose_pictures_have_no_classes(pictures: Path) -> None:
    picture(99).save(pictures / "loose.png")
    data = ImageFolder(str(pictures), image_size=8)
    data.setup()
    assert data.spec.num_classes is None
    assert data.images("train")[1].unique().tolist() == [0]
    single = ImageFolder(str(pictures / "cat"), image_size=8)
    single.setup()
    assert single.spec.num_classes is None


def test_hidden_and_other_files_are_passed_over(pictures: Path) -> None:
    (pictures / ".thumbs").mkdir()
    picture(0).save(pictures / ".thumbs/a.png")
    picture(0).save(pictures / ".hidden.png")
    (pictures / "notes.txt").write_text("no picture")
    assert len(folder.list_pictures(pictures)) == 30


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("body", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, in_memory: bool, body: bytes) -> None:
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(body)
    data = ImageFolder(str(tmp_path), image_size=8, batch_size=4, val_size=0, test_size=0, in_memory=in_memory)
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as a picture .* repair it or take it away"):
        list(data.train_dataloader())


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    picture(0, 64, 64).save(tmp_path / "cut.png")
    body = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(body[: len(body) // 2])
    picture(1).save(tmp_path / "whole.png")
    with pytest.raises(ValueError, match=r"cut\.png cannot be read"):
        ImageFolder(str(tmp_path), image_size=8, batch_size=2).setup()


def read(path: Path, channels: int, size: int = 6) -> torch.Tensor:
    source = FileSource([str(path)], torch.zeros(1, dtype=torch.int64), (channels, size, size), folder.open_binary)
    return source.read(0)


def test_every_kind_of_picture_becomes_eight_bit_colour_or_grey(tmp_path: Path) -> None:
    red = Image.new("RGB", (9, 9), (200, 40, 40))
    red.save(tmp_path / "rgb.png")
    red.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    red.convert("RGBA").save(tmp_path / "opaque.png")
    red.save(tmp_path / "animated.gif", save_all=True, append_images=[Image.new("RGB", (9, 9), "blue")])
    for name in ("rgb.png", "palette.png", "opaque.png", "animated.gif"):
        pixels = read(tmp_path / name, 3)
        assert (pixels.shape, pixels.dtype) == ((3, 6, 6), torch.uint8)
        assert (pixels.flatten(1).float().mean(1) - torch.tensor([200.0, 40, 40])).abs().max() <= 3, name
    Image.new("L", (9, 9), 77).save(tmp_path / "grey.png")
    assert read(tmp_path / "grey.png", 3).unique().tolist() == [77]
    assert read(tmp_path / "grey.png", 1).shape == (1, 6, 6)
    Image.fromarray(np.full((9, 9), 77 * 256, np.uint16)).save(tmp_path / "deep.png")
    assert read(tmp_path / "deep.png", 1).unique().tolist() == [77]
    Image.new("1", (9, 9), 1).save(tmp_path / "bits.png")
    assert read(tmp_path / "bits.png", 1).unique().tolist() == [255]


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read(tmp_path / "clear.png", 3).unique().tolist() == [255]
    half = Image.new("LA", (8, 8), (0, 128))
    half.save(tmp_path / "half.png")
    assert read(tmp_path / "half.png", 1).unique().tolist() == [127]


def test_the_cameras_rotation_is_applied(tmp_path: Path) -> None:
    values = np.zeros((16, 16), np.uint8)
    values[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(values).save(tmp_path / "turned.png", exif=exif)
    pixels = read(tmp_path / "turned.png", 1, 16)
    assert pixels[0, :7].max() == 0
    assert pixels[0, 9:].min() == 255


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 40), (40, 3)])
def test_pictures_of_any_shape_are_cut_to_their_central_square(width: int, height: int) -> None:
    values = np.zeros((height, width), np.uint8)
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    values[top : top + side, left : left + side] = 200
    result = fitted(Image.fromarray(values), 6, grey=True)
    assert result.size == (6, 6)
    assert set(np.asarray(result).flatten().tolist()) == {200}


def test_arguments_and_folders_that_cannot_work_are_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "splits/train").mkdir(parents=True)
    (tmp_path / "splits/test").mkdir()
    picture(0).save(tmp_path / "splits/train/a.png")
    picture(1).save(tmp_path / "splits/test/b.png")
    for place, arguments, message in (
        (tmp_path / "nowhere", {}, "nowhere' is not a folder"),
        (tmp_path / "empty", {}, "empty has no pictures: expected files ending in .png"),
        (tmp_path / "splits", {}, "test, train, which are splits and no classes"),
        (pictures, {"val_size": 20, "test_size": 10}, "val_size=20 and test_size=10 leave nothing to train on: .* 30"),
        (pictures, {"image_size": 0}, "image_size=0"),
        (pictures, {"test_size": -1}, "test_size=-1"),
        (pictures, {"val_size": -1}, "val_size=-1"),
        (pictures, {"batch_size": 25}, "batch_size=25 needs at least 25 training examples, but there are 24"),
    ):
        with pytest.raises(ValueError, match=message):
            ImageFolder(str(place), **arguments).train_dataloader()  # type: ignore[arg-type]


def test_a_folder_too_large_for_memory_says_so(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MEMORY_LIMIT", 30 * 3 * 8 * 8 - 1)
    with pytest.raises(ValueError, match="pass in_memory=False or a smaller image_size"):
        ImageFolder(str(pictures), image_size=8).setup()
    ImageFolder(str(pictures), image_size=8, in_memory=False).setup()


def faces(place: Path, monkeypatch: pytest.MonkeyPatch, partition: str | None = None) -> list[np.ndarray]:
    """Writes a small archive that passes for CelebA's; returns the pixels as stored."""
    place.mkdir()
    stored, lines = [], []
    with ZipFile(place / "img_align_celeba.zip", "w") as archive:
        for number in range(20):
            buffer = io.BytesIO()
            picture(number, 178, 218).resize((178, 218)).save(buffer, "JPEG", quality=90)
            archive.writestr(f"img_align_celeba/{number:06}.jpg", buffer.getvalue())
            stored.append(np.asarray(Image.open(buffer)))
            lines.append(f"{number:06}.jpg {0 if number < 12 else 1 if number < 17 else 2}\n")
    (place / "list_eval_partition.txt").write_text("".join(lines) if partition is None else partition)
    files = []
    for name in ("img_align_celeba.zip", "list_eval_partition.txt"):
        body = (place / name).read_bytes()
        files.append(PublicFile(name, len(body), hashlib.sha256(body).hexdigest()))
    monkeypatch.setattr(celeba, "CELEBA", PublicDataset("CelebA", ("celeba",), tuple(files), instructions="By hand"))
    return stored


@pytest.mark.parametrize("in_memory", [True, False])
def test_celeba_is_cut_to_148_and_split_as_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    stored = faces(tmp_path / "data", monkeypatch)
    data = CelebA(str(tmp_path / "data"), batch_size=4, val_size=3, image_size=148, in_memory=in_memory)
    train, test = data.images("train")[0], data.images("test")[0]
    assert (len(train), len(data.images("val")[0]), len(test)) == (12, 3, 3)
    for image, pixels in zip([*train, *test], [*stored[:12], *stored[17:]], strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels[35:183, 15:163])
    assert next(iter(data.train_dataloader()))[0].shape == (4, 3, 148, 148)
    assert CelebA().spec.shape == (3, 64, 64)


def test_celeba_refuses_what_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces(tmp_path / "data", monkeypatch)
    with pytest.raises(ValueError, match="val_size=6 is more than the 5 validation pictures"):
        CelebA(str(tmp_path / "data"), val_size=6).setup()
    faces(tmp_path / "other", monkeypatch, partition="999999.jpg 0\n")
    with pytest.raises(ValueError, match="has no such picture"):
        CelebA(str(tmp_path / "other"), val_size=0).setup()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataNotFoundError, match="By hand; or Put"):
        CelebA(str(tmp_path / "nowhere")).setup()
