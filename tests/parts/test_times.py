import math

import pytest
import torch

from lightning_modules.parts.noise import Noise
from lightning_modules.parts.times import Times, graded_times

NUM = 20_000


def drawn(times: Times) -> torch.Tensor:
    return times.draw(Noise(torch.Generator().manual_seed(0)), NUM, torch.device("cpu"))


def test_logit_normal_times_have_the_quantiles_of_their_normal() -> None:
    time = drawn(Times("logit_normal", mean=0.5, scale=2.0))
    # The shares below five points of the normal distribution; 5 standard errors are at most 0.018.
    for z in (-2.0, -1.0, 0.0, 1.0, 2.0):
        share = (time < 1 / (1 + math.exp(-(0.5 + 2 * z)))).double().mean().item()
        assert share == pytest.approx(0.5 * (1 + math.erf(z / math.sqrt(2))), abs=0.018)


def test_uniform_times_fill_the_interval() -> None:
    counts = torch.histc(drawn(Times("uniform")), 10, 0, 1)
    assert (counts - NUM / 10).abs().max() < 5 * math.sqrt(NUM * 0.1 * 0.9)


def test_graded_times_run_from_noise_to_data_and_shorten_towards_it() -> None:
    assert graded_times(4) == [0.0, 0.25, 0.5, 0.75, 1.0]
    times = graded_times(4, power=2.0)
    assert times == [1 - x * x for x in (1.0, 0.75, 0.5, 0.25, 0.0)]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"name": "cosine"}, "times='cosine'.*logit_normal, uniform"),
        ({"scale": 0.0}, "time_scale=0.0"),
        ({"scale": math.inf}, "time_scale=inf"),
        ({"mean": math.nan}, "time_mean=nan"),
    ],
)
def test_distributions_of_no_sense_are_refused(settings: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Times(**settings)
