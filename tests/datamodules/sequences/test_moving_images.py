"""Moving images: straight paths, reflection at the borders, and clips that are a function of their index."""

import math

import pytest
import torch
from torch import Tensor

from datamodules import MovingFashionMNIST
from datamodules.sequences import moving_images
from datamodules.sequences.moving_images import CANVAS, NUM_FRAMES, SIDE, SPEED, Clips, reflected
from tests.datamodules.loaders import held_out

ROOM = CANVAS - SIDE


def squares(num: int) -> Tensor:
    """Images of one grey value each, which is their index + 1, so that none has a black border."""
    return (torch.arange(num, dtype=torch.uint8) + 1)[:, None, None].expand(-1, SIDE, SIDE).contiguous()


def clips(num: int, objects: int = 1, images: int = 200, epoch: int = 0, seed: int = 0) -> Clips:
    return Clips(squares(images), num, objects, (seed, 0), fresh=True, epoch=epoch)


def values(source: Clips) -> Tensor:
    """Returns the grey values 0..255 of all clips, (N, 20, 32, 32)."""
    (x,) = source.stream([torch.arange(len(source))])
    assert x.dtype == torch.float32
    assert x.shape == (len(source), NUM_FRAMES, 1, CANVAS, CANVAS)
    assert 0 <= x.min() <= x.max() <= 1
    torch.testing.assert_close(x * 255, (x * 255).round(), atol=1e-4, rtol=0)
    return (x[:, :, 0] * 255).round().long()


def corners(frames: Tensor) -> Tensor:
    """Returns row and column of the upper left corner of the only image in each frame, (N, 20, 2)."""
    assert ((frames > 0).sum((2, 3)) == SIDE**2).all()
    places = []
    for seen in ((frames > 0).any(3), (frames > 0).any(2)):
        assert (seen.sum(2) == SIDE).all()
        places.append(seen.int().argmax(2))
    return torch.stack(places, 2).float()


def test_images_move_straight_at_one_speed_and_bounce() -> None:
    """Each path follows, up to rounding, one of the lines of a grid that are folded at the borders."""
    angles, starts = torch.linspace(0, math.pi / 2, 121), torch.linspace(0, 2, 201)
    rows, columns = (
        (1 - ((starts[:, None, None] + speeds[:, None] * torch.arange(NUM_FRAMES)) % 2 - 1).abs()) * ROOM
        for speeds in (SPEED * angles.sin(), SPEED * angles.cos())
    )  # (starts, angles, frames)
    for path in corners(values(clips(16))):
        errors = [(lines - path[:, i]).abs().amax(2).amin(0) for i, lines in enumerate((rows, columns))]
        # Half a pixel by rounding, 0.09 by the grid of starts, and 0.22 by that of angles.
        assert torch.maximum(*errors).min() < 0.85


def test_a_bounce_is_a_reflection() -> None:
    position = torch.linspace(-3, 3, 61)
    folded = reflected(position)
    assert (folded >= 0).all()
    assert (folded <= 1).all()
    torch.testing.assert_close(folded, torch.tensor([abs((p + 1) % 2 - 1) for p in position.tolist()]))


def test_all_places_and_directions_occur() -> None:
    """200 clips miss a border or a direction with probability far below 1e-6."""
    places = corners(values(clips(200)))
    assert places.amin((0, 1)).tolist() == [0, 0]
    assert places.amax((0, 1)).tolist() == [ROOM, ROOM]
    first = places[:, 1:4].sum(1) - 3 * places[:, 0]
    assert len({(x > 0, y > 0) for x, y in first.tolist()}) == 4


def test_a_clip_is_a_function_of_its_index_seed_and_epoch() -> None:
    few, many = values(clips(5)), values(clips(50))
    assert torch.equal(few, many[:5])
    assert torch.equal(values(clips(5)), few)
    assert not torch.equal(values(clips(5, seed=1)), few)
    fresh = clips(5)
    assert torch.equal(values(fresh.for_epoch(0)), few)
    assert not torch.equal(values(fresh.for_epoch(1)), few)
    assert torch.equal(values(fresh.for_epoch(1)), values(clips(5, epoch=1)))
    fixed = Clips(squares(200), 5, 1, (0, 0), fresh=False)
    assert fixed.for_epoch(3) is fixed
    assert torch.equal(fixed.rendered(torch.tensor([3, 1])), fixed.rendered(torch.arange(5))[[3, 1]])


