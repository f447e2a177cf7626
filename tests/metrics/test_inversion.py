"""Inversion: exact preimages of a linear generator, and the same codes whatever else is asked for."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules import METHODS, VAE, WGANGP
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.metrics.inversion import invert
from lightning_modules.parts.capabilities import HasGenerator
from tests.captioned import condition_for, needed
from tests.metrics.linear_generator import LATENT, linear_gan

GANS = [name for name, method in METHODS.items() if issubclass(method, AdversarialModule)]


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("num_classes", [None, 3])
def test_the_preimage_of_a_linear_generator_is_found(num_classes: int | None) -> None:
    """Errors of codes are within 1e-3; the code is then known to three digits (measured: 4e-5 or less)."""
    module = linear_gan(num_classes)
    z = torch.randn(6, LATENT, generator=source())
    labels = None if num_classes is None else torch.arange(6) % num_classes
    found = invert(module, module.decode(z, labels=labels), labels=labels, starts=2, steps=600, generator=source(1))
    torch.testing.assert_close(found.codes, z, atol=1e-3, rtol=0)
    assert found.errors.max() < 1e-6


def test_what_cannot_be_made_keeps_the_error_of_the_nearest_that_can() -> None:
    module = linear_gan()
    matrix, offset = module.generator.matrix.detach(), module.generator.offset.detach()  # type: ignore[union-attr]
    x = 0.3 * torch.randn(4, 12, generator=source()).clamp(-1, 1)
    target: Any = (x - offset).T
    codes = torch.linalg.lstsq(matrix, target).solution
    least = (matrix @ codes - target).square().mean(0)
    found = invert(module, x.view(4, 1, 3, 4), starts=2, steps=600, generator=source(1))
    torch.testing.assert_close(found.errors, least, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.codes, codes.T, atol=2e-3, rtol=0)


def test_errors_are_those_of_the_codes_and_no_more_starts_make_them_worse() -> None:
    module = WGANGP(shape=(1, 28, 28), width=2, latent_dim=4)
    x = module.sample(3, generator=source())
    found = [invert(module, x, starts=starts, steps=5, generator=source(7)) for starts in (1, 4)]
    for codes, errors in found:
        assert codes.shape == (3, 4)
        torch.testing.assert_close((module.decode(codes) - x).square().flatten(1).mean(1), errors)
    again = invert(module, x, starts=4, steps=5, generator=source(7))
    assert torch.equal(again.codes, found[1].codes)
    further = invert(module, x, starts=4, steps=40, generator=source(7))
    assert (further.errors <= found[1].errors).all()


def test_examples_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    module = linear_gan()
    x = module.decode(torch.randn(5, LATENT, generator=source()))
    together = invert(module, x, starts=3, steps=50, generator=source(2))
    monkeypatch.setattr("lightning_modules.metrics.inversion.ROWS", 6)
    apart = invert(module, x, starts=3, steps=50, generator=source(2))
    torch.testing.assert_close(apart.codes, together.codes, atol=1e-5, rtol=0)


def test_nothing_of_the_module_or_the_random_state_changes() -> None:
    module = linear_gan()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    x = torch.zeros(2, 1, 3, 4, requires_grad=True)
    state = torch.get_rng_state()
    with torch.inference_mode():
        found = invert(module, torch.zeros(2, 1, 3, 4), starts=2, steps=3)
    invert(module, x, starts=2, steps=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    assert module.generator.norm.training  # type: ignore[union-attr]
    assert all(parameter.grad is None for parameter in module.parameters())
    assert x.grad is None
    assert not found.codes.requires_grad
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", GANS)
@pytest.mark.parametrize("num_classes", [None, 2])
def test_every_gan_can_be_inverted(name: str, num_classes: int | None) -> None:
    settings: dict[str, Any] = {"width": 4, "latent_dim": 3, "num_classes": num_classes, **needed(name)}
    has_mlp = "architecture" in inspect.signature(METHODS[name]).parameters
    settings |= {"architecture": "mlp"} if has_mlp else {}
    settings["shape"] = (2,) if has_mlp and "points" in METHODS[name].kinds else (1, 8, 8)
    module: Any = METHODS[name](**settings)
    assert isinstance(module, HasGenerator)
    labels = condition_for(module, 2)
    x = module.decode(torch.randn(2, 3, generator=source()), labels=labels)
    start = invert(module, x, labels=labels, starts=1, steps=1, generator=source(3))
    end = invert(module, x, labels=labels, starts=4, steps=100, generator=source(3))
    assert end.errors.sum() < 0.5 * start.errors.sum()


@pytest.mark.parametrize(
    ("x", "settings", "match"),
    [
        (torch.zeros(1, 3, 4), {}, "batch dimension"),
        (torch.zeros(2, 1, 4, 4), {}, r"\[1, 4, 4\]"),
        (torch.full((2, 1, 3, 4), float("nan")), {}, "NaN"),
        ([0.0], {}, "tensor, not list"),
        (torch.zeros(2, 1, 3, 4), {"labels": torch.zeros(2, dtype=torch.int64)}, "unconditional"),
        (torch.zeros(2, 1, 3, 4), {"starts": 0}, "starts=0"),
        (torch.zeros(2, 1, 3, 4), {"steps": 1.5}, r"steps=1\.5"),
        (torch.zeros(2, 1, 3, 4), {"lr": 0.0}, r"lr=0\.0"),
        (torch.full((2, 1, 3, 4), 2.0), {}, r"\[-1, 1\].*spans \[2, 2\]"),
    ],
)
def test_what_is_no_batch_of_its_data_is_refused(x: Tensor, settings: dict[str, Any], match: str) -> None:
    module = linear_gan()
    module.hparams["shape"] = [1, 3, 4]
    with pytest.raises(ValueError, match=match):
        invert(module, x, **settings)


def test_a_model_that_has_diverged_is_refused() -> None:
    module = linear_gan(matrix=torch.full((12, LATENT), float("nan")))
    with pytest.raises(ValueError, match="NaN or infinite.*for 2 of 2 examples: the model has diverged"):
        invert(module, torch.zeros(2, 1, 3, 4), starts=2, steps=2)


def test_labels_of_a_conditional_model_are_needed() -> None:
    with pytest.raises(ValueError, match=r"labels.*\(2,\)"):
        invert(linear_gan(3), torch.zeros(2, 1, 3, 4))


def test_a_model_without_a_generator_is_refused() -> None:
    with pytest.raises(TypeError, match="VAE lacks"):
        invert(VAE(shape=(1, 28, 28), width=2), torch.zeros(1, 1, 28, 28))
