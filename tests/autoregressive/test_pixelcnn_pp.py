"""Order of the pixels by gradients, masses by enumeration, and the cached sampler against whole passes."""

import itertools
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from datamodules import SyntheticImages
from datamodules.spec import DataSpec
from lightning_modules import PixelCNNPlusPlus
from lightning_modules.networks.pixelcnn_cache import CachedPasses
from lightning_modules.parts.likelihoods import num_logistic_parameters

BITS = {"likelihood": "bernoulli", "width": 2}
MODELS: dict[str, dict[str, Any]] = {
    "bits, one scale": {**BITS, "shape": [1, 5, 3], "num_scales": 1},
    "grey, three scales": {"shape": [1, 4, 8], "width": 3, "num_scales": 3, "num_components": 2},
    "colour, deep, classes": {"shape": [3, 4, 6], "width": 4, "depth": 2, "num_scales": 2, "num_classes": 3},
    "bits, wide, to one pixel": {"likelihood": "bernoulli", "shape": [1, 8, 8], "width": 8, "num_scales": 4},
}


def build(**settings: Any) -> PixelCNNPlusPlus:
    """Every weight, bias and label drawn anew: zeros would hide a mistake."""
    torch.manual_seed(0)
    module = PixelCNNPlusPlus(**settings)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module.eval()


def seed(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels_for(module: PixelCNNPlusPlus, num: int) -> Tensor | None:
    return None if module.class_probabilities is None else torch.arange(num) % len(module.class_probabilities)


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
    """Inside the receptive field there is no blind spot; these pictures lie inside it."""
    sees = what_each_pixel_sees(build(likelihood="bernoulli", shape=shape, width=4, num_scales=num_scales))
    earlier = torch.ones_like(sees).tril(-1).bool()
    assert (sees[earlier] > 0).all()


def test_masses_of_all_pictures_of_nine_bits_sum_to_one() -> None:
    module = build(**BITS, shape=[1, 3, 3], num_scales=1).double()
    pictures = torch.tensor(list(itertools.product([0.0, 1.0], repeat=9)), dtype=torch.float64).view(-1, 1, 3, 3)
    with torch.no_grad():
        masses = module.log_prob(pictures).exp()
    assert masses.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert masses.max() > 2 * masses.min()


def test_masses_of_all_pictures_of_two_grey_values_sum_to_one() -> None:
    module = build(shape=[1, 1, 2], width=2, num_scales=1, num_components=3)
    levels = torch.arange(256) / 127.5 - 1
    pictures = torch.cartesian_prod(levels, levels).view(-1, 1, 1, 2)
    with torch.no_grad():
        total = sum(module.log_prob(part).double().exp().sum().item() for part in pictures.split(8192))
    assert total == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_cached_parameters_equal_those_of_whole_passes_at_every_pixel(name: str) -> None:
    module = build(**MODELS[name])
    channels, height, width = module.hparams["shape"]
    x = torch.rand(3, channels, height, width, generator=seed()) * 2 - 1
    labels = labels_for(module, 3)
    with torch.no_grad():
        whole = module.network(x, labels)
        passes = CachedPasses(module.network, 3, labels)
        for row, column in itertools.product(range(height), range(width)):
            expected = whole[:, :, row, column]
            torch.testing.assert_close(passes.parameters_at(row, column), expected, atol=1e-5, rtol=1e-5)
            passes.put(row, column, x[:, :, row, column])


@pytest.mark.parametrize("name", MODELS)
def test_cached_draws_equal_those_of_whole_passes(name: str) -> None:
    """In float64: in float32 a draw between two grey values may be rounded either way."""
    module = build(**MODELS[name]).double()
    cached, full = (module.sample(4, generator=seed(), cached=cached) for cached in (True, False))
    assert torch.equal(cached, full)
    assert cached.std() > 0.1


def test_a_picture_is_drawn_alike_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    module = build(**BITS, shape=[1, 4, 4])
    together = module.sample(7, generator=seed())
    monkeypatch.setattr("lightning_modules.autoregressive.pixelcnn_pp.CHUNK", 3)
    assert torch.equal(module.sample(7, generator=seed()), together)


def test_draws_follow_the_masses() -> None:
    """2^4 pictures, 10 000 draws: chi-square with 15 degrees of freedom exceeds 44.3 once in 10 000 tests."""
    module = build(**BITS, shape=[1, 2, 2], num_scales=2)
    pictures = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).view(-1, 1, 2, 2)
    with torch.no_grad():
        expected = module.log_prob(pictures).double().exp() * 10_000
    draws = module.sample(10_000, generator=seed())
    index = (draws.flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
    observed = index.bincount(minlength=16).double()
    assert ((observed - expected).square() / expected).sum() < 44.3


def test_completion_keeps_the_known_and_draws_the_rest_from_the_conditional() -> None:
    module = build(**BITS, shape=[1, 4, 4])
    x = module.sample(6, generator=seed(5))
    completed = module.complete(x, 2, generator=seed(6))
    assert torch.equal(completed[:, :, :2], x[:, :, :2])
    assert not torch.equal(completed, x)
    # With the numbers that x was drawn by, the rest of x comes back.
    assert torch.equal(module.complete(x, 2, generator=seed(5)), x)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1, 2] = True
    partly = module.complete(1 - x, mask=mask, generator=seed(6))
    assert torch.equal(partly[..., 1, 2], (1 - x)[..., 1, 2])
    assert torch.equal(module.complete(x, 4), x)
    full = module.complete(x, 1, generator=seed(6), cached=False)
    assert torch.equal(module.complete(x, 1, generator=seed(6)), full)


