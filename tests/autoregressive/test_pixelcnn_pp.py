"""PixelCNN++: order of the pixels by gradients, masses by enumeration, training, what is refused."""

import itertools
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from datamodules import SyntheticImages
from datamodules.spec import Batch, DataSpec
from lightning_modules import PixelCNNPlusPlus
from lightning_modules.parts.likelihoods import num_logistic_parameters
from tests.autoregressive.pixelcnns import BITS, MODELS, build, labels_for, seed
from tests.autoregressive.rates import RecordedRates, warmed_up
from tests.training import TinyData


def what_each_pixel_sees(module: PixelCNNPlusPlus) -> Tensor:
    """Norms of the gradient of pixel i's parameters by pixel j, (H * W, H * W), in float64."""
    module.double()
    shape = module.hparams["shape"]
    x = torch.rand(1, *shape, generator=seed(), dtype=torch.float64, requires_grad=True)
    parameters = module(x, labels_for(module, 1)).flatten(2)
    weights = torch.randn(parameters.shape[1], generator=seed(2), dtype=torch.float64)
    rows = []
    for pixel in range(parameters.shape[2]):
        (gradient,) = torch.autograd.grad((parameters[0, :, pixel] * weights).sum(), x, retain_graph=True)
        rows.append(gradient[0].abs().amax(0).flatten())
    return torch.stack(rows)


@pytest.mark.parametrize("name", MODELS)
def test_no_pixel_sees_itself_or_a_later_one(name: str) -> None:
    sees = what_each_pixel_sees(build(**MODELS[name]))
    assert torch.equal(sees, sees.tril(-1))


@pytest.mark.parametrize(("num_scales", "shape"), [(1, [1, 5, 5]), (2, [1, 6, 4]), (3, [1, 8, 4])])
def test_every_pixel_sees_all_earlier_ones(num_scales: int, shape: list[int]) -> None:
    """Inside the receptive field there is no blind spot; these images lie inside it."""
    sees = what_each_pixel_sees(build(likelihood="bernoulli", shape=shape, width=4, num_scales=num_scales))
    earlier = torch.ones_like(sees).tril(-1).bool()
    assert (sees[earlier] > 0).all()


def test_masses_of_all_images_of_nine_bits_sum_to_one() -> None:
    module = build(**BITS, shape=[1, 3, 3], num_scales=1).double()
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=9)), dtype=torch.float64).view(-1, 1, 3, 3)
    with torch.no_grad():
        masses = module.log_prob(images).exp()
    assert masses.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert masses.max() > 2 * masses.min()


def test_masses_of_all_images_of_two_grey_values_sum_to_one() -> None:
    module = build(shape=[1, 1, 2], width=2, num_scales=1, num_components=3)
    levels = torch.arange(256) / 127.5 - 1
    images = torch.cartesian_prod(levels, levels).view(-1, 1, 1, 2)
    with torch.no_grad():
        total = sum(module.log_prob(part).double().exp().sum().item() for part in images.split(8192))
    assert total == pytest.approx(1.0, abs=1e-4)


def test_classes_matter_and_labels_are_checked() -> None:
    module = build(**BITS, shape=[1, 4, 4], num_classes=3)
    x = module.sample(2, labels=torch.tensor([0, 1]), generator=seed())
    with torch.no_grad():
        masses = [module.log_prob(x, torch.full((2,), label)) for label in range(3)]
    assert (masses[0] - masses[1]).abs().min() > 1e-3
    with pytest.raises(ValueError, match=r"labels.*\(2,\)"):
        module.log_prob(x)
    with pytest.raises(ValueError, match="labels.*num_classes"):
        build(**BITS, shape=[1, 4, 4]).log_prob(x, torch.tensor([0, 1]))


def test_low_temperatures_give_likelier_images_and_means_are_masses() -> None:
    for settings in (MODELS["bits, one scale"], MODELS["grey, three scales"]):
        module = build(**settings)
        with torch.no_grad():
            cold, warm = (
                module.log_prob(module.sample(64, generator=seed(), temperature=temperature)).mean()
                for temperature in (0.3, 1.0)
            )
        assert cold > warm
        with pytest.raises(ValueError, match="temperature=0"):
            module.sample(1, temperature=0.0)
    with pytest.raises(ValueError, match="mean=True"):
        module.sample(1, mean=True)
    module = build(**MODELS["bits, one scale"])
    bits, means = (module.sample(8, generator=seed(), mean=mean) for mean in (False, True))
    with torch.no_grad():
        torch.testing.assert_close(module(bits).sigmoid(), means, atol=1e-5, rtol=1e-5)


def test_dropout_comes_from_the_training_rng_and_in_training_only() -> None:
    module = build(**BITS, shape=[1, 4, 4], dropout=0.5)
    x = module.sample(2, generator=seed())
    with torch.no_grad():
        assert torch.equal(module(x), module(x))
        ones = module(x, None, lambda *shape, device: torch.ones(*shape, device=device))
        assert not torch.equal(ones, module(x))


