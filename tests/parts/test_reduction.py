"""The reduction that gradients flow through is the one that Pillow makes."""

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_modules.parts.reduction import coarser, lanczos_matrix


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_it_is_that_of_pillow(factor: int) -> None:
    values = np.random.default_rng(0).normal(size=(6 * factor, 5 * factor)).astype(np.float32)
    expected = np.array(Image.fromarray(values).resize((5, 6), Image.Resampling.LANCZOS))
    found = lanczos_matrix(6 * factor, factor) @ torch.from_numpy(values) @ lanczos_matrix(5 * factor, factor).T
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)


def test_a_length_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(ValueError, match="length=10 must be a multiple of factor=4"):
        lanczos_matrix(10, 4)


def test_sizes_are_halved() -> None:
    assert [coarser((200, 131), halvings) for halvings in range(4)] == [(200, 131), (100, 66), (50, 33), (25, 16)]
    assert coarser((3, 1), 5) == (1, 1)
