"""Samples, codes, guidance and likelihoods of flows whose velocity is known in closed form."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from datamodules import SyntheticImages
from datamodules.spec import Batch, DataSpec
from lightning_modules import FlowMatching
from lightning_modules.parts.capabilities import HasDensity, SupportsEncoding, SupportsInterpolation
from tests.flow.gaussian_flows import GaussianVelocity
from tests.standins import quiet_trainer

MEAN, SCALE = torch.tensor([0.7, -1.2]), 0.5
CLASS_MEANS = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, -1.0]])
"""Of two classes, and of no class."""


def gaussian_flow(**settings: Any) -> FlowMatching:
    module = FlowMatching(shape=[2], architecture="mlp", width=2, **settings)
    module.network = GaussianVelocity(CLASS_MEANS if module.num_classes else MEAN, SCALE)
    return module.eval()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_samples_have_the_moments_of_the_target() -> None:
    num = 20_000
    x = gaussian_flow(steps=30).sample(num, generator=generator())
    assert (x.mean(0) - MEAN).abs().max() < 5 * SCALE / math.sqrt(num)
    assert (x.std(0) / SCALE - 1).abs().max() < 5 / math.sqrt(2 * num) + 0.002  # 5 s.e., and the solver's error
    assert x.T.corrcoef()[0, 1].abs() < 5 / math.sqrt(num)


def test_the_sampler_is_of_second_order() -> None:
    module, z = gaussian_flow().double(), torch.randn(50, 2, dtype=torch.float64)
    exact = MEAN.double() + SCALE * z  # the flow of a Gaussian pair with independent coordinates
    errors = [(module.decode(z, steps=steps) - exact).abs().max().item() for steps in (20, 40, 80)]
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert coarse / fine == pytest.approx(4, rel=0.15)


def test_codes_are_those_that_the_examples_came_from() -> None:
    module, z = gaussian_flow(steps=200, sampling_power=1.5), torch.randn(20, 2)
    assert isinstance(module, SupportsEncoding)
    assert isinstance(module, SupportsInterpolation)
    x = module.decode(z)
    torch.testing.assert_close(module.encode(x), z, atol=1e-3, rtol=0.0)
    torch.testing.assert_close(module.reconstruct(x), x, atol=1e-3, rtol=0.0)
    torch.testing.assert_close(module.encode(x), (x - MEAN) / SCALE, atol=1e-3, rtol=0.0)


def test_guidance_is_between_the_velocities_without_and_with_labels() -> None:
    module = gaussian_flow(num_classes=2)
    x, labels = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
    time = torch.full((5,), 0.4)
    without, given = module.network(x, time, None), module.network(x, time, labels)
    for w, expected in {0.0: without, 1.0: given, 2.5: without + 2.5 * (given - without)}.items():
        torch.testing.assert_close(module.velocity(x, 0.4, labels, w), expected)
    settings: dict[str, Any] = {"labels": labels, "steps": 40}
    z = torch.randn(5, 2)
    torch.testing.assert_close(
        module.decode(z, guidance=0.0, **settings), CLASS_MEANS[2] + SCALE * z, atol=1e-2, rtol=0.0
    )
    torch.testing.assert_close(module.decode(z, **settings), CLASS_MEANS[labels] + SCALE * z, atol=1e-2, rtol=0.0)
    exaggerated = module.decode(z, guidance=2.0, **settings)
    assert ((exaggerated - CLASS_MEANS[2]).norm(dim=1) > (CLASS_MEANS[labels] - CLASS_MEANS[2]).norm(dim=1)).any()
    assert torch.equal(module.sample(5, labels=labels, generator=generator()), gaussian_sample(module, labels))


def gaussian_sample(module: FlowMatching, labels: Tensor) -> Tensor:
    return module.decode(module.sample_latent(5, generator=generator()), labels=labels)


@pytest.mark.parametrize("classes", [None, 2])
def test_the_likelihood_of_points_is_that_of_the_gaussian(classes: int | None) -> None:
    module = gaussian_flow(num_classes=classes).double()
    assert isinstance(module, HasDensity)
    labels = None if classes is None else torch.tensor([0, 1, 0, 1])
    x = 2 * torch.randn(4, 2, dtype=torch.float64)
    mean = MEAN.double() if labels is None else CLASS_MEANS.double()[labels]
    expected = Normal(mean, SCALE).log_prob(x).sum(1)
    coarse, fine = (module.log_prob(x, labels=labels, steps=steps) for steps in (20, 40))
    torch.testing.assert_close(fine, expected, atol=1e-4, rtol=0.0)
    assert (coarse - expected).abs().max() > 8 * (fine - expected).abs().max(), "of fourth order"
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(module.log_prob(x, labels=labels, steps=40).sum(), x)
    torch.testing.assert_close(gradient, (mean - x.detach()) / SCALE**2, atol=1e-3, rtol=0.0)


class PixelVelocity(torch.nn.Module):
    """The velocity of a Gaussian pair, plus one that mixes neighbouring pixels and has no trace."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.gaussian = GaussianVelocity(torch.zeros(1), scale)

    def forward(self, x: Tensor, time: Tensor, *condition: Any) -> Tensor:
        turned = torch.stack([x[..., 1::2], -x[..., ::2]], -1).flatten(-2)
        return self.gaussian(x.flatten(1), time).view_as(x) + turned