def fit(steps: int, *callbacks: Callback, optimizer: Any = None, **settings: Any) -> PixelCNNPlusPlus:
    """Trains a small model of grey values, with another optimizer if one is given."""
    data = TinyData((1, 8, 8))
    torch.manual_seed(0)
    module = PixelCNNPlusPlus.for_data(data.spec, width=2, num_scales=2, num_components=2, **settings)
    module.build_optimizer = optimizer or module.build_optimizer
    Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, callbacks=list(callbacks),
    ).fit(module, data)  # fmt: skip
    return module


def weights(module: PixelCNNPlusPlus) -> Tensor:
    """All weights, one after the other."""
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_no_step_is_longer_than_the_bound_of_the_gradient_allows() -> None:
    """With SGD of rate 1 a step is the gradient, of nats per dimension."""
    steps = {}
    for bound in (None, 1e-3):
        settings: dict[str, Any] = {"clip_norm": bound, "warmup_steps": 0}
        stepped = fit(1, optimizer=partial(torch.optim.SGD, lr=1.0), **settings)
        steps[bound] = (weights(stepped) - weights(fit(0, **settings))).norm().item()
    assert steps[None] > 1e-2
    assert steps[1e-3] == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("decay_steps", [None, 9])
def test_the_learning_rate_rises_to_its_peak_and_falls_along_a_cosine(decay_steps: int | None) -> None:
    recorded = RecordedRates()
    fit(8, recorded, lr=0.1, warmup_steps=3, decay_steps=decay_steps)
    assert recorded.rates == {0: pytest.approx(warmed_up(0.1, 3, decay_steps, 8), rel=1e-6)}


def test_trains_on_bits_and_reports_nats_and_bits() -> None:
    data = SyntheticImages(
        shape=[1, 8, 8], num_classes=2, size=64, val_size=16, test_size=16, batch_size=16, binarize=True
    )
    module = PixelCNNPlusPlus.for_data(data.spec, width=2, num_scales=2, decay_steps=300, warmup_steps=1)
    assert module.hparams["likelihood"] == "bernoulli"
    trainer = Trainer(
        max_steps=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    nats, bits = (trainer.callback_metrics[f"val/{name}-exact"].item() for name in ("nll", "bits_per_dim"))
    assert bits == pytest.approx(nats / (64 * torch.log(torch.tensor(2.0)).item()))
    loader: Any = data.val_dataloader()
    with torch.no_grad():
        assert nats == pytest.approx(-module.log_prob(next(iter(loader)).x).mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("likelihood", "value", "remedy"),
    [("bernoulli", 0.5, "binarize=True"), ("discretized_logistic_mixture", 0.1234, "dequantize")],
)
def test_a_first_batch_outside_the_support_is_refused(likelihood: str, value: float, remedy: str) -> None:
    module = PixelCNNPlusPlus(shape=[1, 4, 4], likelihood=likelihood, width=2)
    with pytest.raises(ValueError, match=rf"{value:g}.*{remedy}"):
        module.check_batch(Batch(torch.full((2, 1, 4, 4), value), torch.zeros(2, dtype=torch.long)))
    with pytest.raises(ValueError, match=rf"{value:g}.*{remedy}"):
        module.complete(torch.full((2, 1, 4, 4), value), 2)


def test_data_of_another_range_are_refused_with_the_remedy() -> None:
    grey = DataSpec("some", "image", (1, 4, 4), (-1.0, 1.0))
    bits = DataSpec("some", "image", (1, 4, 4), (0.0, 1.0))
    with pytest.raises(ValueError, match="binarize=True"):
        PixelCNNPlusPlus(shape=[1, 4, 4], likelihood="bernoulli").check_data(grey)
    with pytest.raises(ValueError, match="binarize=False"):
        PixelCNNPlusPlus(shape=[1, 4, 4]).check_data(bits)
    assert PixelCNNPlusPlus.for_data(bits, width=2).value_range == (0.0, 1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": [1, 6, 8]}, r"\[1, 6, 8\]"),
        ({"shape": [2, 8, 8]}, "channels=2"),
        ({"shape": [3, 8, 8], "likelihood": "bernoulli"}, r"\[3, 8, 8\]"),
        ({"shape": [64]}, r"\[64\]"),
        ({"likelihood": "gaussian"}, "likelihood='gaussian'"),
        ({"width": 0}, "width=0"),
        ({"depth": 0}, "depth=0"),
        ({"num_scales": 0}, "num_scales=0"),
        ({"num_components": 0}, "num_components=0"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"decay_steps": 10}, "decay_steps=10"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelCNNPlusPlus(**settings)


def test_requests_that_cannot_be_met_are_refused() -> None:
    module = build(**BITS, shape=[1, 4, 4])
    x = torch.zeros(2, 1, 4, 4)
    for arguments in ({}, {"known_rows": 2, "mask": torch.ones(4, 4, dtype=torch.bool)}):
        with pytest.raises(ValueError, match="known_rows.*mask"):
            module.complete(x, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="known_rows=5"):
        module.complete(x, 5)
    with pytest.raises(ValueError, match="mask.*bool"):
        module.complete(x, mask=torch.ones(4, 4))
    with pytest.raises(ValueError, match=r"1, 4, 4.*batch dimension"):
        module.complete(x[0], 2)
    assert num_logistic_parameters(3, 10) == 100
