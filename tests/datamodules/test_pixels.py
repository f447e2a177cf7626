"""The maths of what is yielded: scaling, binarisation, dequantisation. Bounds are exact; means have error rates."""

import math

import pytest
import torch

from datamodules import SyntheticImages
from datamodules.pixels import Pixels, as_pixels

ALL_VALUES = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


def test_scaling_maps_the_ends_exactly_and_is_linear() -> None:
    x = Pixels()(ALL_VALUES)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (-1, 1)
    torch.testing.assert_close(x.double().flatten(), torch.linspace(-1, 1, 256, dtype=torch.float64), atol=1e-7, rtol=0)
    assert torch.equal(x.add(1).mul(127.5).round().to(torch.uint8), ALL_VALUES)


def test_a_binarised_pixel_is_one_with_its_intensity_as_probability() -> None:
    """One of 256 means leaves 6 standard errors by chance with probability below 1e-6."""
    draws = 20_000
    pixels = ALL_VALUES.expand(draws, -1, -1, -1)
    generator = torch.Generator().manual_seed(0)
    x = Pixels(binarize=True)(pixels, torch.rand(pixels.shape, generator=generator))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    probability = ALL_VALUES.double() / 255
    error = (probability * (1 - probability) / draws).sqrt()
    assert ((x.double().mean(0, keepdim=True) - probability).abs() <= 6 * error).all()
    assert x[:, 0, 0, 0].max() == 0
    assert x[:, 0, -1, -1].min() == 1


def test_dequantised_values_fill_their_own_bin_and_no_other() -> None:
    """A bin's mean leaves 6 standard errors by chance with probability below 1e-6 over all bins."""
    draws = 5_000
    pixels = ALL_VALUES.expand(draws, -1, -1, -1)
    x = Pixels(dequantize=True)(pixels, torch.rand(pixels.shape, generator=torch.Generator().manual_seed(0)))
    low = 2 * ALL_VALUES.double() / 256 - 1
    assert (x >= low - 1e-7).all()
    assert (x <= low + 2 / 256 + 1e-7).all()
    error = 2 / 256 / math.sqrt(12 * draws)
    assert ((x.double().mean(0) - (low + 1 / 256)).abs() <= 6 * error).all()


def test_channels_last_changes_the_layout_alone() -> None:
    pixels = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    noise = torch.rand(4, 3, 8, 8)
    for form in ({}, {"binarize": True}, {"dequantize": True}):
        plain = Pixels(**form)(pixels, noise if form else None)
        last = Pixels(**form, channels_last=True)(pixels, noise if form else None)
        assert torch.equal(plain, last)
        assert plain.is_contiguous()
        assert last.is_contiguous(memory_format=torch.channels_last)


def test_the_stored_pixels_are_not_changed() -> None:
    data = SyntheticImages(size=64, val_size=8, test_size=8, batch_size=8, dequantize=True)
    before = data.images("train")[0].clone()
    list(data.train_dataloader())
    assert torch.equal(data.images("train")[0], before)


def test_binarised_draws_are_fresh_in_training_and_fixed_in_evaluation() -> None:
    data = SyntheticImages(shape=[1, 8, 8], size=64, val_size=20, test_size=20, batch_size=8, binarize=True)
    assert data.spec.value_range == (0.0, 1.0)
    assert data.spec.preprocessing == "binarized"
    loader = data.train_dataloader()
    means = torch.stack([torch.cat([x for x, _ in loader]).mean() for _ in range(3)])
    assert len(means.unique()) == 3
    for split, loader_of in (("val", data.val_dataloader), ("test", data.test_dataloader)):
        first = torch.cat([x for x, _ in loader_of()])
        assert torch.equal(first, torch.cat([x for x, _ in loader_of()]))
        assert torch.equal(data.images(split)[0], (first * 255).to(torch.uint8))
    assert not torch.equal(data.images("val")[0], data.images("test")[0])
    assert set(data.images("train")[0].unique().tolist()) == {0, 255}


def test_fixed_draws_do_not_depend_on_the_batch_size() -> None:
    def evaluated(batch_size: int) -> torch.Tensor:
        data = SyntheticImages(shape=[1, 8, 8], size=64, val_size=50, batch_size=batch_size, dequantize=True)
        return torch.cat([x for x, _ in data.val_dataloader()])

    assert torch.equal(evaluated(7), evaluated(50))


def test_both_forms_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        SyntheticImages(binarize=True, dequantize=True)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 4, 4), r"expected pictures \(N, 1, H, W\), got shape \(2, 3, 4, 4\)"),
        (torch.zeros(2, 4, 4), "expected pictures"),
        (torch.zeros(0, 1, 4, 4), "no pictures"),
        (torch.full((1, 1, 2, 2), float("nan")), "NaN"),
        (torch.full((1, 1, 2, 2), float("inf")), "NaN or infinity"),
        (torch.full((1, 1, 2, 2), 256.0), r"in 0..255, got 256..256"),
        (torch.full((1, 1, 2, 2), -1), r"in 0..255, got -1..-1"),
        (torch.full((1, 1, 2, 2), 0.5), r"in 0..255, got 0.5..0.5"),
    ],
)
def test_what_is_no_picture_is_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_pixels(images, 1, "data")


def test_whole_numbers_of_other_types_are_pixels() -> None:
    values = torch.tensor([0.0, 7.0, 255.0]).reshape(1, 1, 1, 3)
    assert as_pixels(values.double(), 1, "data").flatten().tolist() == [0, 7, 255]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": [2, 8, 8]}, r"shape=\[2, 8, 8\]"),
        ({"shape": [1, 8]}, r"shape=\[1, 8\]"),
        ({"size": 0}, "size=0"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"val_size": -1}, "val_size=-1"),
        ({"test_size": -1}, "test_size=-1"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticImages(**arguments)  # type: ignore[arg-type]


def test_synthetic_pictures_have_structure() -> None:
    """Neighbouring pixels are alike and the classes differ: no noise."""
    images, labels = SyntheticImages(shape=[3, 16, 16], num_classes=4).images("train")
    x = images.double() / 255
    assert (x.diff(dim=-1).abs().mean() < 0.5 * (x - x.flip(0)).abs().mean()).item()
    means = torch.stack([x[labels == label].mean(0) for label in range(4)])
    assert torch.cdist(means.flatten(1), means.flatten(1)).fill_diagonal_(9).min() > 0.5
    assert set(labels.tolist()) == {0, 1, 2, 3}
    assert SyntheticImages().images("train")[1].unique().tolist() == [0]


def test_binarized_gives_the_bits_that_the_argument_gives() -> None:
    settings = {"shape": [1, 8, 8], "num_classes": 2, "size": 20, "val_size": 4, "test_size": 6, "batch_size": 6}
    plain, bits = SyntheticImages(**settings), SyntheticImages(**settings, binarize=True)
    plain.setup()
    bits.setup()
    assert plain.binarized().spec == bits.spec
    assert torch.equal(plain.binarized().images("test")[0], bits.images("test")[0])
    assert plain.spec.value_range == (-1.0, 1.0)
