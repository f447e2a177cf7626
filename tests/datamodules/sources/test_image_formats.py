"""Readers of the files of image data sets, on small files written here."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from datamodules.sources.formats import read_cifar_binary, read_idx, read_svhn
from tests.datamodules.small_data import TRAIN, cifar_files, idx, random_images, svhn_files, written


def test_idx_files_are_read_compressed_and_plain(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    (tmp_path / "plain").write_bytes(idx(values))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(values)))
    for name in ("plain", "packed.gz"):
        result = read_idx(tmp_path / name)
        assert result.dtype == torch.uint8
        assert torch.equal(result, torch.from_numpy(values).to(torch.uint8))


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00\x00", b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", idx(np.zeros((2, 3)))[:-1], idx(np.zeros(4)) + b"0"],
)
def test_files_that_are_not_idx_are_named(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "strange").write_bytes(body)
    with pytest.raises(ValueError, match="strange"):
        read_idx(tmp_path / "strange")


def test_cifar_is_read_in_order(tmp_path: Path) -> None:
    written(tmp_path, cifar_files())
    splits = read_cifar_binary(tmp_path / "cifar-10-binary.tar.gz")
    images, labels = random_images(30, 3, 32, 32)
    assert torch.equal(splits["train"][0], torch.from_numpy(images[:25]))
    assert torch.equal(splits["test"][0], torch.from_numpy(images[25:]))
    assert splits["train"][1].tolist() + splits["test"][1].tolist() == labels.tolist()


@pytest.mark.parametrize(("name", "body"), [("data_batch_9.bin", b""), ("test_batch.bin", b"short")])
def test_an_incomplete_cifar_archive_is_named(tmp_path: Path, name: str, body: bytes) -> None:
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        names = [f"data_batch_{number}.bin" for number in range(1, 6)] if body else []
        for entry, content in ((name, body), *((entry, b"\x00" * 3073) for entry in names)):
            member = tarfile.TarInfo(entry)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(ValueError, match=r"c\.tar\.gz .*data_batch_1\.bin|test_batch\.bin in .*c\.tar\.gz .*\b5 bytes"):
        read_cifar_binary(tmp_path / "c.tar.gz")


def test_svhn_is_read_with_ten_as_zero(tmp_path: Path) -> None:
    written(tmp_path, svhn_files())
    images, labels = read_svhn(tmp_path / "train_32x32.mat")
    expected, digits = random_images(TRAIN, 32, 32, 3)
    assert torch.equal(images, torch.from_numpy(expected).permute(0, 3, 1, 2))
    assert labels.tolist() == digits.tolist()


@pytest.mark.parametrize("content", [{"z": np.zeros(2)}, {"X": np.zeros((32, 32, 3, 4)), "y": np.zeros(3)}])
def test_other_matlab_files_are_named(tmp_path: Path, content: dict[str, np.ndarray]) -> None:
    savemat(tmp_path / "other.mat", content)
    with pytest.raises(ValueError, match=r"other\.mat .*(X and y|\(32, 32, 3, 4\) .*\b3 labels)"):
        read_svhn(tmp_path / "other.mat")
