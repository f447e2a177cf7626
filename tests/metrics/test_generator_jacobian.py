"""The Jacobian of a generator: closed forms, finite differences, and the condition number as a figure of a run."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from lightning_modules import SNGAN, VAE, WGANGP, ProgressiveGAN
from lightning_modules.callbacks import EMA, GeneratorConditioning
from lightning_modules.metrics.generator_jacobian import (
    RESOLUTION,
    condition_numbers,
    evaluate_conditioning,
    generator_jacobian,
    jacobian_spectrum,
)
from tests.metrics.linear_generator import LATENT, SHAPE, linear_gan
from tests.standins import quiet_trainer
from tests.training import TinyData


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("num_classes", [None, 3])
def test_the_spectrum_of_a_linear_generator_is_that_of_its_matrix(num_classes: int | None) -> None:
    module = linear_gan(num_classes)
    matrix: Tensor = module.generator.matrix.detach()  # type: ignore[union-attr,assignment]
    spectrum = jacobian_spectrum(module, 7, generator=source())
    expected = torch.linalg.svdvals(matrix.double())
    torch.testing.assert_close(spectrum, expected.expand(7, LATENT), rtol=1e-5, atol=0)
    value = evaluate_conditioning(module, num_codes=7)["test/log_condition_number-7"]
    assert value == pytest.approx(torch.linalg.cond(matrix.T @ matrix).log().item(), rel=1e-5)
    assert value == pytest.approx(2 * math.log(3.0), rel=1e-5)  # the stretches are 0.1 to 0.3
    assert module.training


@pytest.mark.parametrize("num_classes", [None, 2])
def test_it_is_the_limit_of_differences(num_classes: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Jacobian whose singular values are the right side of eq. 1.45."""
    module = SNGAN(shape=(1, 28, 28), width=2, latent_dim=3, num_classes=num_classes).double()
    z = module.sample_latent(4, generator=source()).double()
    labels = None if num_classes is None else torch.tensor([0, 1, 1, 0])
    jacobian = generator_jacobian(module, z, labels=labels)
    assert jacobian.shape == (4, 3, 1, 28, 28)
    for dimension, step in enumerate(1e-6 * torch.eye(3, dtype=torch.float64)):
        change = module.decode(z + step, labels=labels) - module.decode(z - step, labels=labels)
        torch.testing.assert_close(jacobian[:, dimension], change / 2e-6, atol=1e-7, rtol=1e-5)
    monkeypatch.setattr("lightning_modules.metrics.generator_jacobian.ROWS", 3)
    torch.testing.assert_close(generator_jacobian(module, z, labels=labels), jacobian)


def test_along_an_eigenvector_the_change_is_the_root_of_its_eigenvalue() -> None:
    """Eq. 1.45 for every eigenvector of the metric tensor; in other directions the quotient is between the extremes."""
    module = SNGAN(shape=(1, 28, 28), width=2, latent_dim=3).double()
    z = module.sample_latent(1, generator=source()).double()
    jacobian = generator_jacobian(module, z)[0].flatten(1).T
    eigenvalues, vectors = torch.linalg.eigh(jacobian.T @ jacobian)

    def quotient(direction: Tensor, size: float) -> float:
        change = module.decode(z + size * direction) - module.decode(z)
        return (change.norm() / (size * direction.norm())).item()

    stretches = eigenvalues.clamp(min=0).sqrt()
    for stretch, vector in zip(stretches, vectors.T, strict=True):
        assert quotient(vector, 1e-6) == pytest.approx(stretch.item(), abs=1e-5 * stretches[-1].item())
    assert quotient(vectors[:, -1], 10) != pytest.approx(stretches[-1].item(), rel=1e-3)  # it is a limit
    for direction in torch.randn(20, 3, generator=source()).double():
        assert stretches[0] * (1 - 1e-4) < quotient(direction, 1e-6) < stretches[-1] * (1 + 1e-4)


