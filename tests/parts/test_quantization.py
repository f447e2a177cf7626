"""From real numbers to grey levels: clamped, rounded, and refused where they are not finite."""

import pytest
import torch

from lightning_modules.parts.quantization import to_uint8


def test_images_are_clamped_rounded_and_checked() -> None:
    levels = torch.arange(256)
    assert torch.equal(to_uint8(levels / 127.5 - 1, (-1, 1)), levels.to(torch.uint8))
    assert torch.equal(to_uint8(levels / 255, (0, 1)), levels.to(torch.uint8))
    beyond = torch.tensor([-5.0, -1.004, 1.004, 5.0, 0.999, -0.999])
    assert to_uint8(beyond, (-1, 1)).tolist() == [0, 0, 255, 255, 255, 0]
    for value in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match=r"^1\b.*\b2\b"):
            to_uint8(torch.tensor([0.0, value]), (-1, 1))
