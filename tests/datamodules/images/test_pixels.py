"""Conversion of pixels: scaling, binarization, dequantization. Bounds are exact; means have a false-alarm rate."""

import math

import pytest
import torch

from datamodules import SyntheticImages
from datamodules.images.pixels import Pixels, as_pixels

ALL_VALUES = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


def test_scaling_maps_the_ends_exactly_and_is_linear() -> None:
    x = Pixels()(ALL_VALUES)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (-1, 1)
    torch.testing.assert_close(x.double().flatten(), torch.linspace(-1, 1, 256, dtype=torch.float64), atol=1e-7, rtol=0)
    assert torch.equal(x.add(1).mul(127.5).round().to(torch.uint8), ALL_VALUES)


def test_a_binarized_pixel_is_one_with_its_intensity_as_probability() -> None:
    """One of 256 means is outside 6 standard errors by chance with probability below 1e-6."""
    num_samples = 20_000
    pixels = ALL_VALUES.expand(num_samples, -1, -1, -1)
    generator = torch.Generator().manual_seed(0)
    x = Pixels(binarize=True)(pixels, torch.rand(pixels.shape, generator=generator))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    probability = ALL_VALUES.double() / 255
    error = (probability * (1 - probability) / num_samples).sqrt()
    assert ((x.double().mean(0, keepdim=True) - probability).abs() <= 6 * error).all()
    assert x[:, 0, 0, 0].max() == 0
    assert x[:, 0, -1, -1].min() == 1


def test_dequantized_values_fill_their_own_bin_and_no_other() -> None:
    """The mean of some bin is outside 6 standard errors by chance with probability below 1e-6."""
    num_samples = 5_000
    pixels = ALL_VALUES.expand(num_samples, -1, -1, -1)
    x = Pixels(dequantize=True)(pixels, torch.rand(pixels.shape, generator=torch.Generator().manual_seed(0)))
    low = 2 * ALL_VALUES.double() / 256 - 1
    assert (x >= low - 1e-7).all()
    assert (x <= low + 2 / 256 + 1e-7).all()
    error = 2 / 256 / math.sqrt(12 * num_samples)
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


def test_both_forms_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="binarize=True .*dequantize=True"):
        SyntheticImages(binarize=True, dequantize=True)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 4, 4), r"data: .*\(N, 1, H, W\).*\(2, 3, 4, 4\)"),
        (torch.zeros(2, 4, 4), r"data: .*\(N, 1, H, W\).*\(2, 4, 4\)"),
        (torch.zeros(0, 1, 4, 4), r"data: .*\b0 "),
        (torch.full((1, 1, 2, 2), float("nan")), "NaN"),
        (torch.full((1, 1, 2, 2), float("inf")), "infinity"),
        (torch.full((1, 1, 2, 2), 256.0), r"0\.\.255.*256\.\.256"),
        (torch.full((1, 1, 2, 2), -1), r"0\.\.255.*-1\.\.-1"),
        (torch.full((1, 1, 2, 2), 0.5), r"0\.\.255.*0\.5\.\.0\.5"),
    ],
)
def test_what_is_not_an_image_is_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_pixels(images, 1, "data")


def test_whole_numbers_of_other_types_are_pixels() -> None:
    values = torch.tensor([0.0, 7.0, 255.0]).reshape(1, 1, 1, 3)
    assert as_pixels(values.double(), 1, "data").flatten().tolist() == [0, 7, 255]
