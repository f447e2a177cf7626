"""Images as sequences of bits: the bits of the binarized images, row by row."""

import pytest
import torch

from datamodules import FashionMNIST, PixelSequence
from datamodules.images import public_images
from tests.datamodules.loaders import held_out, loader_of


def pixels(batch_size: int = 8) -> PixelSequence:
    return PixelSequence(batch_size=batch_size, val_size=20, seed=3)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts sixty and thirty random images in the place of Fashion-MNIST's."""
    generator = torch.Generator().manual_seed(0)

    def images(num: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randint(256, (num, 1, 28, 28), dtype=torch.uint8, generator=generator), torch.arange(num) % 10

    examples = images(60), images(30)
    monkeypatch.setattr(public_images, "find", lambda *arguments: [])
    monkeypatch.setattr(FashionMNIST, "parse", lambda *arguments: examples)


@pytest.mark.usefixtures("small")
def test_every_batch_has_the_bits_of_the_binarized_images() -> None:
    ours, theirs = pixels(), FashionMNIST(batch_size=8, val_size=20, seed=3, binarize=True)
    for split in ("train", "val", "test"):
        loaders = loader_of(ours, split), loader_of(theirs, split)
        for _ in range(2):
            for (x, lengths), (y, _) in zip(*loaders, strict=True):
                assert x.dtype == lengths.dtype == torch.int64
                assert torch.equal(x, y.flatten(1).long())
                assert lengths.tolist() == [784] * len(x)
    assert torch.equal(ours.sequences("test")[0] * 255, theirs.images("test")[0].flatten(1).long())


@pytest.mark.usefixtures("small")
def test_bits_are_fresh_in_training_and_fixed_when_held_out() -> None:
    data = pixels()
    loader = data.train_dataloader()
    first, second = (torch.cat([x for x, _ in loader]) for _ in range(2))
    assert not torch.equal(first.sort(0).values, second.sort(0).values)
    once, twice = (torch.cat([x for x, _ in held_out(data)]) for _ in range(2))
    assert torch.equal(once, twice)
    assert torch.equal(once, torch.cat([x for x, _ in held_out(pixels(batch_size=3))]))


@pytest.mark.usefixtures("small")
def test_there_may_be_no_validation_split() -> None:
    data = PixelSequence(batch_size=8, val_size=0)
    assert data.val_dataloader() == []
    assert len(data.sources["train"]) == 60
    with pytest.raises(ValueError, match=r"\bval .*fashion_mnist_pixels"):
        data.sequences("val")


@pytest.mark.parametrize(("val_size", "message"), [(-1, "val_size=-1"), (60, r"val_size=60 .*\b60\b")])
@pytest.mark.usefixtures("small")
def test_splits_that_cannot_be_are_refused(val_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelSequence(val_size=val_size).setup()


@pytest.mark.usefixtures("fashion_mnist")
def test_the_real_held_out_bits_are_those_of_the_images() -> None:
    data = PixelSequence()
    x, lengths = data.sequences("test")
    assert torch.equal(x.to(torch.uint8) * 255, FashionMNIST(binarize=True).images("test")[0].flatten(1))
    assert (len(x), lengths.unique().tolist()) == (10_000, [784])
    assert (data.spec.shape, data.spec.vocabulary, data.spec.kind) == ((784,), ("0", "1"), "tokens")
    assert [len(data.sources[split]) for split in ("train", "val", "test")] == [55_000, 5000, 10_000]
