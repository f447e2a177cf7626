"""Penalties on the game's own pass have the values and gradients of those with passes of their own."""

from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules import ComposedGAN, JacobianClampingGAN
from lightning_modules.adversarial import loop
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.networks import growing
from lightning_modules.parts.clamping import JacobianClamping
from lightning_modules.parts.games import NON_SATURATING
from lightning_modules.parts.penalties import roth
from tests.adversarial.tiny_loop import adam

PARTS: dict[str, Any] = {"penalties": {"roth": 0.5, "r1": 0.1}, "jacobian_clamping": 2.0, "lambda_min": 9.0}


def values_and_gradients(module: ComposedGAN, real: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for seed, (network, losses) in enumerate(
        ((module.discriminator, module.discriminator_losses), (module.generator, module.generator_losses))
    ):
        torch.manual_seed(seed)
        module.zero_grad()
        own, others = losses(real, labels, 0)
        torch.stack([*own.values(), *others.values()]).sum().backward()
        found |= (
            own | others | {f"{seed}.{name}": p.grad for name, p in network.named_parameters() if p.grad is not None}
        )
    return found


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("architecture", "fraction"),
    # The last two have batch normalisation. On a part of the batch, passes of their own have statistics of their own.
    [("mlp", 1.0), ("mlp", 0.5), ("dcgan", 1.0), ("resnet", 1.0)],
)
def test_sharing_changes_no_value_and_no_gradient(
    architecture: str, num_classes: int | None, fraction: float, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        module = ComposedGAN(
            shape=[1, 8, 8],
            architecture=architecture,
            width=4,
            num_classes=num_classes,
            clamp_fraction=fraction,
            **PARTS,
        )
        if num_classes is not None:
            module.class_probabilities = torch.ones(3) / 3
        real, labels = torch.rand(8, 1, 8, 8) * 2 - 1, None if num_classes is None else torch.arange(8) % 3
        shared = values_and_gradients(module, real, labels)
        if (
            compiled
        ):  # a compiled network cannot be differentiated twice, so that its penalties have passes of their own
            monkeypatch.setattr(module.discriminator, "_compiled_call_impl", module.discriminator._call_impl)
            monkeypatch.setattr(module.generator, "_compiled_call_impl", module.generator._call_impl)
        else:
            monkeypatch.setattr(loop, "sharing", lambda *arguments: {})
        separate = values_and_gradients(module, real, labels)
    finally:
        torch.set_default_dtype(torch.float32)
    assert shared.keys() == separate.keys()
    assert {"roth", "r1", "jacobian_clamping"} <= shared.keys()
    for name, value in shared.items():
        torch.testing.assert_close(value, separate[name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("fraction", [1.0, 0.25])
@pytest.mark.parametrize("architecture", ["dcgan", "resnet"])
def test_changes_do_not_grow_as_the_codes_approach(architecture: str, fraction: float, shared: bool) -> None:
    """Q is a derivative at small distances; outputs of batches with other statistics differ by a constant over epsilon.

    In batches of two each example moves the statistics a lot.
    """
    q = []
    for epsilon in (1e-2, 1e-3):
        torch.manual_seed(0)
        settings: dict[str, Any] = {"shape": [1, 8, 8], "architecture": architecture, "width": 4, "latent_dim": 4}
        bounds: dict[str, Any] = {"lambda_min": 0.0, "lambda_max": 0.0}  # the penalty is then E Q^2
        module = JacobianClampingGAN(**settings, **bounds, clamp_epsilon=epsilon, clamp_fraction=fraction)
        torch.manual_seed(1)
        with nullcontext() if shared else torch.autocast("cpu", dtype=torch.bfloat16):
            terms = module.generator_losses(torch.zeros(8, 1, 8, 8), None, 0)[0 if shared else 1]
        q.append(terms["jacobian_clamping"])
    torch.testing.assert_close(q[1], q[0], rtol=0.05, atol=0.0)


@pytest.mark.parametrize("architecture", ["dcgan", "resnet"])
def test_q_is_the_change_of_the_output_with_the_code_alone(architecture: str) -> None:
    """Equal to that of the same generator with the statistics of the batch as its running averages."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    settings: dict[str, Any] = {"shape": [1, 8, 8], "architecture": architecture, "width": 4, "latent_dim": 4}
    module = JacobianClampingGAN(**settings, lambda_min=0.0, lambda_max=0.0, clamp_fraction=0.5)
    fixed = deepcopy(module.generator)
    torch.manual_seed(1)
    value = module.generator_losses(torch.zeros(8, 1, 8, 8), None, 0)[0]["jacobian_clamping"]
    torch.manual_seed(1)
    z = torch.randn(8, 4)

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found[layer] = torch.var_mean(inputs[0].detach(), (0, 2, 3), correction=0)

    found: dict[Any, Any] = {}
    hooks = [layer.register_forward_pre_hook(keep) for layer in fixed.modules() if isinstance(layer, nn.BatchNorm2d)]
    fixed(z)
    for layer, (variance, mean) in found.items():
        layer.running_var, layer.running_mean = variance, mean
    for hook in hooks:
        hook.remove()
    fixed.eval()
    clamping = JacobianClamping(0.0, 0.0, 1.0, 0.5)
    assert len(found) > 1
    torch.testing.assert_close(clamping(lambda z: fixed(z), z, module.noise), value)


def test_real_and_generated_images_keep_statistics_of_their_own() -> None:
    """A layer that compares the examples of a batch would otherwise see both in one."""
    torch.manual_seed(0)
    real, values = torch.rand(8, 1, 8, 8), []
    for penalties in ({}, {"roth": (1e-9, roth)}):
        torch.manual_seed(1)
        networks = (growing.Generator([1, 8, 8], 4, 4), growing.Discriminator([1, 8, 8], 4))
        optimizers: dict[str, Any] = {"generator_optimizer": adam, "discriminator_optimizer": adam}
        module = AdversarialModule(*networks, NON_SATURATING, latent_dim=4, penalties=penalties, **optimizers)
        values.append(module.discriminator_losses(real, None, 0)[0]["discriminator"])
    torch.testing.assert_close(values[1], values[0])


def test_which_terms_share_the_pass_of_the_game() -> None:
    module = ComposedGAN(shape=[2], architecture="mlp", width=4, **PARTS)
    own, others = module.discriminator_losses(torch.randn(4, 2), None, 0)
    assert (list(own), list(others)) == (["discriminator", "roth"], ["r1"])
    own, others = module.generator_losses(torch.randn(4, 2), None, 0)
    assert (list(own), list(others)) == (["generator", "jacobian_clamping"], [])
    with torch.autocast("cpu", dtype=torch.bfloat16):  # penalties are in float32
        own, others = module.discriminator_losses(torch.randn(4, 2), None, 0)
        assert (list(own), list(others)) == (["discriminator"], ["roth", "r1"])
        assert all(value.dtype == torch.float32 for value in others.values())
