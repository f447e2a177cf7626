"""Differentiable augmentation: each output pixel is an input pixel or a constant, chosen by the training RNG alone."""

import pytest
import torch
from lightning.pytorch import seed_everything
from torch import Tensor

from lightning_modules.base import ZooModule
from lightning_modules.parts.augmentation import POLICIES, DiffAugment, cutout, translate
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.schedules import Interpolation
from tests.standins import quiet_trainer
from tests.training import TinyData, build

SHAPE = (6, 2, 8, 16)  # an eighth of the sides is 1 and 2, a half 4 and 8


class Chosen(Noise):
    """Gives integers that were written down."""

    def __init__(self, *integers: list[int]) -> None:
        self.given = iter(integers)
        self.ranges: list[int] = []

    def integers(self, high: int, num: int, device: torch.device) -> Tensor:
        self.ranges.append(high)
        found = torch.tensor(next(self.given))
        assert len(found) == num
        return found


def noise(seed: int = 0) -> Noise:
    return Noise(torch.Generator().manual_seed(seed))


def images(seed: int = 0) -> Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.5


def places() -> Tensor:
    """Images whose pixels hold their own position, from 1, exactly."""
    return torch.arange(1.0, images().numel() + 1, dtype=torch.float64).view(SHAPE)


def test_translation_shifts_each_image_by_its_own_integers_and_fills_with_the_lowest_value() -> None:
    x = images()[:3]
    rows = Chosen([1, 0, 2], [2, 4, 0])  # 1 and 2 are no shift
    y = translate(x, rows)
    assert rows.ranges == [3, 5]
    assert torch.equal(y[0], x[0])
    assert torch.equal(y[1, :, 1:, :-2], x[1, :, :-1, 2:])  # down by one, left by two
    assert (y[1, :, 0] == -1).all()
    assert (y[1, :, :, -2:] == -1).all()
    assert torch.equal(y[2, :, :-1, 2:], x[2, :, 1:, :-2])  # up by one, right by two
    assert (y[2, :, -1] == -1).all()
    assert (y[2, :, :, :2] == -1).all()


def test_cutout_clears_a_square_around_the_chosen_centre_cut_off_at_the_border() -> None:
    x = images()[:2]
    centres = Chosen([4, 0], [8, 15])
    y = cutout(x, centres)
    assert centres.ranges == [8, 16]
    expected = x.clone()
    expected[0, :, 2:6, 4:12] = 0
    expected[1, :, :2, 11:] = 0
    assert torch.equal(y, expected)


def test_every_shift_and_every_centre_occurs() -> None:
    """Of 2 000 images each of the 15 shifts and 128 centres is missed with a probability below 2e-5 in all."""
    x = torch.ones(2000, 1, 8, 16)
    shifted, cut = translate(x, noise()), cutout(x, noise())
    assert len({(y == -1).numpy().tobytes() for y in shifted}) == 15
    assert len({(y == 0).numpy().tobytes() for y in cut}) == 128


@pytest.mark.parametrize("policy", POLICIES)
def test_the_gradient_of_a_policy_is_that_of_finite_differences(policy: str) -> None:
    x = images()[:2, :, :4, :8].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: POLICIES[policy](y, noise(3)), x)


@pytest.mark.parametrize("policies", [("translation",), ("cutout",), ("translation", "cutout")])
def test_the_gradient_goes_to_the_pixels_that_were_chosen_and_to_no_others(policies: tuple[str, ...]) -> None:
    augment = DiffAugment(policies)
    chosen = augment(places(), 0, noise(1)).clamp(min=0).flatten().long()  # 0 where a constant was put in
    x, weights = images().requires_grad_(), images(seed=7)
    y = augment(x, 0, noise(1))
    flat = torch.cat([torch.zeros(1, dtype=torch.float64), x.detach().flatten()])
    assert torch.equal(y.detach().flatten()[chosen > 0], flat[chosen][chosen > 0])
    assert 0 < (chosen == 0).sum() < 0.8 * len(chosen)
    (y * weights).sum().backward()
    expected = torch.zeros_like(flat).index_add_(0, chosen, weights.flatten())[1:]
    assert x.grad is not None
    torch.testing.assert_close(x.grad.flatten(), expected)


