"""One image in every batch: undamaged, noisy, masked or reduced, always the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import SingleImage
from datamodules.spec import Batch
from tests.datamodules.small_data import random_image


@pytest.fixture
def path(tmp_path: Path) -> str:
    random_image(0, width=64, height=48).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def first_batch(data: SingleImage) -> Batch:
    data.setup("fit")
    return next(iter(data.train_dataloader()))


def test_every_batch_has_the_image(path: str) -> None:
    data = SingleImage(path, steps_per_epoch=3)
    assert data.spec.shape == (3, 48, 64)
    assert data.spec.name == "photo"
    data.setup("fit")
    batches = list(data.train_dataloader())
    expected = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 127.5 - 1
    assert len(batches) == 3
    for batch in [*batches, *data.val_dataloader()]:
        torch.testing.assert_close(batch.x, expected[None])
        assert batch.mask is batch.target is None


def test_noise_has_the_level_that_was_asked_for_and_is_clipped_to_8_bits(tmp_path: Path) -> None:
    Image.new("RGB", (128, 128), (128, 128, 128)).save(tmp_path / "grey.png")
    batch = first_batch(SingleImage(str(tmp_path / "grey.png"), noise=25))
    assert batch.target is not None
    difference = 127.5 * (batch.x - batch.target)
    # 49 152 normal numbers: the standard deviation lies within five standard errors, 5 * 25 / sqrt(2 * 49152) = 0.4.
    assert abs(float(difference.std()) - 25) < 0.4
    assert (difference - difference.round()).abs().max() < 1e-4
    again, other = (first_batch(SingleImage(str(tmp_path / "grey.png"), noise=25, seed=seed)) for seed in (0, 1))
    assert torch.equal(again.x, batch.x)
    assert not torch.equal(other.x, batch.x)


def test_a_noisy_grey_image_is_grey(path: str, tmp_path: Path) -> None:
    Image.open(path).convert("L").save(tmp_path / "grey.png")
    batch = first_batch(SingleImage(str(tmp_path / "grey.png"), noise=25))
    assert torch.equal(batch.x, batch.x[:, :1].expand(-1, 3, -1, -1))
    assert batch.target is not None
    assert not torch.equal(batch.x, batch.target)


def test_files_may_be_paths_and_are_kept_as_text(path: str) -> None:
    data: Any = SingleImage(Path(path), styles=[Path(path)], mask=Path(path))  # type: ignore[arg-type, list-item]
    assert (data.hparams["path"], data.hparams["styles"], data.hparams["mask"]) == (path, [path], path)
    assert SingleImage(path).hparams["mask"] is None


def test_a_mask_hides_its_black_pixels(path: str, tmp_path: Path) -> None:
    mask = Image.new("L", (64, 48), 255)
    mask.paste(0, (10, 5, 30, 20))
    mask.save(tmp_path / "mask.png")
    batch = first_batch(SingleImage(path, mask=str(tmp_path / "mask.png")))
    assert batch.mask is not None
    assert batch.target is not None
    hidden = torch.zeros(1, 1, 48, 64, dtype=torch.bool)
    hidden[..., 5:20, 10:30] = True
    assert torch.equal(batch.mask == 0, hidden)
    assert batch.x[hidden.expand_as(batch.x)].unique().numel() == 1
    assert torch.equal(batch.x[~hidden.expand_as(batch.x)], batch.target[~hidden.expand_as(batch.x)])
    inverted = first_batch(SingleImage(path, mask=str(tmp_path / "mask.png"), invert_mask=True))
    assert inverted.mask is not None
    assert torch.equal(inverted.mask, 1 - batch.mask)


def test_reduction_is_lanczos_after_cropping_to_a_multiple(tmp_path: Path) -> None:
    image = random_image(1, width=66, height=49)
    image.save(tmp_path / "photo.png")
    data = SingleImage(str(tmp_path / "photo.png"), scale=4)
    assert data.spec.shape == (3, 12, 16)
    batch = first_batch(data)
    whole = image.crop((1, 0, 65, 48))
    expected = np.array(whole.resize((16, 12), Image.Resampling.LANCZOS))
    assert np.array_equal((127.5 * (batch.x[0] + 1)).round().byte().permute(1, 2, 0).numpy(), expected)
    assert batch.target is not None
    assert batch.target.shape == (1, 3, 48, 64)
    assert np.array_equal((127.5 * (batch.target[0] + 1)).round().byte().permute(1, 2, 0).numpy(), np.array(whole))


def test_the_longer_side_is_resized(path: str) -> None:
    data = SingleImage(path, size=32)
    assert data.spec.shape == (3, 24, 32)
    assert first_batch(data).x.shape == (1, 3, 24, 32)


def test_styles_are_read_in_their_own_size(path: str, tmp_path: Path) -> None:
    random_image(2, width=20, height=40).save(tmp_path / "style.png")
    data = SingleImage(path, styles=[str(tmp_path / "style.png"), path], style_size=30)
    assert [tuple(style.shape) for style in data.style_images()] == [(1, 3, 30, 15), (1, 3, 22, 30)]
    assert SingleImage(path).style_images() == []


def test_a_mask_of_another_size_is_refused_with_both(path: str, tmp_path: Path) -> None:
    Image.new("L", (48, 64), 255).save(tmp_path / "mask.png")
    mask = Image.new("L", (48, 64), 255)
    mask.putpixel((0, 0), 0)
    mask.save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"mask\.png has 48 x 64 pixels.*photo\.png has 64 x 48"):
        SingleImage(path, mask=str(tmp_path / "mask.png")).setup("fit")


def test_a_mask_that_leaves_nothing_at_a_smaller_size_is_refused(path: str, tmp_path: Path) -> None:
    stripes = np.full((48, 64), 255, np.uint8)
    stripes[:, ::2] = 0
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    SingleImage(path, mask=str(tmp_path / "stripes.png")).setup("fit")
    with pytest.raises(ValueError, match=r"stripes\.png leaves nothing to keep at size=32: no pixel of 32 x 24"):
        SingleImage(path, size=32, mask=str(tmp_path / "stripes.png")).setup("fit")


def test_a_small_hole_stays_one_at_a_smaller_size(path: str, tmp_path: Path) -> None:
    mask = Image.new("L", (64, 48), 255)
    mask.putpixel((33, 20), 0)
    mask.save(tmp_path / "mask.png")
    batch = first_batch(SingleImage(path, size=8, mask=str(tmp_path / "mask.png")))
    assert batch.mask is not None
    assert (batch.mask == 0).nonzero().tolist() == [[0, 0, 2, 4]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"style_size": -1}, "style_size=-1"),
        ({"noise": -1.0}, r"noise=-1\.0"),
        ({"noise": float("nan")}, "noise=nan"),
        ({"scale": 0}, "scale=0"),
        ({"styles": "style.png"}, r"styles='style\.png' must be a list, such as"),
        ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
        ({"steps_per_epoch": 2, "batch_size": 3}, "steps_per_epoch=2.*batch_size=3"),
        ({"scale": 2, "mask": "m.png"}, r"mask='m\.png' and scale=2 exclude"),
    ],
)
def test_arguments_out_of_range_are_refused(settings: dict[str, Any], message: str, path: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleImage(path, **settings)


def test_an_image_smaller_than_the_factor_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="scale=50 is larger than the image, which has 64 x 48"):
        _ = SingleImage(path, scale=50).spec
