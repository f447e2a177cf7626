"""Fits in closed form read every form of batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules import Gaussian, GaussianMixture
from tests.density.test_gaussian import Points, correlated

FORMS: dict[str, Callable[[Tensor], Any]] = {
    "a tensor": lambda x: x,
    "a list": lambda x: [x],
    "a pair": lambda x: (x, torch.zeros(len(x), dtype=torch.int64)),
    "a pair without labels": lambda x: (x, None),
    "a longer tuple": lambda x: (x, torch.zeros(len(x)), torch.ones(len(x)), "name"),
    "a dictionary": lambda x: {"x": x, "labels": torch.zeros(len(x), dtype=torch.int64)},
    "a Batch": lambda x: Batch(x, torch.zeros(len(x), dtype=torch.int64)),
}


@pytest.mark.parametrize("form", FORMS)
def test_batches_of_every_form_give_the_same_fit(form: str) -> None:
    x = correlated(200)
    batches = [FORMS[form](part) for part in x.split(50)]
    gaussian, same = (Gaussian(shape=[3]) for _ in range(2))
    gaussian.fit_closed_form(batches)
    same.fit_closed_form(x.split(50))
    assert torch.equal(gaussian.log_prob(x), same.log_prob(x))
    mixture, alike = (GaussianMixture(shape=[3], num_components=2) for _ in range(2))
    assert mixture.fit_em(batches, iterations=2) == alike.fit_em(x.split(50), iterations=2)
    assert torch.equal(mixture.log_prob(x), alike.log_prob(x))


def test_a_datamodule_is_read_by_its_training_split() -> None:
    x = correlated(200)
    data = Points(x, 50)
    data.sources = {"train": data.sources["train"], "val": Points(x + 100, 50).sources["val"]}
    gaussian, same = (Gaussian(shape=[3]).double() for _ in range(2))
    gaussian.fit_closed_form(data)
    same.fit_closed_form([x])
    torch.testing.assert_close(gaussian.components.mean, same.components.mean)
