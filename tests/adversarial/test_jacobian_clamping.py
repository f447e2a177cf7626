"""Jacobian clamping against the singular values of linear generators, for each example on its own."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules import JacobianClampingGAN
from lightning_modules.parts.clamping import JacobianClamping
from lightning_modules.parts.noise import Noise
from tests.adversarial.games import POINTS


def linear(*singular_values: float) -> Tensor:
    """Returns a 5 x n matrix with these singular values and random singular vectors."""
    values = torch.tensor(singular_values, dtype=torch.float64)
    left, _ = torch.linalg.qr(torch.randn(5, len(values), dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64))
    return left * values @ right.T


def penalty(matrix: Tensor, **settings: Any) -> float:
    z = torch.randn(64, matrix.shape[1], dtype=torch.float64)
    return JacobianClamping(**settings)(lambda z: z @ matrix.T, z, Noise()).item()


def test_zero_if_all_singular_values_lie_within_the_bounds() -> None:
    for values in ((1.001, 3.0, 19.999), (2.0, 2.0, 2.0), (1.001, 1.001, 1.001)):
        assert penalty(linear(*values)) == 0


def test_positive_if_all_lie_outside_on_one_side() -> None:
    for values in ((0.1, 0.5, 0.9), (21.0, 30.0, 100.0)):
        assert penalty(linear(*values)) > 0
    # The bounds are of singular values: the eigenvalues of J^T J of these are 0.81 to 400, and 1.2 to 16.
    assert penalty(linear(4.0, 1.1, 1.2)) == 0


@pytest.mark.parametrize("epsilon", [1.0, 1e-2, 1e-3])
def test_changes_lie_between_the_singular_values_and_scale_as_the_penalty_says(epsilon: float) -> None:
    """A multiple of an isometry changes by that factor in every direction: (0.25 - 1)^2 and (23 - 20)^2."""
    clamping = JacobianClamping(epsilon=epsilon)
    matrix = linear(0.3, 2.0, 7.0)
    z = torch.randn(500, 3, dtype=torch.float64)
    q = clamping.changes(lambda z: z @ matrix.T, z, z @ matrix.T, Noise())
    assert q.shape == (500,)
    assert 0.3 - 1e-3 <= q.min() < 1.5
    assert 5.0 < q.max() <= 7.0 + 1e-3
    assert penalty(linear(0.25, 0.25), epsilon=epsilon) == pytest.approx(0.75**2, rel=1e-6)
    assert penalty(linear(23.0, 23.0), epsilon=epsilon) == pytest.approx(3.0**2, rel=1e-6)


def test_the_norm_is_of_each_example_and_not_of_the_batch() -> None:
    """One example that changes too much is not hidden by others that change little, but within the bounds."""
    factors = torch.tensor([2.0] * 15 + [40.0], dtype=torch.float64)[:, None]
    value = JacobianClamping()(lambda z: factors * z, torch.randn(16, 3, dtype=torch.float64), Noise())
    assert value.item() == pytest.approx(20.0**2 / 16)


def test_a_part_of_the_batch_is_every_nth_example() -> None:
    seen: list[Tensor] = []
    z = torch.randn(10, 3)
    JacobianClamping(fraction=0.25)(lambda z: (seen.append(z), z)[1], z, Noise())
    assert torch.equal(seen[0], z[::4])
    assert seen[1].shape == (3, 3)
    distances = (seen[1] - seen[0]).norm(dim=1)
    torch.testing.assert_close(distances, torch.ones(3))


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.25])
def test_both_codes_of_a_pair_have_the_same_label(fraction: float) -> None:
    module = JacobianClampingGAN(**POINTS, num_classes=3, lambda_min=0.5, lambda_max=0.5, clamp_fraction=fraction)
    labels: list[Tensor] = []
    module.generator.forward = lambda z, condition: (labels.append(condition), (condition[:, None] + 1) * z)[1]
    module.discriminator.forward = lambda x, condition: x.sum(1)
    losses, _ = module.generator_losses(torch.randn(12, 2), torch.zeros(12, dtype=torch.int64), 0)
    drawn, moved = labels
    assert len(set(drawn.tolist())) > 1
    assert torch.equal(moved, drawn[:: round(1 / fraction)])
    # G(z, y) = (y + 1) z changes by y + 1 in every direction.
    expected = (moved + 1 - 0.5).square().mean()
    torch.testing.assert_close(losses["jacobian_clamping"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_running_averages_are_those_of_the_prior(fraction: float) -> None:
    """The second codes have a larger variance, (D + epsilon^2) / D, than samples have."""
    settings: dict[str, Any] = {"shape": [1, 8, 8], "width": 2, "latent_dim": 2, "clamp_epsilon": 3.0}
    module = JacobianClampingGAN(**settings, clamp_fraction=fraction)
    norm = next(layer for layer in module.generator.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm))
    means: list[Tensor] = []
    norm.register_forward_pre_hook(lambda layer, inputs: means.append(inputs[0].detach()))
    before = norm.running_var.clone()
    module.generator_losses(torch.zeros(8, 1, 8, 8), None, 0)
    assert len(means) > 1
    first = means[0].var([n for n in range(means[0].ndim) if n != 1])
    torch.testing.assert_close(norm.running_var, torch.lerp(before, first, norm.momentum))


def test_a_constant_generator_has_a_finite_gradient() -> None:
    weight = torch.zeros(2, 3, requires_grad=True)
    JacobianClamping()(lambda z: z @ weight.T, torch.randn(4, 3), Noise()).backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"lambda_min": 21.0}, r"lambda_min=21\.0.*lambda_max=20\.0"),
        ({"lambda_min": -1.0}, r"lambda_min=-1\.0"),
        ({"jacobian_clamping": 0.0}, r"jacobian_clamping=0\.0"),
        ({"clamp_epsilon": 0.0}, r"clamp_epsilon=0\.0"),
        ({"clamp_epsilon": 1e-6}, "clamp_epsilon=1e-06 must be at least 0.001"),
        ({"clamp_epsilon": float("nan")}, "clamp_epsilon=nan"),
        ({"clamp_epsilon": float("inf")}, "clamp_epsilon=inf"),
        ({"clamp_fraction": 0.0}, r"clamp_fraction=0\.0"),
        ({"clamp_fraction": 0.3}, r"clamp_fraction=0\.3"),
        ({"clamp_fraction": 1.5}, r"clamp_fraction=1\.5"),
    ],
)
def test_settings_without_sense_are_named(settings: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        JacobianClampingGAN(**POINTS, **settings)
