"""CelebA from a small archive: the crop, the published splits, and archives that do not fit."""

from pathlib import Path

import numpy as np
import pytest

from datamodules import CelebA, DataNotFoundError
from datamodules.images import celeba
from tests.datamodules.small_data import celeba_files, described, written


def small_celeba(folder: Path, monkeypatch: pytest.MonkeyPatch, partition: str | None = None) -> list[np.ndarray]:
    """Writes a small archive that passes for CelebA's; returns the pixels as stored."""
    files, stored = celeba_files(partition)
    written(folder, files)
    monkeypatch.setattr(celeba, "CELEBA", described("CelebA", files))
    return stored


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_are_cropped_to_148_pixels_and_split_as_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    stored = small_celeba(tmp_path / "data", monkeypatch)
    data = CelebA(str(tmp_path / "data"), batch_size=4, val_size=3, image_size=148, in_memory=in_memory)
    train, test = data.images("train")[0], data.images("test")[0]
    assert (len(train), len(data.images("val")[0]), len(test)) == (12, 3, 3)
    for image, pixels in zip([*train, *test], [*stored[:12], *stored[17:]], strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels[35:183, 15:163])
    assert next(iter(data.train_dataloader())).x.shape == (4, 3, 148, 148)
    assert CelebA().spec.shape == (3, 64, 64)


def test_files_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_celeba(tmp_path / "data", monkeypatch)
    with pytest.raises(ValueError, match=r"val_size=6 .*\b5\b"):
        CelebA(str(tmp_path / "data"), val_size=6).setup()
    small_celeba(tmp_path / "other", monkeypatch, partition="999999.jpg 0\n")
    with pytest.raises(ValueError, match=r"list_eval_partition\.txt .*'999999\.jpg 0'.*img_align_celeba\.zip"):
        CelebA(str(tmp_path / "other"), val_size=0).setup()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataNotFoundError, match="By hand.*data_dir"):
        CelebA(str(tmp_path / "nowhere")).setup()
