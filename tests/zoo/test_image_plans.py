"""What is planned before a run: tiles for the memory, steps for the time, and estimates that take no memory."""

import pytest
import torch

import zoo
import zoo.image_plans
import zoo.image_runs
from tests.image.small_images import SmallFeatures
from zoo.image_plans import OVER_SAVED, Costs, hourglass_memory


def test_tiles_are_taken_where_the_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    costs, size, cpu = (
        Costs(SmallFeatures(), ["first", "second"], torch.device("cpu")),
        (2048, 2048),
        torch.device("cpu"),
    )
    needed = [costs.memory(size, tile, 10) for tile in (None, 512, 256, 128)]
    assert sorted(needed, reverse=True) == needed
    for available, tile in ((1e12, None), (2 * needed[1] + 1, 512), (2 * needed[3] + 1, 128)):
        monkeypatch.setattr(zoo.image_plans, "available_bytes", lambda device, free=available: int(free))
        assert costs.tile(size, 10, cpu) == tile


def test_images_that_are_compared_take_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    costs, small, large = Costs(SmallFeatures(), ["first"], torch.device("cpu")), (64, 64), (2048, 2048)
    least = costs.memory(small, None, 10)
    assert costs.memory(small, None, 10, [small]) == least
    assert costs.memory(small, None, 10, [large]) - least == pytest.approx(
        OVER_SAVED * costs.bytes_per_pixel * (2048**2 - 64**2)
    )
    monkeypatch.setattr(
        zoo.image_plans, "available_bytes", lambda device: int(2 * costs.memory(small, 512, 10, [large])) + 2
    )
    assert costs.tile(small, 10, torch.device("cpu"), [large]) == 512


def test_a_tile_that_is_asked_for_is_taken_if_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    costs, size, cpu = Costs(SmallFeatures(), ["first"], torch.device("cpu")), (2048, 2048), torch.device("cpu")
    free = int(costs.memory(size, 256, 10)) + 1
    for place in (zoo.image_plans, zoo.image_runs):
        monkeypatch.setattr(place, "available_bytes", lambda device: free)
    assert costs.tile(size, 10, cpu, wanted=256) == 256
    with pytest.raises(zoo.ZooError, match=r"2048 x 2048 pixels takes about .*--tile 128"):
        costs.tile(size, 10, cpu, wanted=1024)


def test_as_many_steps_are_planned_as_fit_into_the_time() -> None:
    costs = Costs(SmallFeatures(), ["first"], torch.device("cpu"))
    costs.seconds_per_pixel = 1e-4
    at_full_size = zoo.image_plans.EVALUATIONS * 100 * 100 * 1e-4
    plan = costs.plan((100, 100), scales=2, steps=1000, tile=None, seconds=50 * 1.25 * at_full_size)
    assert (plan.steps, plan.coarse_steps) in ((100, 50), (98, 49))
    assert costs.plan((100, 100), 2, 1, None, 1e9).steps == 1, "at most"
    assert costs.plan((100, 100), 2, 1, None, 0.0).steps == 1
    assert costs.plan((100, 100), 2, 30, None, 1e9) == zoo.image_plans.Plan(30, 15, None)
    assert costs.plan((100, 100), 2, 1000, 256, 100.0).steps < costs.plan((100, 100), 2, 1000, None, 100.0).steps


def test_the_estimate_for_the_prior_grows_with_pixels_and_channels() -> None:
    small, large, wide = (
        hourglass_memory(*each, 0) for each in ((8, 3, (64, 64)), (8, 3, (640, 640)), (32, 3, (64, 64)))
    )
    assert small < wide < large
    assert hourglass_memory(8, 3, (64, 64), 100) - small == 2 * 100 * 3 * 64 * 64
    assert hourglass_memory(2**20, 5, (64, 64), 0) > 2**40, "the network itself is not built"
