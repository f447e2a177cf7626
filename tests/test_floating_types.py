"""Modules of any floating-point type sample and measure, and nothing needs float64 on a device that has none.

A fake device stands in for Apple's GPU: operations on it are followed without being computed.
"""

import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lightning_modules
from lightning_modules import EBM, NCE, Gaussian, GaussianMixture
from lightning_modules.autoregressive.emissions import Categorical, IndependentNotes, NADENotes
from lightning_modules.autoregressive.frames_emission import GreyFrames, MixtureFrames
from lightning_modules.autoregressive.strokes_emission import StrokeMixture
from lightning_modules.metrics.image import inception_score, kernel_distance, moments, precision_recall
from lightning_modules.metrics.music_metrics import music_rates
from lightning_modules.metrics.sequence import jensen_shannon, leading_components, nats_in_windows, total_variation
from lightning_modules.parts import precision
from lightning_modules.parts.mcmc import chain_effective_sample_size
from lightning_modules.parts.plane import on_grid
from lightning_modules.parts.precision import in_finest, in_float64, in_single, single_precision
from lightning_modules.parts.quantization import to_uint8
from lightning_modules.runtime.held_out import HeldOutMeans
from tests.test_contract import build, cases, fit, sampled, tiny_data
from tests.test_public_calls import calls_of, module_and_data

TYPES = [torch.float64, torch.bfloat16, torch.float16]
DENSITIES_AND_VIDEO = ("Gaussian", "GaussianMixture", "RBM", "EBM", "NCE", "TeacherForcing", "MixtureDensityRNN")
GENERATIVE = [case for case in cases() if case.values[0] != "Classifier"]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(("name", "kind"), GENERATIVE)
def test_a_module_of_any_floating_type_samples_and_measures(name: str, kind: str, dtype: torch.dtype) -> None:
    module, x = module_and_data(name, kind)
    module.to(dtype)
    samples = sampled(module, 3)
    assert samples.isfinite().all()
    assert samples.shape == x.shape
    calls = calls_of(module)
    for key, call in calls.items():
        if key == "log_prob" and name == "EBM" and kind == "image":
            continue
        for given in (x, samples):  # what it samples lies in its own support
            assert call(module, given).isfinite().all(), key


