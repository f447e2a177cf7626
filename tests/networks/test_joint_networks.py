"""Encoders and discriminators of pairs, of every architecture."""

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from lightning_modules.networks import ARCHITECTURES, architecture
from lightning_modules.networks.joint_networks import gaussian_encoder, pair_discriminator
from tests.networks.test_architectures import PAIRS


@pytest.mark.parametrize(("name", "shape"), PAIRS)
def test_shapes_and_gradients(name: str, shape: tuple[int, ...]) -> None:
    build = architecture(name, shape)
    encoder, discriminator = (make(build, shape, 3, 2) for make in (gaussian_encoder, pair_discriminator))
    x, z = torch.randn(4, *shape), torch.randn(4, 3)
    parameters, logits = encoder(x), discriminator(x, z)
    assert (parameters.shape, logits.shape) == ((4, 6), (4,))
    (parameters.square().sum() + logits.square().sum()).backward()
    for network in (encoder, discriminator):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(("name", "shape"), PAIRS)
def test_a_logit_depends_on_both_parts_of_its_own_pair_alone(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    discriminator = pair_discriminator(architecture(name, shape), shape, 3, 2)
    for layer in discriminator.modules():  # small at the start, so that little is seen of the examples
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    x, z = torch.randn(4, *shape, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    for gradient in torch.autograd.grad(discriminator(x, z)[0], (x, z)):
        assert gradient[0].abs().sum() > 0
        assert gradient[1:].abs().sum() == 0


@pytest.mark.parametrize(("name", "shape"), [("mlp", (2,)), *((name, (1, 28, 28)) for name in ARCHITECTURES)])
def test_it_learns_which_code_belongs_to_which_example(name: str, shape: tuple[int, ...]) -> None:
    """Exclusive or of the signs of x and z, which no sum of a function of x and one of z tells."""
    torch.manual_seed(0)
    discriminator = pair_discriminator(architecture(name, shape), shape, 1, 8)
    signs = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    x = signs[:, 0].view(4, *len(shape) * [1]).expand(4, *shape)
    optimizer = torch.optim.Adam(discriminator.parameters(), 2e-3)
    for _ in range(150):
        optimizer.zero_grad()
        softplus(-signs.prod(1) * discriminator(x, signs[:, 1:])).mean().backward()
        optimizer.step()
    assert ((discriminator(x, signs[:, 1:]) > 0) == (signs.prod(1) > 0)).all()


@pytest.mark.parametrize(("name", "shape"), PAIRS)
def test_the_layers_before_the_head_are_those_of_the_discriminator(name: str, shape: tuple[int, ...]) -> None:
    build = architecture(name, shape)
    trunks = [
        {key: value.shape for key, value in network.state_dict().items() if not key.startswith("head.")}
        for network in (
            build.discriminator(shape, 2, None, False),
            gaussian_encoder(build, shape, 3, 2),
            pair_discriminator(build, shape, 3, 2),
        )
    ]
    assert trunks[0]
    assert trunks[0] == trunks[1] == trunks[2]
