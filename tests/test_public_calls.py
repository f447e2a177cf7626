"""What every public density, energy, bound and code refuses, in the same words for all methods.

The calls are tried on every method and every kind of its data, as ``test_contract`` builds them.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules import METHODS, NCE, RBM, VAE, Gaussian, PixelCNNPlusPlus, TeacherForcing
from lightning_modules.base import ZooModule
from lightning_modules.latent.latent_variable import LatentVariableModule
from lightning_modules.latent.observation import Bernoulli
from tests.test_contract import build, cases, tiny_data

CALLS: dict[str, Callable[[Any, Any], Tensor]] = {
    "log_prob": lambda m, x: m.log_prob(x),
    "joint_log_prob": lambda m, x: m.joint_log_prob(x),
    "responsibilities": lambda m, x: m.posterior(x),
    "log_ratio": lambda m, x: m.log_ratio(x),
    "energy": lambda m, x: m.energy(x),
    "free_energy": lambda m, x: m.free_energy(x),
    "joint_energy": lambda m, x: m.joint_energy(x, torch.zeros(len(x), m.num_hidden)),
    "potential": lambda m, x: m.potential(x),
    "pseudo_nll": lambda m, x: m.pseudo_nll(x, torch.zeros(len(x), 1, dtype=torch.int64)),
    "reverse_log_likelihood": lambda m, x: m.reverse_log_likelihood(x, 2).log_likelihood,
    "elbo": lambda m, x: m.elbo(x, generator=torch.Generator().manual_seed(0)),
    "log_prob_bound": lambda m, x: m.log_prob_bound(x, 2, generator=torch.Generator().manual_seed(0)),
    "encode": lambda m, x: m.encode(x),
    "reconstruct": lambda m, x: m.reconstruct(x),
    "style_posterior": lambda m, x: m.style_posterior(x),
    "complete": lambda m, x: m.complete(x, 28),
    "continue_sequence": lambda m, x: m.continue_sequence(x, 1, generator=torch.Generator().manual_seed(0)),
}
OTHER_SIZE: dict[str, Callable[[Tensor], Tensor]] = {
    "image": lambda x: torch.nn.functional.pad(x, (2, 2, 2, 2)),
    "points": lambda x: x[:, :1],
    "tokens": lambda x: x[..., None],
    "piano_roll": lambda x: x[..., :40],
    "strokes": lambda x: x[..., :2],
    "video": lambda x: x[..., :4],
}
DENSITIES = [case for case in cases() if case.values[0] != "Classifier" and "GAN" not in str(case.values[0])]


BY_TABLE = {"Categorical"}
"""Methods that look values up in a table, so that there is no gradient by these."""


def with_value(x: Tensor, value: float) -> Tensor:
    """Returns a copy whose last value is another one, in floating point."""
    changed = x.float()
    changed.view(-1)[-1] = value
    return changed


def module_and_data(name: str, kind: str, **overrides: Any) -> tuple[Any, Tensor]:
    """Returns a method and three valid examples."""
    data = tiny_data(kind, name)
    data.prepare_data()
    data.setup("fit")
    return build(name, data, **overrides), next(iter(data.train_dataloader())).x[:3]


def calls_of(module: ZooModule) -> dict[str, Callable[[Any, Any], Tensor]]:
    """Returns the public calls that a module has."""
    found = {key: call for key, call in CALLS.items() if hasattr(module, key)}
    if hasattr(module, "joint_log_prob"):
        found["responsibilities"] = CALLS["responsibilities"]
    return found


def refusals(module: ZooModule, x: Any) -> dict[str, str]:
    """Returns what each call says; all must refuse."""
    said = {}
    for key, call in calls_of(module).items():
        try:
            call(module, x)
        except ValueError as error:
            said[key] = str(error)
        else:
            said[key] = "accepted"
    return said


def check_refused(module: ZooModule, x: Any, pattern: str) -> str:
    """Asserts that all calls refuse with one sentence that fits; returns it without the name of the method."""
    said = refusals(module, x)
    assert said
    assert len(set(said.values())) == 1, said
    sentence = next(iter(said.values()))
    assert sentence.startswith(f"{type(module).__name__}: ")
    assert re.search(pattern, sentence), sentence
    return sentence.partition(": ")[2]


FORMS: dict[str, tuple[Callable[[Tensor, str], Any], str]] = {
    "a list": (lambda x, kind: x.tolist(), "tensor.*list"),
    "an array": (lambda x, kind: x.numpy(), "tensor.*ndarray"),
    "one example": (lambda x, kind: x[0], r"batch dimension.*x\[None\]"),
    "none": (lambda x, kind: x[:0], "empty"),
    "another size": (lambda x, kind: OTHER_SIZE[kind](x), r"built for (step_)?shape=.*but a batch"),
    "NaN": (lambda x, kind: with_value(x, math.nan), "nan.*NaN or infinite"),
    "infinity": (lambda x, kind: with_value(x, -math.inf), "-inf.*NaN or infinite"),
    "complex": (lambda x, kind: x.to(torch.complex64), "real numbers.*complex64"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", OTHER_SIZE)
def test_a_form_that_is_no_batch_is_refused_in_the_same_words_by_all(form: str, kind: str) -> None:
    make, pattern = FORMS[form]
    sentences = set()
    for name in [case.values[0] for case in DENSITIES if case.values[1] == kind]:
        module, x = module_and_data(str(name), kind)
        sentences.add(check_refused(module, make(x, kind), pattern))
    assert len(sentences) == 1


@pytest.mark.parametrize(("name", "kind"), [case for case in DENSITIES if case.values[1] == "image"])
def test_a_flattened_picture_is_refused(name: str, kind: str) -> None:
    module, x = module_and_data(name, kind)
    check_refused(module, x.flatten(1), r"shape=\[1, 28, 28\].*\[784\]")


@pytest.mark.parametrize(("name", "kind"), [case for case in DENSITIES if case.values[1] != "points"])
def test_values_outside_of_the_support_are_refused(name: str, kind: str) -> None:
    module, x = module_and_data(name, kind)
    wrong: dict[str, tuple[Tensor, str]] = {
        "image": (((x + 1) * 127.5).round(), r"255|1\.0|\b\d{2,3}\b"),
        "tokens": (x + module.data_spec.shape[0] * 100, "symbols"),
        "piano_roll": (64 * x, r"\b64\b.*velocity"),
        "strokes": (torch.cat([x[..., :2], 5 * torch.ones_like(x[..., :1])], -1), r"\b5\b"),
        "video": (255 * x, r"v / 255"),
    }
    check_refused(module, *wrong[kind])


@pytest.mark.parametrize("name", ["RBM", "VAE", "LadderVAE", "PixelCNNPlusPlus"])
def test_greys_are_no_bits(name: str) -> None:
    settings = {"likelihood": "bernoulli"} if name != "RBM" else {}
    small = {"num_hidden": 4} if name == "RBM" else {"width": 2}
    module = METHODS[name](**settings, **small)
    for grey in (0.5, 1 / 255, 255.0, -1.0):
        check_refused(module, torch.full((2, 1, 28, 28), grey), rf"{{0, 1}}.*{grey:.4g}")


@pytest.mark.parametrize("name", ["VAE", "IWAE", "LadderVAE", "PixelCNNPlusPlus"])
def test_what_is_none_of_256_grey_values_is_refused(name: str) -> None:
    module = METHODS[name](likelihood="discretized_logistic_mixture", width=2)
    levels = torch.arange(256).float()
    x = (levels / 127.5 - 1).repeat(4)[:784].view(1, 1, 28, 28)
    assert calls_of(module)
    for call in calls_of(module).values():
        assert call(module, x).isfinite().all()
    unit, dequantized = levels / 255, 2 * (levels + 0.3) / 256 - 1
    for wrong in (unit, dequantized, levels):
        check_refused(module, wrong.repeat(4)[:784].view(1, 1, 28, 28), "256 grey values")


@pytest.mark.parametrize("name", ["Gaussian", "GaussianMixture", "NCE", "EBM"])
def test_pictures_outside_of_the_range_are_refused_by_densities(name: str) -> None:
    module, x = module_and_data(name, "image")
    check_refused(module, 2 * x, r"\[-1, 1\].*spans")


@pytest.mark.parametrize(("name", "kind"), DENSITIES)
def test_valid_data_of_other_types_give_the_same_values(name: str, kind: str) -> None:
    module, x = module_and_data(name, kind)
    types = [torch.float64]
    if kind == "tokens":
        types = [torch.uint8, torch.int16, torch.int32, torch.uint16]
    elif x.unique().tolist() == [0.0, 1.0]:
        types += [torch.uint8, torch.int64]
    for key, call in calls_of(module).items():
        if key == "log_prob" and name == "EBM" and kind == "image" or key == "reverse_log_likelihood":
            continue
        expected = call(module, x)
        for dtype in types:
            found = call(module, x.to(dtype))
            assert found.dtype == expected.dtype
            torch.testing.assert_close(found, expected, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize(("name", "kind"), DENSITIES)
def test_truth_values_are_no_data_in_a_call_as_in_training(name: str, kind: str) -> None:
    module, x = module_and_data(name, kind)
    values = x > 0
    for call in calls_of(module).values():
        with pytest.raises(ValueError, match=rf"{name}: .*torch\.bool"):
            call(module, values)
    with pytest.raises(ValueError, match=rf"{name}: .*torch\.bool"):
        module.check_batch(module.converted(values))


@pytest.mark.parametrize(("name", "kind"), DENSITIES)
def test_modes_are_those_of_before_and_gradients_reach_the_data(name: str, kind: str) -> None:
    module, x = module_and_data(name, kind)
    module.train()
    for key, call in calls_of(module).items():
        if not (key == "log_prob" and name == "EBM" and kind == "image"):
            call(module, x)
        assert all(part.training for part in module.modules()), key
    if name == "Bernoulli":  # which starts as the uniform distribution, that no gradient leads away from
        module.eta.data.add_(1)
    for key in ("log_prob", "energy"):
        if (
            kind == "tokens"
            or name in BY_TABLE
            or not hasattr(module, key)
            or (key == "log_prob" and name == "EBM" and kind == "image")
        ):
            continue
        leaf = x.clone().requires_grad_()
        CALLS[key](module, leaf).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.abs().sum() > 0


def test_a_module_of_two_given_networks_checks_the_shape_of_its_observation() -> None:
    given = VAE(latent_dim=2, hidden=3)
    module = LatentVariableModule(
        given.encoder,
        given.decoder,
        Bernoulli((1, 28, 28)),
        objective=given.objective_of,
        latent_dim=2,
        optimizer=given.build_optimizer,
    )
    check_refused(module, torch.zeros(2, 1, 32, 32), r"shape=\[1, 28, 28\]")


def test_pixels_that_are_not_known_may_hold_anything() -> None:
    module = PixelCNNPlusPlus(shape=[1, 4, 4], likelihood="bernoulli", width=2, num_scales=1)
    x = torch.ones(2, 1, 4, 4)
    x[:, :, 2:] = math.nan
    completed = module.complete(x, 2, generator=torch.Generator().manual_seed(0))
    assert set(completed.unique().tolist()) <= {0.0, 1.0}
    assert module.complete(x, 0).isfinite().all()
    with pytest.raises(ValueError, match="nan"):
        module.complete(x, 3)


def test_a_prefix_may_be_empty_but_there_must_be_one() -> None:
    module = TeacherForcing(width=4, vocabulary_size=5, length=3)
    for dtype in (torch.int64, torch.float32, torch.bool):
        assert module.continue_sequence(torch.zeros(2, 0, dtype=dtype), 3).shape == (2, 3)
    with pytest.raises(ValueError, match="empty"):
        module.continue_sequence(torch.zeros(0, 2, dtype=torch.int64), 3)
    with pytest.raises(ValueError, match=r"x\[None\]"):
        module.continue_sequence(torch.tensor([1, 2]), 3)
    roll = TeacherForcing(width=4, vocabulary_size=None, step_shape=[88], length=3)
    assert roll.continue_sequence(torch.zeros(2, 0, 88, dtype=torch.uint8), 3).dtype == torch.float32
    with pytest.raises(ValueError, match=r"step_shape=\[88\]"):
        roll.continue_sequence(torch.zeros(2, 0), 3)


def test_lengths_are_whole_numbers_of_steps_that_are_there() -> None:
    module = TeacherForcing(width=4, vocabulary_size=5, length=3)
    x = torch.zeros(2, 3, dtype=torch.int64)
    assert module.log_prob(x, torch.tensor([3, 1], dtype=torch.uint8)).shape == (2,)
    assert torch.equal(module.log_prob(x, [3, 3]), module.log_prob(x))  # type: ignore[arg-type]
    for lengths in (torch.tensor([3, 4]), torch.tensor([0, 1]), torch.tensor([-1, 1]), torch.tensor([1])):
        with pytest.raises(ValueError, match=r"lengths in 1\.\.3"):
            module.log_prob(x, lengths)
    with pytest.raises(ValueError, match="lengths.*float32"):
        module.log_prob(x, torch.tensor([1.0, math.nan]))


def test_hidden_states_and_codes_are_checked_like_data() -> None:
    module = RBM(shape=[1, 2, 3], num_hidden=4)
    grey = torch.full((2, 4), 0.5)
    for wrong, pattern in ((torch.zeros(2, 5), "num_hidden"), (grey, r"0\.5"), (torch.zeros(4), "batch dimension")):
        with pytest.raises(ValueError, match=pattern):
            module.hidden_free_energy(wrong)
    with pytest.raises(ValueError, match="3 examples.*2 hidden"):
        module.joint_energy(torch.zeros(3, 1, 2, 3), torch.zeros(2, 4))
    for name in ("VAE", "WGAN"):
        decoder: Any = METHODS[name](**{"latent_dim": 4, "width": 2})
        for wrong in (torch.zeros(2, 3), torch.zeros(4), torch.full((2, 4), math.nan), torch.zeros(0, 4)):
            with pytest.raises(ValueError, match=f"{name}: "):
                decoder.decode(wrong)
    vae = VAE(latent_dim=4)
    with pytest.raises(ValueError, match="latent_dim"):
        vae.interpolate(torch.zeros(2, 4), torch.zeros(2, 3), 3)
    with pytest.raises(ValueError, match="latent_dim"):
        vae.traverse(torch.zeros(2, 3), 0, torch.zeros(2))


def test_noise_of_contrastive_estimation_may_leave_the_range_of_images() -> None:
    """Noise is not clipped, and the density is defined on the whole space: only callers are refused."""
    module = NCE(shape=[1, 4, 4], architecture="mlp", width=2, noise_density=Gaussian([1, 4, 4]))
    noise = module.draw_noise(module.noise, 64)
    assert noise.abs().max() > 1
    assert module.classification_losses(noise, noise)["data"].isfinite()
    assert module.unchecked_energy(noise).isfinite().all()
