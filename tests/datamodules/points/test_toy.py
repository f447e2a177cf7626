"""Distributions of points against their definitions. Bounds are 6 standard errors: false alarms below 1e-6."""

import math

import pytest
import torch

from datamodules import Grid, Ring, SwissRoll, TwoMoons, ZooDataModule

SIZE = 40_000


def test_a_ring_has_distinct_evenly_spaced_modes() -> None:
    data = Ring(train_size=SIZE)
    modes = torch.tensor(data.spec.modes, dtype=torch.float64)
    assert len(modes.unique(dim=0)) == 8
    torch.testing.assert_close(modes.norm(dim=1), torch.full((8,), 2 / 1.414, dtype=torch.float64))
    neighbours = (modes - modes.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(neighbours, torch.full((8,), 2 * 2 / 1.414 * math.sin(math.pi / 8), dtype=torch.float64))


@pytest.mark.parametrize("data", [Ring(train_size=SIZE), Grid(train_size=SIZE), Ring(num_modes=3, train_size=SIZE)])
def test_mixtures_lie_around_their_modes(data: Ring | Grid) -> None:
    points, labels = data.points("train")
    modes, scale = torch.tensor(data.spec.modes, dtype=torch.float64), data.spec.mode_scale
    assert scale is not None
    assert points.dtype == torch.float32
    assert points.shape == (SIZE, 2)
    offsets = (points.double() - modes[labels]) / scale
    assert torch.equal(torch.cdist(points.double(), modes).argmin(1), labels)
    assert offsets.mean(0).abs().max() < 6 / math.sqrt(SIZE)
    assert (offsets.square().mean(0) - 1).abs().max() < 6 * math.sqrt(2 / SIZE)
    share = labels.bincount(minlength=len(modes)) / SIZE
    expected = 1 / len(modes)
    assert (share - expected).abs().max() < 6 * math.sqrt(expected * (1 - expected) / SIZE)
    assert data.spec.num_classes == len(modes)
    assert sum(data.spec.class_counts) == SIZE


def test_the_grid_is_that_of_the_paper() -> None:
    spec = Grid().spec
    assert len(set(spec.modes)) == 25
    assert spec.mode_scale == pytest.approx(0.05 / 2.828)
    assert sorted({round(x * 2.828, 6) for x, _ in spec.modes}) == [-4, -2, 0, 2, 4]


def test_a_swiss_roll_without_noise_is_a_spiral() -> None:
    points, labels = SwissRoll(noise=0.0, train_size=SIZE).points("train")
    radius = (points.double() * 7.5).norm(dim=1)
    angle = torch.atan2(points[:, 1].double(), points[:, 0].double())
    turns = (radius - angle) / (2 * math.pi)
    assert (turns - turns.round()).abs().max() < 1e-4
    assert radius.min() >= 1.5 * math.pi - 1e-4
    assert radius.max() <= 4.5 * math.pi + 1e-4
    assert labels.unique().tolist() == [0]


def test_two_moons_without_noise_are_half_circles_centred_on_zero() -> None:
    points, labels = TwoMoons(noise=0.0, train_size=SIZE).points("train")
    upper = points[labels == 0].double() - torch.tensor([-0.5, -0.25])
    lower = points[labels == 1].double() - torch.tensor([0.5, 0.25])
    for moon, sign in ((upper, 1), (lower, -1)):
        torch.testing.assert_close(moon.norm(dim=1), torch.ones(len(moon), dtype=torch.float64), atol=1e-5, rtol=0)
        assert (sign * moon[:, 1]).min() >= -1e-6
    assert points.mean(0).abs().max() < 6 * points.std(0).max() / math.sqrt(SIZE)


@pytest.mark.parametrize("kind", [Ring, Grid, SwissRoll, TwoMoons])
def test_points_are_a_function_of_seed_and_split(kind: type[Ring]) -> None:
    first, again, other = kind(train_size=600, seed=1), kind(train_size=600, seed=1), kind(train_size=600, seed=2)
    assert torch.equal(first.points("train")[0], again.points("train")[0])
    assert not torch.equal(first.points("train")[0], other.points("train")[0])
    assert not torch.equal(first.points("train")[0][:500], first.points("val")[0][:500])
    assert not torch.equal(first.points("test")[0][:500], first.points("val")[0][:500])
    batch = next(iter(first.train_dataloader()))
    assert batch.labels is not None
    assert (batch.x.shape, batch.x.dtype, batch.labels.dtype) == ((256, 2), torch.float32, torch.int64)


def test_fresh_points_are_sampled_for_every_epoch() -> None:
    def points(fresh: bool) -> list[torch.Tensor]:
        loader = Ring(train_size=512, batch_size=256, fresh=fresh).train_dataloader()
        return [torch.cat([x for x, _ in loader]).sort(dim=0).values for _ in range(2)]

    assert torch.equal(*points(fresh=False))
    assert not torch.equal(*points(fresh=True))
    assert torch.equal(points(fresh=True)[1], points(fresh=True)[1])


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Ring, {"num_modes": 0}, "num_modes=0"),
        (Ring, {"radius": float("nan")}, "radius=nan"),
        (Ring, {"scale": 0.0}, "scale=0.0"),
        (Grid, {"side": 0}, "side=0"),
        (Grid, {"spacing": -1.0}, "spacing=-1.0"),
        (SwissRoll, {"noise": float("inf")}, "noise=inf"),
        (TwoMoons, {"noise": -0.1}, "noise=-0.1"),
        (Ring, {"train_size": 0}, "train_size=0"),
        (Ring, {"batch_size": 0}, "batch_size=0"),
    ],
)
def test_arguments_out_of_range_are_refused(kind: type[Ring], arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)  # type: ignore[arg-type]


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size=256 .*\b256 .*\b100\b"):
        Ring(train_size=100).train_dataloader()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (Ring(), "ring8"),
        (Ring(scale=0.2), "ring8_scale0.2"),
        (Ring(num_modes=3, radius=1, scale=0.02), "ring3_radius1"),
        (Grid(), "grid25"),
        (Grid(side=2, spacing=1.5, scale=0.1), "grid4_spacing1.5_scale0.1"),
        (SwissRoll(), "swiss_roll"),
        (SwissRoll(noise=0), "swiss_roll_noise0"),
        (TwoMoons(noise=0.05), "two_moons_noise0.05"),
        (TwoMoons(seed=3, batch_size=7), "two_moons"),
    ],
)
def test_two_distributions_do_not_share_a_name(data: ZooDataModule, name: str) -> None:
    assert data.spec.name == name
