"""The block protocol: the same samples whoever draws them, and nothing else that a number could depend on."""

import pytest
import torch
from torch import Generator, Tensor, nn

from datamodules.spec import DataSpec
from lightning_modules.metrics.protocol import (
    block_generator,
    check_extractor,
    check_image_spec,
    check_num_samples_at_least_two,
    extract_images,
    extract_samples,
    in_blocks,
    sample_blocks,
)
from tests.standins import SHAPE, SPEC, StandInData, StandInExtractor, StandInModel


def test_fewer_samples_are_a_prefix_of_more() -> None:
    model, extractor = StandInModel(), StandInExtractor()
    more, fewer = (extract_samples(model, extractor, size, SPEC) for size in (600, 310))
    assert len(fewer) == 310
    assert torch.equal(more.features[:310], fewer.features)
    assert torch.equal(more.logits[:310], fewer.logits)
    assert not torch.equal(more.features[:250], more.features[250:500])
    assert not torch.equal(fewer.features, extract_samples(model, extractor, 310, SPEC, seed=1).features)
    assert torch.equal(sample_blocks(model, 310, SHAPE), sample_blocks(model, 600, SHAPE)[:310])


def test_no_two_blocks_of_a_seed_share_their_random_numbers() -> None:
    firsts = {torch.rand((), generator=block_generator(3, block)).item() for block in range(200)}
    assert len(firsts) == 200
    again = torch.rand(4, generator=block_generator(3, 7))
    assert torch.equal(again, torch.rand(4, generator=block_generator(3, 7)))


def test_blocks_come_in_order_each_once_and_cut_to_the_number() -> None:
    asked = []

    def work(block: int) -> tuple[Tensor, Tensor]:
        asked.append(block)
        rows = torch.arange(250 * block, 250 * block + 250)
        return rows, -rows

    rows, negatives = in_blocks(501, work)
    assert asked == [0, 1, 2]
    assert rows.tolist() == list(range(501))
    assert torch.equal(negatives, -rows)


def test_images_are_extracted_each_once_and_in_their_order() -> None:
    extractor, images = StandInExtractor(), StandInData().images("test")[0]
    extracted = extract_images(extractor, images)
    assert extractor.seen == [250, 250, 100]
    features, logits = extractor.eval().extract(images)
    torch.testing.assert_close(extracted.features, features)
    torch.testing.assert_close(extracted.logits, logits)


def test_labels_that_are_asked_for_are_the_same_in_every_block() -> None:
    class Asked(StandInModel):
        def sample(
            self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None
        ) -> Tensor:
            assert labels is not None
            return (labels / 249 * 2 - 1).view(-1, 1, 1, 1).expand(-1, *SHAPE)

    extractor, labels = StandInExtractor(), torch.arange(250)
    extract_samples(Asked(), extractor, 500, SPEC, labels=labels)
    for images in extractor.received:
        assert torch.equal(images[:, 0, 0, 0], (labels / 249 * 255).round().to(torch.uint8))


def test_modes_are_given_back_layer_by_layer() -> None:
    model, extractor = StandInModel(), StandInExtractor()
    first, second = model.generator
    first.eval()
    extract_samples(model, extractor, 10, SPEC)
    assert second.training
    assert not first.training
    assert extractor.training


def test_samples_that_are_not_finite_name_the_block() -> None:
    class Diverged(StandInModel):
        def sample(
            self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None
        ) -> Tensor:
            x = super().sample(num_samples, labels=labels, generator=generator)
            return torch.full_like(x, torch.nan) if len(self.calls) == 2 else x

    with pytest.raises(ValueError, match=r"block 1 .*\b0\b.*\b3\b"):
        extract_samples(Diverged(), StandInExtractor(), 600, SPEC)
    with pytest.raises(ValueError, match=r"block 1 .*\b0\b.*\b3\b"):
        sample_blocks(Diverged(), 600, SHAPE)


def test_samples_of_a_wrong_shape_are_refused() -> None:
    class Wide(StandInModel):
        def sample(
            self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None
        ) -> Tensor:
            return torch.zeros(num_samples, 1, 6, 7)

    for extract in (
        lambda: extract_samples(Wide(), StandInExtractor(), 10, SPEC),
        lambda: sample_blocks(Wide(), 10, SHAPE),
    ):
        with pytest.raises(ValueError, match=r"Wide.*\(250, 1, 6, 7\).*\(1, 6, 6\)"):
            extract()


def test_binarized_samples_become_black_and_white() -> None:
    class Binary(StandInModel):
        def sample(
            self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None
        ) -> Tensor:
            return torch.bernoulli(torch.full((num_samples, *SHAPE), 0.5), generator=generator)

    extractor = StandInExtractor()
    spec = DataSpec(name="s", kind="image", shape=SHAPE, value_range=(0.0, 1.0), preprocessing="binarized")
    extract_samples(Binary(), extractor, 10, spec)
    assert extractor.received[0].unique().tolist() == [0, 255]


def test_autocast_does_not_reach_the_extractor() -> None:
    plain = extract_samples(StandInModel(), StandInExtractor(), 250, SPEC)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        mixed = extract_samples(StandInModel(), StandInExtractor(), 250, SPEC)
    assert torch.equal(plain.features, mixed.features)
    assert not mixed.features.is_inference()


def test_the_global_random_state_is_left_alone() -> None:
    class Careless(StandInModel):
        def sample(
            self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None
        ) -> Tensor:
            torch.rand(7)
            return super().sample(num_samples, labels=labels, generator=generator)

    model, extractor = Careless(), StandInExtractor()
    before = torch.get_rng_state()
    extract_samples(model, extractor, 300, SPEC)
    sample_blocks(model, 300, SHAPE)
    assert torch.equal(torch.get_rng_state(), before)


def test_requests_that_cannot_be_met_are_named() -> None:
    for number in (1, 0, -5, True, 2.5):
        with pytest.raises(ValueError, match=f"num_points={number}"):
            check_num_samples_at_least_two(num_samples=2, num_points=number)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Linear.*Classifier.*Inception"):
        check_extractor(nn.Linear(2, 2))
    for spec in (
        DataSpec(name="ring", kind="points", shape=(2,)),
        DataSpec(name="ring", kind="image", shape=(1, 2, 2)),
    ):
        with pytest.raises(ValueError, match=f"'ring'.*kind='{spec.kind}'.*value_range=None"):
            check_image_spec(spec)
    assert check_image_spec(SPEC) == (-1.0, 1.0)