def test_real_and_generated_images_are_augmented_alike_by_the_same_random_numbers() -> None:
    """The augmentation depends on the random numbers alone, never on the image."""
    augment = DiffAugment(["translation", "cutout"], 0.7)
    real, fake = images(), -images(seed=1)
    chosen = augment(places(), 0, noise(5)).clamp(min=0).long()
    for x in (real, fake):
        y = augment(x, 0, noise(5))
        kept = chosen > 0
        assert torch.equal(y[kept], x.flatten()[chosen[kept] - 1])
        assert set(y[~kept].tolist()) == {-1.0, 0.0}
    assert not torch.equal(augment(real, 0, noise(5)), augment(real, 0, noise(6)))


def test_images_are_augmented_independently_of_one_another() -> None:
    same = images()[:1].expand(400, -1, -1, -1)
    augmented = DiffAugment(["translation", "cutout"])(same, 0, noise())
    assert len({y.numpy().tobytes() for y in augmented}) > 300


@pytest.mark.parametrize(("probability", "bounds"), [(0.0, (0, 0)), (0.3, (223, 377)), (1.0, (1000, 1000))])
def test_a_probability_is_the_share_of_images_that_are_augmented(probability: float, bounds: tuple[int, int]) -> None:
    """Of 1 000 images, within 5.3 standard deviations of a binomial: a false alarm in ten million runs."""
    x = torch.ones(1000, 1, 8, 16)
    changed = (DiffAugment(["cutout"], probability)(x, 0, noise()) != x).flatten(1).any(1).sum().item()
    assert bounds[0] <= changed <= bounds[1]


def test_the_probability_may_follow_a_schedule_of_the_batch() -> None:
    x = torch.ones(200, 1, 8, 16)
    augment = DiffAugment(["cutout"], Interpolation(0.0, 1.0, steps=4, begin=2))
    shares = [(augment(x, step, noise()) != x).flatten(1).any(1).float().mean().item() for step in range(8)]
    assert shares[:3] == [0.0] * 3
    assert shares[6:] == [1.0] * 2
    assert shares[3] < shares[4] < shares[5]
    assert shares[4] == pytest.approx(0.5, abs=0.18)  # 5 standard errors


def test_as_many_random_numbers_are_drawn_whatever_the_probability_and_the_images() -> None:
    """What is drawn after the augmentation, as the codes of the next batch, does not depend on either."""
    rest = []
    for probability, x in ((0.0, images()), (0.5, images()), (1.0, -images(seed=1))):
        source = noise()
        DiffAugment(["translation", "cutout"], probability)(x, 0, source)
        rest.append(source.uniform(4, device=torch.device("cpu")))
    assert torch.equal(rest[0], rest[1])
    assert torch.equal(rest[0], rest[2])


def test_the_training_rng_put_back_gives_the_same_images_again() -> None:
    augment, x = DiffAugment(["translation", "cutout"], 0.7), images()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = augment(x, 0, Noise()), augment(x, 0, Noise())
    torch.set_rng_state(state)
    assert torch.equal(augment(x, 0, Noise()), first)
    assert torch.equal(augment(x, 0, Noise()), second)
    assert not torch.equal(first, second)


def fitted(steps: int, seed: int, ckpt_path: str | None = None) -> ZooModule:
    seed_everything(seed, verbose=False)
    module, shape = build("NonSaturatingGAN", (1, 8, 8), architecture="mlp", width=4, latent_dim=2)
    module.augment = DiffAugment(["translation", "cutout"], Interpolation(0.3, 1.0, steps=6))  # type: ignore[assignment]
    trainer = quiet_trainer(max_epochs=-1, max_steps=steps)
    trainer.fit(module, TinyData(shape), ckpt_path=ckpt_path)
    trainer.save_checkpoint(f"{steps}.ckpt")
    return module


def test_a_resumed_run_augments_as_the_uninterrupted_one() -> None:
    whole = fitted(7, seed=7).state_dict()
    fitted(3, seed=7)
    resumed = fitted(7, seed=8, ckpt_path="3.ckpt").state_dict()
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


def test_unknown_policies_and_probabilities_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="color, blur.*translation, cutout"):
        DiffAugment(["cutout", "color", "blur"])
    for probability in (-0.1, 1.1):
        with pytest.raises(ValueError, match=f"probability={probability}"):
            DiffAugment(["cutout"], probability)