def test_classes_matter_and_labels_are_checked() -> None:
    module = build(**BITS, shape=[1, 4, 4], num_classes=3)
    x = module.sample(2, labels=torch.tensor([0, 1]), generator=seed())
    with torch.no_grad():
        masses = [module.log_prob(x, torch.full((2,), label)) for label in range(3)]
    assert (masses[0] - masses[1]).abs().min() > 1e-3
    with pytest.raises(ValueError, match="needs labels"):
        module.log_prob(x)
    with pytest.raises(ValueError, match="unconditional"):
        build(**BITS, shape=[1, 4, 4]).log_prob(x, torch.tensor([0, 1]))


def test_low_temperatures_give_likelier_pictures_and_means_are_masses() -> None:
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


def test_dropout_is_drawn_from_the_noise_in_training_only() -> None:
    module = build(**BITS, shape=[1, 4, 4], dropout=0.5)
    x = module.sample(2, generator=seed())
    with torch.no_grad():
        assert torch.equal(module(x), module(x))
        ones = module(x, None, lambda *shape, device: torch.ones(*shape, device=device))
        assert not torch.equal(ones, module(x))


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
    batch = next(iter(data.val_dataloader()))
    with torch.no_grad():
        assert nats == pytest.approx(-module.log_prob(batch[0]).mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("likelihood", "value", "remedy"),
    [("bernoulli", 0.5, "binarize=True"), ("discretized_logistic_mixture", 0.1234, "without dequantize")],
)
def test_a_first_batch_outside_the_support_is_refused(likelihood: str, value: float, remedy: str) -> None:
    module = PixelCNNPlusPlus(shape=[1, 4, 4], likelihood=likelihood, width=2)
    with pytest.raises(ValueError, match=rf"{value:g}.*{remedy}"):
        module.check_batch((torch.full((2, 1, 4, 4), value), torch.zeros(2, dtype=torch.long)))
    with pytest.raises(ValueError, match="known pixels"):
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
        ({"shape": [1, 6, 8]}, "divisible by 4"),
        ({"shape": [2, 8, 8]}, "channels=2"),
        ({"shape": [3, 8, 8], "likelihood": "bernoulli"}, "one channel"),
        ({"shape": [64]}, "channels, height, width"),
        ({"likelihood": "gaussian"}, "not one of"),
        ({"width": 0}, "width=0"),
        ({"depth": 0}, "depth=0"),
        ({"num_scales": 0}, "num_scales=0"),
        ({"num_components": 0}, "mixtures=0"),
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
        with pytest.raises(ValueError, match="either known_rows"):
            module.complete(x, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="known_rows=5"):
        module.complete(x, 5)
    with pytest.raises(ValueError, match="mask must be bool"):
        module.complete(x, mask=torch.ones(4, 4))
    with pytest.raises(ValueError, match="x must be pictures"):
        module.complete(x[0], 2)
    assert num_logistic_parameters(3, 10) == 100
