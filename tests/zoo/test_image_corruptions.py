"""Corruptions of images: none at strength 0, and what each does to images of which it is known."""

import math

import pytest
import torch
from torch import Generator

from zoo.studies.image_corruptions import blurred, mixed, noisy, salted, swirled, with_rectangles

IMAGES = torch.randint(256, (40, 1, 28, 28), dtype=torch.uint8, generator=Generator().manual_seed(0))


@pytest.mark.parametrize("corrupt", [noisy, blurred, with_rectangles, swirled, salted])
def test_strength_zero_leaves_images_as_they_are(corrupt) -> None:
    result = corrupt(IMAGES, 0.0, Generator().manual_seed(0))
    assert result.dtype == torch.uint8
    assert torch.equal(result, IMAGES)


def test_noise_has_the_share_of_the_range_that_it_is_given() -> None:
    result = noisy(torch.full_like(IMAGES, 100), 0.5, Generator().manual_seed(0)).double()
    assert result.min() == 50  # 0.5 * 100 + 0.5 * 0
    assert result.max() == 178  # 0.5 * 100 + 0.5 * 255, rounded to even
    assert (noisy(IMAGES, 1.0, Generator().manual_seed(0)).double().mean() - 127.5).abs() < 10


def test_blur_keeps_the_mean_and_has_the_variance_of_its_kernel() -> None:
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 10:18, 10:18] = 200
    result = blurred(image, 1.5, Generator()).double()[0, 0]
    assert result.sum() == pytest.approx(image.sum().item(), rel=0.02)  # rounding
    place, weights = torch.arange(28) - 13.5, result.sum(0) / result.sum()
    box = (8**2 - 1) / 12
    assert (weights * place.square()).sum() == pytest.approx(box + 1.5**2, rel=0.05)


def test_five_black_squares() -> None:
    white = torch.full((200, 1, 28, 28), 255, dtype=torch.uint8)
    black = (with_rectangles(white, 0.25, Generator().manual_seed(0)) == 0).flatten(1).sum(1)
    assert black.min() >= 49  # side 7
    assert black.max() <= 5 * 49
    assert black.max() > 4 * 49
    assert torch.equal(with_rectangles(white, 1.0, Generator()), torch.zeros_like(white))


def test_a_swirl_turns_the_centre_and_leaves_what_is_far() -> None:
    side, centre = 29, 14
    image = torch.zeros(1, 1, side, side, dtype=torch.uint8)
    image[0, 0, centre, centre + 1] = 255  # one pixel beside the centre
    turned = swirled(image, math.pi / math.exp(-5 / (22 * math.log(2))), Generator())[0, 0]
    assert turned[centre, centre - 1] > 200
    assert turned[centre, centre + 1] < 30
    far = torch.randint(256, (1, 1, 201, 201), dtype=torch.uint8)
    assert torch.equal(swirled(far, 1.0, Generator())[0, 0, :5, :5], far[0, 0, :5, :5])


def test_salt_and_pepper_have_their_shares() -> None:
    grey = torch.full((50, 3, 28, 28), 100, dtype=torch.uint8)
    result = salted(grey, 0.3, Generator().manual_seed(0))
    assert torch.equal(result[:, 0], result[:, 1])
    for value, share in ((0, 0.15), (100, 0.7), (255, 0.15)):
        found = (result[:, 0] == value).double().mean().item()
        assert found == pytest.approx(share, abs=5 * (share * (1 - share) / (50 * 28**2)) ** 0.5)  # 1 in 10^6


def test_a_share_of_images_is_replaced() -> None:
    others = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    result = mixed(IMAGES, 0.25, others)
    assert torch.equal(result[:10], others[:10])
    assert torch.equal(result[10:], IMAGES[10:])
    with pytest.raises(ValueError, match="30 images are to be replaced, but there are 20 others"):
        mixed(IMAGES, 0.75, others)