def test_the_likelihood_of_images_is_estimated_without_bias() -> None:
    """A rotation of pairs of pixels keeps a Gaussian, and adds to a single direction's e' J e nothing but noise."""
    module = FlowMatching(shape=[1, 8, 8], width=2, likelihood_steps=30, num_probes=3)
    module.network = PixelVelocity(0.3)
    x = (0.3 * torch.randn(40, 1, 8, 8)).clamp(-1, 1)
    expected = Normal(0.0, 0.3).log_prob(x).flatten(1).sum(1)
    with torch.no_grad():
        torch.testing.assert_close(module.log_prob(x), expected, atol=0.02, rtol=0.0)
        assert torch.equal(module.log_prob(x), module.log_prob(x)), "directions follow from the position"
        shuffled = module.log_prob(x, generator=generator(3))
    torch.testing.assert_close(shuffled, expected, atol=0.02, rtol=0.0)


def test_a_likelihood_does_not_depend_on_mixed_precision() -> None:
    torch.manual_seed(0)
    module = FlowMatching.for_data(DataSpec("points", "points", (2,)), width=4, likelihood_steps=4)
    torch.nn.init.normal_(module.network.output.weight)  # type: ignore[union-attr, arg-type]
    x = torch.randn(20, 2)
    exact = module.log_prob(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module.log_prob(x).detach()
        measured = module.negative_log_likelihood(Batch(x), torch.arange(20), "val")["exact"].detach()
    assert torch.equal(mixed, exact)
    assert torch.equal(measured, -exact)


def test_held_out_likelihoods_do_not_depend_on_the_batch_and_are_named_as_estimates() -> None:
    data = SyntheticImages(shape=[1, 8, 8], size=64, val_size=16, test_size=16, batch_size=16, dequantize=True)
    module = FlowMatching.for_data(data.spec, width=2, depth=1, likelihood_steps=4, num_tested=5)
    torch.nn.init.normal_(module.network.output.weight, std=0.3)  # type: ignore[union-attr, arg-type]
    trainer = quiet_trainer()
    (measured,) = trainer.test(module, data, verbose=False)
    assert {
        f"test/{name}-estimate_ode{half}-5"
        for name in ("nll", "bits_per_dim", "nll_standard_error")
        for half in ("", "_half_steps")
    } | {"test/velocity_error"} == set(measured)
    whole = torch.cat([batch.x for batch in data.test_dataloader()])[:5]
    parts = [module.negative_log_likelihood(Batch(whole[i : i + 1]), torch.tensor([i]), "test") for i in range(5)]
    for half in ("", "_half_steps"):
        mean = torch.cat([part[f"estimate_ode{half}"] for part in parts]).mean().item()
        assert measured[f"test/nll-estimate_ode{half}-5"] == pytest.approx(mean, rel=1e-4)
    (validated,) = trainer.validate(module, data, verbose=False)
    assert set(validated) == {"val/velocity_error"}, "a likelihood of images takes minutes"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"guidance": 2.0}, "guidance=2 needs a model conditional on classes or captions"),
        ({"guidance": 0.5, "num_classes": 2, "condition_dropout": 0.0}, "condition_dropout=0"),
        ({"guidance": -1.0, "num_classes": 2}, "guidance=-1.0"),
        ({"condition_dropout": 1.0}, "condition_dropout=1.0"),
        ({"steps": 0}, "steps=0"),
        ({"likelihood_steps": 1}, "likelihood_steps=1"),
        ({"num_probes": 0}, "num_probes=0"),
        ({"sampling_power": 0.0}, "sampling_power=0.0"),
        ({"times": "never"}, "times='never'"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"num_classes": 0}, "num_classes=0"),
    ],
)
def test_hyperparameters_of_no_sense_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        FlowMatching(shape=[2], architecture="mlp", width=2, **settings)


def test_arguments_of_no_sense_are_refused() -> None:
    module, labels = gaussian_flow(num_classes=2), torch.tensor([0, 1])
    for bad in (math.nan, math.inf, -0.1, True, "2", None):
        if bad is not None:
            with pytest.raises(ValueError, match="guidance="):
                module.sample(2, labels=labels, guidance=bad)  # type: ignore[arg-type]
    for call in (module.sample, lambda num, **given: module.decode(torch.zeros(num, 2), **given)):
        for wrong in (0, 2.5, True):
            with pytest.raises(ValueError, match="steps="):
                call(2, labels=labels, steps=wrong)
    for call in (module.encode, module.reconstruct, module.log_prob):
        with pytest.raises(ValueError, match="labels"):
            call(torch.zeros(2, 2))
        with pytest.raises(ValueError, match="steps="):
            call(torch.zeros(2, 2), labels=labels, steps=0)
    with pytest.raises(ValueError, match=r"latent_dim=\[2\]|latent_dim"):
        module.decode(torch.zeros(2, 3), labels=labels)