def test_a_direction_that_changes_nothing_counts_as_the_resolution() -> None:
    matrix = 0.1 * torch.eye(12)[:, :2]
    matrix[:, 1] = 0
    spectrum = jacobian_spectrum(linear_gan(matrix=matrix), 3, generator=source())
    assert condition_numbers(spectrum).tolist() == pytest.approx([-2 * math.log(RESOLUTION)] * 3)
    nothing = linear_gan(matrix=torch.zeros(12, 2))
    with pytest.raises(ValueError, match="at a code are zero"):
        evaluate_conditioning(nothing, num_codes=2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("module", [linear_gan, lambda: ProgressiveGAN((1, 8, 8), 3, 2, growth_steps=0)])
def test_a_generator_that_has_diverged_is_named_so(module: Callable[[], Any], value: float) -> None:
    diverged = module()
    with torch.no_grad():
        for weights in diverged.generator.parameters():
            weights.fill_(value)
    for measure in (evaluate_conditioning, partial(jacobian_spectrum, generator=source())):
        with pytest.raises(ValueError, match="NaN or infinite: the model has diverged"):
            measure(diverged, num_codes=2)


def test_the_length_of_a_normalised_code_is_no_direction() -> None:
    """A generator A z / |z| has the Jacobian A (I - u u^T) / |z| with u = z / |z|: its direction u changes nothing."""

    class Normalised(nn.Module):
        normalises_code = True

        def __init__(self, matrix: Tensor) -> None:
            super().__init__()
            self.matrix = nn.Parameter(matrix)

        def forward(self, z: Tensor) -> Tensor:
            return (z / z.norm(dim=1, keepdim=True) @ self.matrix.T).view(-1, *SHAPE)

    module = linear_gan()
    module.generator = Normalised(0.1 * torch.linalg.qr(torch.randn(12, LATENT))[0])
    spectrum = jacobian_spectrum(module, 7, generator=source())
    lengths = module.sample_latent(7, generator=source()).double().norm(dim=1, keepdim=True)
    torch.testing.assert_close(spectrum, (0.1 / lengths).expand(7, LATENT - 1), rtol=1e-5, atol=0)
    assert evaluate_conditioning(module, num_codes=7)["test/log_condition_number-7"] == pytest.approx(0, abs=1e-5)
    module.generator, module.latent_dim = Normalised(torch.ones(12, 1)), 1
    with pytest.raises(ValueError, match="latent_dim=1"):
        jacobian_spectrum(module, 1, generator=source())


@pytest.mark.parametrize("num_classes", [None, 3])
def test_a_progressive_gan_has_no_direction_that_changes_nothing(num_classes: int | None) -> None:
    torch.manual_seed(0)
    module = ProgressiveGAN(shape=(1, 8, 8), width=4, latent_dim=6, num_classes=num_classes, growth_steps=0)
    spectrum = jacobian_spectrum(module, 4, generator=source())
    assert spectrum.shape == (4, 5 if num_classes is None else 6)
    assert (spectrum[:, -1] > 100 * RESOLUTION * spectrum[:, 0]).all()
    z, labels = module.sample_latent(2, generator=source()), None if num_classes is None else torch.tensor([0, 1])
    longer, same = module.decode(3 * z, labels=labels), module.decode(z, labels=labels)
    assert torch.allclose(longer, same, atol=1e-5) is module.generator.normalises_code


def test_condition_numbers_are_logarithms_of_ratios_of_eigenvalues() -> None:
    spectrum = torch.tensor([[2.0, 1.0, 0.5], [3.0, 3.0, 3.0]], dtype=torch.float64)
    assert condition_numbers(spectrum).tolist() == pytest.approx([math.log(16), 0.0])


def test_a_model_that_is_not_one_of_images_by_codes_is_refused() -> None:
    with pytest.raises(TypeError, match="VAE lacks"):
        jacobian_spectrum(VAE(shape=(1, 28, 28), width=2), generator=source())
    points = WGANGP(shape=(2,), architecture="mlp", width=4, latent_dim=3)
    with pytest.raises(ValueError, match=r"latent_dim=3.*2 dimensions"):
        jacobian_spectrum(points, generator=source())
    for num in (0, 1.5):
        with pytest.raises(ValueError, match=f"num_codes={num}"):
            jacobian_spectrum(points, num, generator=source())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"latent_dim=\[3\].*\[4\]"):
        generator_jacobian(points, torch.zeros(1, 4))


def test_the_callback_logs_the_average_of_a_run_and_changes_nothing(tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], [GeneratorConditioning(num_codes=5)]):
        torch.manual_seed(0)
        data = TinyData((1, 28, 28))
        module = WGANGP.for_data(data.spec, width=2, latent_dim=3)
        ema = EMA(100)
        trainer = quiet_trainer([ema, *callbacks], default_root_dir=tmp_path)
        torch.manual_seed(1)
        trainer.fit(module, data)
        weights.append({key: value.clone() for key, value in module.state_dict().items()})
    logged = trainer.callback_metrics["val/log_condition_number-5"].item()
    module.load_state_dict(ema.averaged_state_dict(module), strict=False)
    expected = evaluate_conditioning(module, num_codes=5, split="val")
    assert expected == {"val/log_condition_number-5": pytest.approx(logged, rel=1e-5)}
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key


class CountedLogs(Callback):
    """Notes at every validation whether there is a condition number yet."""

    def __init__(self) -> None:
        self.logged: list[bool] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.logged.append("val/log_condition_number-2" in trainer.callback_metrics)


def test_a_growing_generator_is_measured_once_it_has_grown(tmp_path: Path) -> None:
    """Before, its repeated pixels would count as dimensions."""
    module = ProgressiveGAN((1, 8, 8), latent_dim=20, width=2, growth_steps=3)
    with pytest.raises(ValueError, match="The generator of ProgressiveGAN has not grown to the resolution of its data"):
        evaluate_conditioning(module, num_codes=2)
    counted = CountedLogs()
    callbacks = [GeneratorConditioning(num_codes=2), counted]
    trainer = quiet_trainer(callbacks, default_root_dir=tmp_path, max_epochs=-1, max_steps=5, val_check_interval=1)
    trainer.fit(module, TinyData((1, 8, 8)))
    assert counted.logged == [False, False, False, True, True]


def test_the_callback_refuses_before_training() -> None:
    with pytest.raises(ValueError, match="num_codes=0"):
        GeneratorConditioning(num_codes=0)
    with pytest.raises(TypeError, match="GeneratorConditioning.*VAE lacks"):
        quiet_trainer([GeneratorConditioning()]).fit(VAE(shape=(1, 28, 28), width=2), TinyData((1, 28, 28)))
