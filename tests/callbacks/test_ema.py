"""The average against the recursion written out, and the exchange of weights under everything that can go wrong."""

import copy
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader, TensorDataset

import zoo
from lightning_modules.callbacks import EMA, averaged_weights
from tests.standins import quiet_trainer
from tests.training import TinyData, build

BATCH = 8


class Net(nn.Module):
    """Everything an average meets: a tied weight, batch statistics, an integer buffer, a parametrization."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.norm = nn.BatchNorm1d(3)
        self.second = spectral_norm(nn.Linear(3, 3))
        self.last = nn.Linear(3, 3, bias=False)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.norm(self.first(x))))


class Toy(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.generator = Net()
        self.discriminator = nn.Linear(3, 1)
        self.seen: list[dict[str, Tensor]] = []

    def averaged_networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator}

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.discriminator(self.generator(batch[0])).square().mean()

    def on_train_batch_end(self, *_: object) -> None:
        self.seen.append(copy.deepcopy(self.state_dict()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fitted(ema: EMA, batches: int = 5) -> tuple[Trainer, Toy, dict[str, Tensor]]:
    module = Toy()
    start = copy.deepcopy(module.state_dict())
    loader = DataLoader(TensorDataset(torch.randn(batches * BATCH, 3)), batch_size=BATCH)
    trainer = quiet_trainer([ema])
    trainer.fit(module, loader)
    return trainer, module, start


def bitwise(module: nn.Module, expected: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, expected[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("rampup", [None, 0.5])
def test_average_is_the_recursion_in_images(rampup: float | None) -> None:
    half_life = 20.0
    _, module, start = fitted(ema := EMA(half_life_images=half_life, rampup=rampup))

    name, images = "generator.first.weight", 0
    expected = start[name].double()
    for weights in module.seen:
        current = half_life if rampup is None else min(half_life, rampup * images)
        beta = 0.5 ** (BATCH / current) if current else 0.0
        expected = beta * expected + (1 - beta) * weights[name].double()
        images += BATCH

    average = ema.averaged_state_dict(module)
    torch.testing.assert_close(average[name].double(), expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(average[name], module.state_dict()[name], atol=1e-3)
    assert ema.images == images == 5 * BATCH


def test_half_life_means_half() -> None:
    """Weights that jump from 0 to 1 have an average of 1/2 after one half-life, in batches of any size."""
    for batch_size, batches in ((4, 8), (16, 2)):
        module, ema = Toy(), EMA(half_life_images=32, rampup=None)
        weight = module.generator.first.weight
        nn.init.zeros_(weight)
        trainer = quiet_trainer()
        ema.on_train_start(trainer, module)
        nn.init.ones_(weight)
        for index in range(batches):
            ema.on_train_batch_end(trainer, module, None, [torch.zeros(batch_size, 3)], index)
        average = ema.averaged_state_dict(module)["generator.first.weight"]
        torch.testing.assert_close(average, torch.full_like(average, 0.5))


def test_other_buffers_are_copied_and_names_are_those_of_the_module() -> None:
    _, module, _ = fitted(ema := EMA(half_life_images=100))
    average, own = ema.averaged_state_dict(module), module.state_dict()
    assert list(average) == [name for name in own if name.startswith("generator.")]
    buffers = [name for name, _ in module.named_buffers() if name.startswith("generator.")]
    copied = [name for name in buffers if "running" not in name]
    assert {"generator.norm.num_batches_tracked", "generator.second.parametrizations.weight.0._u"} <= set(copied)
    assert all(torch.equal(average[name], own[name]) for name in copied)
    assert average["generator.norm.num_batches_tracked"].dtype == torch.int64


def test_running_statistics_are_averaged_with_the_weights_that_they_belong_to() -> None:
    """Those of the last weights do not fit averaged ones: a GibbsNet had FID 27 with them, and 4.9 later without."""
    _, module, start = fitted(ema := EMA(half_life_images=20, rampup=None))
    beta = 0.5 ** (BATCH / 20)
    for name in ("generator.norm.running_mean", "generator.norm.running_var"):
        expected = start[name].double()
        for seen in module.seen:
            expected = beta * expected + (1 - beta) * seen[name].double()
        average = ema.averaged_state_dict(module)[name]
        torch.testing.assert_close(average.double(), expected, atol=1e-6, rtol=1e-5)
        assert not torch.allclose(average, module.state_dict()[name], atol=1e-3)


def test_weights_come_back_bit_for_bit_also_after_an_exception() -> None:
    trainer, module, _ = fitted(ema := EMA(half_life_images=100))
    own, average = copy.deepcopy(module.state_dict()), ema.averaged_state_dict(module)

    with averaged_weights(trainer, module):
        inside = module.state_dict()
        assert all(torch.equal(inside[name], tensor) for name, tensor in average.items())
        assert not torch.equal(inside["generator.first.weight"], own["generator.first.weight"])
        # Sampling in train mode moves batch statistics and power iterations: neither side may keep that.
        module.generator.train()(torch.randn(16, 3))
    assert bitwise(module, own)
    after = ema.averaged_state_dict(module)
    assert all(torch.equal(after[name], tensor) for name, tensor in average.items())

    with pytest.raises(RuntimeError, match="stopped"), averaged_weights(trainer, module):
        raise RuntimeError("stopped")
    assert bitwise(module, own)


def test_nested_use_keeps_the_averages_until_the_outer_end() -> None:
    trainer, module, _ = fitted(ema := EMA(half_life_images=100))
    own, average = copy.deepcopy(module.state_dict()), ema.averaged_state_dict(module)
    with averaged_weights(trainer, module):
        with averaged_weights(trainer, module):
            assert torch.equal(module.generator.first.weight, average["generator.first.weight"])
        assert torch.equal(module.generator.first.weight, average["generator.first.weight"])
        assert all(torch.equal(ema.averaged_state_dict(module)[name], average[name]) for name in average)
    assert bitwise(module, own)


def test_tied_and_normalised_weights_are_those_the_network_computes_with() -> None:
    trainer, module, _ = fitted(ema := EMA(half_life_images=100))
    with averaged_weights(trainer, module):
        assert module.generator.last.weight is module.generator.first.weight
        module.eval()
        expected = copy.deepcopy(module.generator)
        expected.load_state_dict(
            {name.removeprefix("generator."): tensor for name, tensor in ema.averaged_state_dict(module).items()}
        )
        x = torch.randn(4, 3)
        assert torch.equal(module.generator(x), expected.eval()(x))


def test_without_the_callback_the_module_keeps_its_weights() -> None:
    module = Toy()
    own = copy.deepcopy(module.state_dict())
    with averaged_weights(quiet_trainer(), module):
        assert bitwise(module, own)


def test_state_survives_a_file_and_continues_exactly() -> None:
    trainer, module, _ = fitted(ema := EMA(half_life_images=50))
    torch.save(ema.state_dict(), "ema.pt")
    restored = EMA(half_life_images=50)
    restored.load_state_dict(torch.load("ema.pt", weights_only=True))
    batch = [torch.zeros(BATCH, 3)]
    for average in (ema, restored):
        average.on_train_batch_end(trainer, module, None, batch, 0)
    a, b = ema.averaged_state_dict(module), restored.averaged_state_dict(module)
    assert ema.images == restored.images
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_half_precision_weights_are_averaged_in_full() -> None:
    """In bfloat16 a step of 1e-4 of the distance would be rounded away, for ever."""
    module, ema, trainer = Toy(), EMA(half_life_images=10_000, rampup=None), quiet_trainer()
    weight = module.generator.first.weight
    weight.data = torch.zeros_like(weight, dtype=torch.bfloat16)
    ema.averaged_state_dict(module)
    nn.init.ones_(weight)
    for index in range(100):
        ema.on_train_batch_end(trainer, module, None, [torch.zeros(100, 3)], index)
    average = ema.averaged_state_dict(module)["generator.first.weight"]
    assert average.dtype == torch.bfloat16
    torch.testing.assert_close(average.float(), torch.full((3, 3), 0.5), atol=2e-3, rtol=0)


def test_errors_say_what_to_do() -> None:
    for value in (float("nan"), "20000", True):
        with pytest.raises(ValueError, match=f"half_life_images={value} must be a positive number"):
            EMA(half_life_images=value)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rampup=nan"):
        EMA(rampup=float("nan"))
    for later in (float("nan"), -1.0):
        with pytest.raises(ValueError, match=f"half_life_images is {later} after 0 batches"):
            fitted(EMA(half_life_images=lambda step, value=later: value))  # type: ignore[misc]
    with pytest.raises(ValueError, match="half_life_images=0"):
        EMA(half_life_images=0)
    with pytest.raises(ValueError, match="rampup=-1"):
        EMA(rampup=-1)
    with pytest.raises(TypeError, match="LightningModule.averaged_networks"):
        EMA().setup(None, LightningModule(), "fit")  # type: ignore[arg-type]

    _, module, _ = fitted(ema := EMA())
    module.generator.first = nn.Linear(3, 4)
    with pytest.raises(ValueError, match=r"generator\.first\.bias"):
        ema.averaged_state_dict(module)
    module.generator.first = nn.Linear(4, 3, bias=False)
    with pytest.raises(ValueError, match=r"generator.first.weight.*\(3, 3\).*\(3, 4\)"):
        ema.averaged_state_dict(module)


def trained_with(averages: list[EMA], steps: int, ckpt_path: str | None = None) -> tuple[Trainer, Any]:
    seed_everything(3, verbose=False)
    module, shape = build("WGANGP", critic_steps=1, lr=1e-2)
    trainer = quiet_trainer(averages, max_epochs=-1, max_steps=steps, limit_val_batches=0)
    trainer.fit(module, TinyData(shape), ckpt_path=ckpt_path)
    return trainer, module


def test_several_averages_are_kept_and_the_first_is_used() -> None:
    """Each is what it would be alone, also after a resume; sampling and the zoo take the first."""
    alone = [EMA(half_life, rampup=None) for half_life in (20, 200)]
    for ema in alone:
        trained_with([ema], 6)
    pair = [EMA(20, rampup=None), EMA(200, rampup=None)]
    trained_with(pair, 3)[0].save_checkpoint("three.ckpt")
    assert {"EMA", "EMA 2"} <= set(torch.load("three.ckpt", weights_only=True)["callbacks"])
    resumed = [EMA(20, rampup=None), EMA(200, rampup=None)]
    trainer, module = trained_with(resumed, 6, "three.ckpt")
    for ema, expected in zip(resumed, alone, strict=True):
        assert ema.images == expected.images
        found = ema.averaged_state_dict(module)
        assert all(torch.equal(value, found[key]) for key, value in expected.averaged_state_dict(module).items())
    with averaged_weights(trainer, module):
        used = {key: value.clone() for key, value in module.state_dict().items()}
        name, weight = next(iter(module.generator.named_parameters(prefix="generator")))
        with resumed[1].average_parameters(module):
            assert not torch.equal(weight, used[name])
        assert torch.equal(weight, used[name])
    first = alone[0].averaged_state_dict(module)
    assert all(torch.equal(used[key], value) for key, value in first.items())
    zoo.save(module, "saved", samples=False)
    saved = zoo.load("saved").state_dict()
    assert all(torch.equal(saved[key], value) for key, value in first.items())


def test_it_is_said_how_to_sample_with_the_average(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        trained_with([EMA(20), EMA(200)], 2)
    assert sum("averaged_weights(trainer, module)" in message for message in caplog.messages) == 1


def test_a_checkpoint_is_loaded_with_the_average_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    ema = EMA(20)
    trainer, module = trained_with([ema], 4)
    trainer.save_checkpoint("run.ckpt")
    caplog.clear()
    with caplog.at_level("INFO"):
        raw = type(module).load_from_checkpoint("run.ckpt", weights_only=True)
    assert any("averaged=True" in message for message in caplog.messages)
    averaged = type(module).load_from_checkpoint("run.ckpt", averaged=True, weights_only=True)
    with averaged_weights(trainer, module):
        expected = module.sample(3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(averaged.sample(3, generator=torch.Generator().manual_seed(0)), expected)
    assert not torch.equal(raw.sample(3, generator=torch.Generator().manual_seed(0)), expected)
    trained_with([], 1)[0].save_checkpoint("without.ckpt")
    with pytest.raises(ValueError, match=r"without\.ckpt holds no averaged weights"):
        type(module).load_from_checkpoint("without.ckpt", averaged=True)