@pytest.mark.parametrize(("name", "kind"), [case for case in GENERATIVE if case.values[0] in DENSITIES_AND_VIDEO])
def test_densities_and_sequences_train_in_double_precision(name: str, kind: str) -> None:
    data = tiny_data(kind, name)
    trainer = fit(build(name, data), data, precision="64-true")
    assert trainer.global_step == 4


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_classifier_of_any_floating_type_extracts_float32(dtype: torch.dtype) -> None:
    module: Any = build("Classifier", tiny_data("image", "Classifier")).to(dtype)
    features, logits = module.extract(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
    assert features.dtype == logits.dtype == torch.float32


@pytest.mark.parametrize("covariance", ["full", "diagonal", "low_rank"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gaussians_of_half_precision_are_those_of_single_precision(covariance: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    settings: Any = {"shape": [3], "covariance": covariance, "rank": 1 if covariance == "low_rank" else None}
    for module in (Gaussian(**settings), GaussianMixture(**settings, num_components=2)):
        module.to(dtype).float()  # weights that half precision holds
        expected, density = sampled(module, 50), module.log_prob(torch.ones(2, 3))
        module.to(dtype)
        torch.testing.assert_close(sampled(module, 50).float(), expected, atol=0.05, rtol=0.02)
        torch.testing.assert_close(module.log_prob(torch.ones(2, 3)).float(), density, atol=0.1, rtol=0.02)
        assert module.components.covariances().dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["VAE", "IWAE", "LadderVAE", "PixelCNNPlusPlus"])
def test_likelihoods_of_grey_values_of_half_precision_are_those_of_single_precision(
    name: str, dtype: torch.dtype
) -> None:
    """White is not the highest value of half precision; a rounded grey value is the nearest, not one of mass zero."""
    torch.manual_seed(0)
    rounded = build(name, tiny_data("image", name)).to(dtype)
    exact = deepcopy(rounded).float()
    x = torch.linspace(0, 255, 28 * 28).round().view(1, 1, 28, 28) / 127.5 - 1
    found: Any = [(calls_of(module), module) for module in (rounded, exact)]
    for key in {"log_prob", "elbo", "log_prob_bound"} & set(found[0][0]):
        ours, theirs = (calls[key](module, x) for calls, module in found)
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0)


def test_grey_values_stay_on_their_grid_in_half_precision() -> None:
    for name, kind in (("PixelCNNPlusPlus", "image"), ("VAE", "image"), ("TeacherForcing", "video")):
        samples = sampled(build(name, tiny_data(kind, name)).bfloat16(), 2)
        assert samples.dtype == torch.float32
        levels = (samples if kind == "video" else (samples + 1) / 2) * 255
        assert (levels - levels.round()).abs().max() < 1e-3


# Devices without float64


APPLE = torch.device("meta")


class WithoutFloat64(TorchDispatchMode):
    """Raises where a tensor of the fake device becomes float64; a copy to the CPU is a tensor of ones."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("device") == torch.device("cpu"):
            return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        out = func(*args, **kwargs)
        for tensor in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.device == APPLE and tensor.dtype == torch.float64:
                raise TypeError(f"{func} makes a float64 tensor on a device that has none.")
        return out


def on_apple(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, device=APPLE)


def on_apple_too(emission: torch.nn.Module) -> Any:
    return emission.to(APPLE)


ROWS, FEATURES = (20, 4), (2, 5, 8)
ON_APPLE: dict[str, Callable[[], Any]] = {
    "moments": lambda: moments(on_apple(*ROWS)),
    "inception score": lambda: inception_score(on_apple(*ROWS)),
    "kernel distance": lambda: kernel_distance(on_apple(*ROWS), on_apple(*ROWS), 10),
    "precision and recall": lambda: precision_recall(on_apple(*ROWS), on_apple(*ROWS)),
    "leading components": lambda: leading_components([on_apple(*FEATURES)], 2),
    "nats in windows": lambda: nats_in_windows(lambda part: part.float(), on_apple(9), 4),
    "effective sample size": lambda: chain_effective_sample_size(on_apple(6, 3)),
    "grid": lambda: on_grid(lambda points: points.sum(1), APPLE, 4.0, 10),
    "pixels": lambda: to_uint8(on_apple(2, 1, 4, 4), (-1.0, 1.0)),
    "tokens": lambda: on_apple_too(Categorical(5, 3, 8)).sample(on_apple(*FEATURES), on_apple, 1.0, 2, 0.5),
    "notes": lambda: on_apple_too(IndependentNotes(6, 3, 8)).sample(on_apple(*FEATURES), on_apple),
    "nade": lambda: on_apple_too(NADENotes(6, 3, 8, 4)).sample(on_apple(*FEATURES), on_apple),
    "frames": lambda: on_apple_too(GreyFrames(1, 4, 4, 8)).sample(on_apple(2, 1, 8, 2, 2), on_apple),
    "mixed frames": lambda: on_apple_too(MixtureFrames(1, 4, 4, 8)).sample(on_apple(2, 1, 8, 2, 2), on_apple),
    "strokes": lambda: on_apple_too(StrokeMixture(3, 8)).sample(on_apple(*FEATURES), on_apple),
    "held-out means": lambda: HeldOutMeans().add({"x": on_apple(5), "y": (on_apple(5), on_apple(5))}),
}
"""What is computed from tensors of the fake device."""
STOPS = {"leading components"}
"""What refuses the ones of the fake copy: features that do not vary."""


@pytest.mark.parametrize("name", ON_APPLE)
def test_nothing_becomes_float64_on_a_device_that_has_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "WITHOUT_FLOAT64", ("meta",))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it does not know the fake device
    with WithoutFloat64():
        if name in STOPS:
            with pytest.raises(ValueError, match="vary"):
                ON_APPLE[name]()
        else:
            ON_APPLE[name]()


def test_the_fake_device_has_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    with WithoutFloat64():
        with pytest.raises(TypeError, match="float64"):
            on_apple(2).double()
        with pytest.raises(TypeError, match="float64"):
            in_float64(on_apple(2))  # unless it is known
        monkeypatch.setattr(precision, "WITHOUT_FLOAT64", ("meta",))
        assert in_float64(on_apple(2)).device.type == "cpu"
        assert in_finest(on_apple(2)).dtype == torch.float32
        assert in_single(on_apple(2).half()).dtype == torch.float32
    monkeypatch.undo()
    assert not precision.has_float64(torch.device("mps"))
    assert precision.has_float64(torch.device("cuda"))


def test_sums_of_a_device_without_float64_are_those_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    values, weights = 1000 + torch.randn(103), torch.randint(0, 5, (103,)).float()
    found = []
    for missing in ((), ("cpu",)):
        monkeypatch.setattr(precision, "WITHOUT_FLOAT64", missing)
        means = HeldOutMeans()
        for value, weight in zip(values.split(10), weights.split(10), strict=True):
            means.add({"plain": value, "weighted": (value, weight), "whole": (value > 1000, weight.long())})
        assert bool(means.sums) != bool(missing)
        found.append(means.reduced(torch.device("cpu")))
    for name, mean in found[0].items():
        assert found[1][name] == pytest.approx(mean, rel=1e-13)


def test_statistics_of_a_device_without_float64_are_those_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    p, q, rolls = torch.rand(9), torch.rand(9), (torch.rand(3, 5, 88) < 0.1).float()
    x = torch.randn(60, 3)
    found = []
    for missing in ((), ("cpu",)):
        monkeypatch.setattr(precision, "WITHOUT_FLOAT64", missing)
        gaussian = Gaussian(shape=[3], covariance="low_rank", rank=1)
        torch.manual_seed(0)
        gaussian.fit_closed_form([x])
        mixture = GaussianMixture(shape=[3], num_components=2)
        history = mixture.fit_em([x], iterations=2)
        rates = music_rates(rolls, torch.full((3,), 5))
        found.append([jensen_shannon(p, q), total_variation(p, q), *rates.values(), *history])
    assert found[0] == found[1]


ALLOWED = {
    "parts/precision.py": 3,  # the one place where it is decided
    "runtime/held_out.py": 3,  # asks before, or on the CPU
    "energy/partition.py": 2,  # after ``cpu()``
    "parts/clustering.py": 1,  # after ``cpu()``
    "metrics/sequence.py": 2,  # after the move to where float64 is
    "rendering/stroke_drawings.py": 1,  # after ``cpu()``
}
"""Number of conversions to float64 by ``double()`` in each file, which must not be on a device without float64."""


def test_float64_is_asked_for_in_one_place() -> None:
    root = Path(lightning_modules.__file__).parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        count = len(re.findall(r"\.double\(\)", path.read_text(encoding="utf-8")))
        if count:
            found[path.relative_to(root).as_posix()] = count
    assert found == ALLOWED


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_integrals_over_the_plane_are_summed_in_single_precision(dtype: torch.dtype) -> None:
    module = EBM(shape=[2], architecture="mlp", width=4).to(dtype)
    exact = deepcopy(module).float()
    types: set[torch.dtype] = set()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    module.network.register_forward_hook(lambda network, given, value: types.add(value.dtype))
    with single_precision(module), torch.no_grad():
        assert module.unchecked_energy(torch.zeros(3, 2)).dtype == torch.float32
        assert torch.equal(module.unchecked_energy(torch.ones(3, 2)), exact.unchecked_energy(torch.ones(3, 2)))
    assert types == {torch.float32}
    assert {key: value.dtype for key, value in before.items()} == {k: v.dtype for k, v in module.state_dict().items()}
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    found: list[torch.dtype] = []
    module.unchecked_energy = lambda x: found.append(x.dtype) or x.float().square().sum(1)  # type: ignore
    log_z = module.known_log_partition().log_partition
    assert set(found) == {torch.float32}
    assert math.isclose(log_z, math.log(math.pi), abs_tol=1e-4)
    module.begin_held_out("test")
    assert set(found) == {torch.float32}
    nce = NCE(shape=[2], architecture="mlp", width=4).to(dtype)
    nce.unchecked_log_prob = lambda x: found.append(x.dtype) or x.float().sum(1)  # type: ignore
    nce.begin_held_out("test")
    assert set(found) == {torch.float32}