def test_every_image_is_shown_equally_often() -> None:
    """A chi-squared test of 10 images in 2 000 clips; false alarms below 1e-6."""
    source = clips(2000, images=10)
    counts = (
        source.rendered(torch.arange(2000))[:, 0].amax((1, 2, 3)).mul(255).round().long().bincount(minlength=11)[1:]
    )
    assert len(counts) == 10
    assert ((counts - 200) ** 2 / 200).sum() < 45.1  # chi2(9).isf(1e-6) = 45.08


def test_where_images_overlap_the_brighter_one_is_seen() -> None:
    source = clips(30, objects=2)
    frames = values(source)
    for clip, chosen in zip(frames, source.chosen + 1, strict=True):
        low, high = sorted(chosen.tolist())
        assert set(clip.unique().tolist()) <= {0, low, high}
        assert ((clip == high).sum((1, 2)) == SIDE**2).all()  # the brighter one is never hidden
    assert len({tuple(sorted(pair.tolist())) for pair in source.chosen}) > 25


class ImagesOfSplit:
    """Stands in for Fashion-MNIST: the grey value is that of the split."""

    def __init__(self, data_dir: str | None = None, seed: int = 0) -> None: ...

    def prepare_data(self) -> None: ...

    def images(self, split: str) -> tuple[Tensor, Tensor]:
        grey = {"train": 50, "val": 100, "test": 200}[split]
        return torch.full((7, 1, 28, 28), grey, dtype=torch.uint8), torch.zeros(7, dtype=torch.int64)


def small(**arguments: int | bool) -> MovingFashionMNIST:
    sizes = {"train_size": 8, "val_size": 6, "test_size": 4, "batch_size": 4}
    return MovingFashionMNIST(**{**sizes, **arguments})  # type: ignore[arg-type]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving_images, "FashionMNIST", ImagesOfSplit)


@pytest.mark.usefixtures("stand_in")
def test_each_split_shows_its_own_images() -> None:
    data = small()
    for split, grey, num in (("train", 50, 8), ("val", 100, 6), ("test", 200, 4)):
        x, lengths = data.sequences(split)
        assert x.shape == (num, 20, 1, 32, 32)
        assert lengths.tolist() == [20] * num
        assert (x * 255).round().unique().tolist() == [0, grey]
    paths = [(data.sequences(split)[0][:4] > 0) for split in ("train", "val", "test")]
    assert not torch.equal(paths[0], paths[1])
    assert not torch.equal(paths[1], paths[2])


@pytest.mark.usefixtures("stand_in")
def test_training_clips_are_fresh_or_fixed_and_held_out_ones_fixed() -> None:
    def epochs(data: MovingFashionMNIST) -> list[list[Tensor]]:
        loader = data.train_dataloader()
        return [sorted((x for batch, _ in loader for x in batch), key=lambda x: x.tolist()) for _ in range(2)]

    def alike(first: list[Tensor], second: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    assert not alike(*epochs(small()))
    assert alike(*epochs(small(fresh=False)))
    assert alike(*(epochs(small())[1] for _ in range(2)))
    for split in ("val", "test"):
        first = torch.cat([x for x, _ in held_out(small(batch_size=1), split)])
        assert torch.equal(first, torch.cat([x for x, _ in held_out(small(), split)]))


@pytest.mark.usefixtures("stand_in")
def test_there_may_be_no_held_out_clips() -> None:
    assert small(val_size=0).val_dataloader() == []


@pytest.mark.usefixtures("fashion_mnist")
def test_the_real_clips() -> None:
    data = small()
    x, _ = next(iter(data.train_dataloader()))
    assert x.shape[1:] == data.spec.shape == (20, 1, 32, 32)
    assert data.spec.value_range == (0.0, 1.0)
    assert 0.05 < x.mean() < 0.4
    torch.testing.assert_close(x * 255, (x * 255).round(), atol=1e-4, rtol=0)
    sources = [data.sources[split] for split in ("train", "val", "test")]
    assert [len(source.images) for source in sources if isinstance(source, Clips)] == [55_000, 5000, 10_000]


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("num_objects", 0, "num_objects=0"),
        ("num_objects", 3, "num_objects=3"),
        ("train_size", 0, "train_size=0"),
        ("val_size", -1, "val_size=-1"),
        ("test_size", -1, "test_size=-1"),
    ],
)
def test_arguments_out_of_range_are_refused(argument: str, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**{argument: value})
