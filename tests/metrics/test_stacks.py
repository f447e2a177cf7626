import math

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.metrics.stacks import stack_coverage, stacked_classes


class Brightness(nn.Module):
    """Names an image by its first pixel."""

    extractor_name, num_features = "brightness", 1

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        digits = images[:, 0, 0, 0].long()
        return digits[:, None].float(), torch.nn.functional.one_hot(digits, 10).float()


def test_the_class_of_a_stack_has_one_digit_per_channel() -> None:
    images = torch.zeros(600, 3, 2, 2, dtype=torch.uint8)
    digits = torch.arange(600) % 1000
    images[:, 0, 0, 0], images[:, 1, 0, 0], images[:, 2, 0, 0] = digits // 100, digits // 10 % 10, digits % 10
    assert torch.equal(stacked_classes(Brightness(), images), digits)


def test_coverage_against_sums_by_hand() -> None:
    reference = torch.tensor([0, 0, 1, 2])
    assert stack_coverage(reference, reference) == (3, 0.0)
    modes, kl = stack_coverage(torch.tensor([0, 0, 0, 1]), reference)
    assert modes == 2
    assert kl == pytest.approx(0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.25))


def test_a_class_that_no_real_stack_has_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 stacks are of classes that none of 1 real stacks has"):
        stack_coverage(torch.tensor([0, 7]), torch.tensor([0]))
    with pytest.raises(ValueError, match="There are 0 stacks"):
        stack_coverage(torch.tensor([], dtype=torch.int64), torch.tensor([0]))
    for wrong in (-1, 1000):
        with pytest.raises(ValueError, match=f"0 to 999.*{wrong}"):
            stack_coverage(torch.tensor([wrong, 5]), torch.tensor([5]))
    with pytest.raises(ValueError, match="three channels|Expected stacks"):
        stacked_classes(Brightness(), torch.zeros(2, 1, 2, 2, dtype=torch.uint8))
