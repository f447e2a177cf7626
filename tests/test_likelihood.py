"""Held-out likelihood: the same number whatever the batch size, each example once, with its kind."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from datamodules import SyntheticImages
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.parts.noise import fixed_normal, fixed_uniform


class Toy(LikelihoodModule):
    """-log p is the sum of the pixels, and a draw of its own for every example."""

    discrete = True

    def __init__(self, shape: tuple[int, ...] = (1, 8, 8), num_tested: int | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.num_tested = num_tested

    def negative_log_likelihood(self, x: Tensor, labels: Tensor, indices: Tensor, stage: str) -> dict[str, Tensor]:
        return {"exact": x.flatten(1).sum(1), "upper_bound_k1": fixed_normal(indices, 2).sum(1)}


def run_test(module: LikelihoodModule, **settings: Any) -> dict[str, float]:
    data = SyntheticImages(shape=[1, 8, 8], num_classes=2, size=64, val_size=16, test_size=50, **settings)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return {**trainer.test(module, data, verbose=False)[0], "data": data}


@pytest.mark.parametrize("batch_size", [7, 16, 50])
def test_mean_and_standard_error_over_the_split(batch_size: int) -> None:
    measured = run_test(Toy(), batch_size=batch_size)
    x = measured["data"].transform(measured["data"].images("test")[0])
    nll = x.flatten(1).sum(1).double()
    assert measured["test/nll-exact"] == pytest.approx(nll.mean().item(), rel=1e-5)
    assert measured["test/nll_standard_error-exact"] == pytest.approx((nll.std() / math.sqrt(50)).item(), rel=1e-5)
    assert measured["test/bits_per_dim-exact"] == pytest.approx(nll.mean().item() / 64 / math.log(2), rel=1e-5)
    drawn = fixed_normal(torch.arange(50), 2).sum(1).mean().item()
    assert measured["test/nll-upper_bound_k1"] == pytest.approx(drawn, rel=1e-5)


def test_a_part_of_the_split_is_named_so() -> None:
    measured = run_test(Toy(num_tested=20), batch_size=7)
    x = measured["data"].transform(measured["data"].images("test")[0])[:20]
    assert measured["test/nll-exact-20"] == pytest.approx(x.flatten(1).sum(1).mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("discrete", "dequantize", "offset"), [(True, False, 0.0), (False, True, 7.0), (False, False, None)]
)
def test_bits_are_given_only_where_they_compare(discrete: bool, dequantize: bool, offset: float | None) -> None:
    module = Toy()
    module.discrete = discrete
    measured = run_test(module, batch_size=16, dequantize=dequantize)
    assert module.bits_offset() == offset
    assert ("test/bits_per_dim-exact" in measured) == (offset is not None)


def test_fixed_draws_belong_to_their_index() -> None:
    indices = torch.tensor([5, 2, 9])
    draws = fixed_normal(indices, 4)
    assert torch.equal(draws[1], fixed_normal(torch.tensor([2]), 4)[0])
    assert not torch.equal(draws[0], draws[1])
    many = fixed_uniform(torch.arange(2000), 5)
    assert abs(many[:, 0].mean().item() - 0.5) < 5 * math.sqrt(1 / 12 / 2000)
    assert abs(torch.corrcoef(torch.stack([many[:-1, 0], many[1:, 0]]))[0, 1].item()) < 5 / math.sqrt(2000)
    assert fixed_normal(torch.arange(0), 3).shape == (0, 3)
