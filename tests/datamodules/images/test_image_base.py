"""What image datamodules share: samples that are fresh in training and fixed elsewhere, and the split."""

import torch

from datamodules import SyntheticImages
from datamodules.images.image_base import split_indices
from tests.datamodules.loaders import held_out


def test_the_stored_pixels_are_not_changed() -> None:
    data = SyntheticImages(size=64, val_size=8, test_size=8, batch_size=8, dequantize=True)
    before = data.images("train")[0].clone()
    list(data.train_dataloader())
    assert torch.equal(data.images("train")[0], before)


def test_binarized_samples_are_fresh_in_training_and_fixed_in_evaluation() -> None:
    data = SyntheticImages(shape=[1, 8, 8], size=64, val_size=20, test_size=20, batch_size=8, binarize=True)
    assert data.spec.value_range == (0.0, 1.0)
    assert data.spec.preprocessing == "binarized"
    loader = data.train_dataloader()
    means = torch.stack([torch.cat([x for x, _ in loader]).mean() for _ in range(3)])
    assert len(means.unique()) == 3
    for split in ("val", "test"):
        first = torch.cat([x for x, _ in held_out(data, split)])
        assert torch.equal(first, torch.cat([x for x, _ in held_out(data, split)]))
        assert torch.equal(data.images(split)[0], (first * 255).to(torch.uint8))
    assert not torch.equal(data.images("val")[0], data.images("test")[0])
    assert set(data.images("train")[0].unique().tolist()) == {0, 255}


def test_fixed_noise_does_not_depend_on_the_batch_size() -> None:
    def evaluated(batch_size: int) -> torch.Tensor:
        data = SyntheticImages(shape=[1, 8, 8], size=64, val_size=50, batch_size=batch_size, dequantize=True)
        return torch.cat([x for x, _ in held_out(data)])

    assert torch.equal(evaluated(7), evaluated(50))


def test_binarized_gives_the_bits_that_the_argument_gives() -> None:
    plain, bits = (SyntheticImages([1, 8, 8], 2, 20, 4, 6, 6, binarize=binarize) for binarize in (False, True))
    plain.setup()
    bits.setup()
    assert plain.binarized().spec == bits.spec
    assert torch.equal(plain.binarized().images("test")[0], bits.images("test")[0])
    assert plain.spec.value_range == (-1.0, 1.0)


def test_a_split_is_disjoint_complete_and_in_order() -> None:
    train, val = split_indices(100, 30, 5)
    assert (len(train), len(val)) == (70, 30)
    assert (train.diff() > 0).all()
    assert (val.diff() > 0).all()
    assert sorted(train.tolist() + val.tolist()) == list(range(100))


def test_all_images_are_those_of_the_splits_one_after_the_other() -> None:
    data = SyntheticImages(size=16, val_size=0, test_size=4, batch_size=8, num_classes=3, shape=[1, 4, 4])
    images, labels = data.images("all")
    for part, of_splits in zip(
        (images, labels), zip(data.images("train"), data.images("test"), strict=True), strict=True
    ):
        assert torch.equal(part, torch.cat(of_splits))
