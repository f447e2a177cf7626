"""Held-out likelihood: the same number whatever the batch size, each example once, named by its kind."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Generator, Tensor

from datamodules import SyntheticImages
from datamodules.spec import Batch
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.parts.noise import fixed_normal


class Toy(LikelihoodModule):
    """-log p is the sum of the pixels; the bound is a random number of its own for every example."""

    discrete = True

    def __init__(self, shape: tuple[int, ...] = (1, 8, 8), num_tested: int | None = None) -> None:
        super().__init__(num_tested)
        self.save_hyperparameters()

    def negative_log_likelihood(self, batch: Batch, indices: Tensor, stage: str) -> dict[str, Tensor]:
        return {"exact": batch.x.flatten(1).sum(1), "upper_bound_k1": fixed_normal(indices, 2).sum(1)}

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        raise NotImplementedError


def run_test(module: LikelihoodModule, **settings: Any) -> tuple[dict[str, float], Tensor]:
    """Returns what is measured on 50 test images, and these images."""
    data = SyntheticImages(shape=[1, 8, 8], num_classes=2, size=64, val_size=16, test_size=50, **settings)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    (measured,) = trainer.test(module, data, verbose=False)
    pixels = data.images("test")[0]
    return dict(measured), pixels if data.transform is None else data.transform(pixels)


@pytest.mark.parametrize("batch_size", [7, 16, 50])
def test_mean_and_standard_error_over_the_split(batch_size: int) -> None:
    measured, x = run_test(Toy(), batch_size=batch_size)
    nll = x.flatten(1).sum(1).double()
    assert measured["test/nll-exact"] == pytest.approx(nll.mean().item(), rel=1e-5)
    assert measured["test/nll_standard_error-exact"] == pytest.approx((nll.std() / math.sqrt(50)).item(), rel=1e-5)
    assert measured["test/bits_per_dim-exact"] == pytest.approx(nll.mean().item() / 64 / math.log(2), rel=1e-5)
    bound = fixed_normal(torch.arange(50), 2).sum(1).mean().item()
    assert measured["test/nll-upper_bound_k1"] == pytest.approx(bound, rel=1e-5)


def test_a_part_of_the_split_is_named_so() -> None:
    measured, x = run_test(Toy(num_tested=20), batch_size=7)
    assert measured["test/nll-exact-20"] == pytest.approx(x[:20].flatten(1).sum(1).mean().item(), rel=1e-5)
    assert "test/nll-exact" not in measured


@pytest.mark.parametrize("num_tested", [0, -1])
def test_a_part_without_examples_is_refused(num_tested: int) -> None:
    with pytest.raises(ValueError, match=f"num_tested={num_tested}"):
        Toy(num_tested=num_tested)


@pytest.mark.parametrize(
    ("discrete", "dequantize", "offset"), [(True, False, 0.0), (False, True, 7.0), (False, False, None)]
)
def test_bits_are_given_only_where_they_compare(discrete: bool, dequantize: bool, offset: float | None) -> None:
    module = Toy()
    module.discrete = discrete
    measured, _ = run_test(module, batch_size=16, dequantize=dequantize)
    assert module.bits_offset() == offset
    assert ("test/bits_per_dim-exact" in measured) == (offset is not None)
