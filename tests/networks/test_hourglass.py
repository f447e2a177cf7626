"""The hourglass keeps the size of any image, and has the paper's number of parameters."""

import pytest
import torch

from lightning_modules.networks.hourglass import Hourglass


@pytest.mark.parametrize("settings", [{}, {"skip_width": 0}, {"upsampling": "nearest", "depth": 4}])
@pytest.mark.parametrize("size", [(64, 64), (70, 97)])
def test_images_have_the_size_of_the_code_and_every_weight_a_gradient(
    settings: dict[str, int], size: tuple[int, int]
) -> None:
    network = Hourglass(in_channels=3, width=6, **settings)  # type: ignore[arg-type]
    y = network(torch.rand(2, 3, *size))
    assert y.shape == (2, 3, *size)
    assert y.abs().max() < 1
    y.square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_the_paper_has_two_million_weights() -> None:
    """Each of five levels: two 3x3 convolutions down, one 3x3 and one 1x1 up, one 1x1 past them, and their norms."""
    width, skip, code = 128, 4, 32
    expected = 3 * width + 3
    for inputs in (code, *4 * [width]):
        down = 9 * inputs * width + width + 9 * width * width + width
        up = 9 * (width + skip) * width + width + width * width + width
        norms = 2 * (4 * width + (width + skip) + skip)
        expected += down + up + norms + inputs * skip + skip
    assert sum(p.numel() for p in Hourglass().parameters()) == expected
    assert 2.1e6 < expected < 2.3e6


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"width": 0}, {"in_channels": 0}, {"skip_width": -1}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Hourglass(**wrong)  # type: ignore[arg-type]
