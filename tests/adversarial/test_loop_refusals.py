"""What the two-player loop refuses before the first step, and what stops it later, with names and values."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules import SyntheticImages
from lightning_modules import WGANGP, ComposedGAN, MinimaxGAN, NonSaturatingGAN
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.games import GAMES, Game
from lightning_modules.parts.optimizers import adam_with
from lightning_modules.parts.penalties import PENALTIES
from lightning_modules.runtime.optimization import NonFiniteLoss
from tests.adversarial.games import POINTS, fit
from tests.adversarial.tiny_loop import build


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"critic_steps": 0}, "critic_steps=0"),
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"width": -1}, "width=-1"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"betas": [0.5]}, r"betas=\[0\.5\]"),
        ({"num_classes": 1}, "num_classes=1"),
        ({"num_classes": -1}, "num_classes=-1"),
        ({"architecture": "vit"}, "architecture='vit'.*mlp, dcgan, resnet"),
        ({"shape": [2]}, r"architecture='dcgan'.*shape=\[2\].*mlp"),
        ({"decay_steps": -5}, "decay_steps=-5"),
    ],
)
def test_bad_hyperparameters_are_named(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        WGANGP(**{"width": 2, **arguments})


def test_penalty_refuses_batch_norm() -> None:
    with pytest.raises(ValueError, match="r1.*batch_norm=false"):
        ComposedGAN(width=2, penalties={"r1": 1.0}, batch_norm=True)


def test_penalties_refuse_half_precision_with_scaling() -> None:
    module = WGANGP(**POINTS)
    module.trainer = trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.precision_plugin.precision = "16-mixed"  # on a CPU the trainer itself would turn it into bf16
    with pytest.raises(ValueError, match="16-mixed.*bf16-mixed"):
        module.on_fit_start()


def test_data_that_do_not_fit_name_both_sides() -> None:
    images = SyntheticImages(shape=[1, 28, 28], size=64, batch_size=8)
    with pytest.raises(ValueError, match=r"shape=\[3, 32, 32\].*\[1, 28, 28\]"):
        fit(MinimaxGAN(shape=[3, 32, 32], width=2), 1, data=images)
    with pytest.raises(ValueError, match=r"num_classes=7.*num_classes=None"):
        fit(MinimaxGAN(width=2, num_classes=7), 1, data=images)
    binary = SyntheticImages(shape=[1, 28, 28], size=64, batch_size=8, binarize=True)
    with pytest.raises(ValueError, match=r"\[-1\.0, 1\.0\].*\[0\.0, 1\.0\].*binarize"):
        fit(MinimaxGAN(width=2), 1, data=binary)


def own(generator: nn.Module, discriminator: nn.Module, num_classes: int | None = None) -> AdversarialModule:
    adam = adam_with(0.1, (0.0, 0.9))
    parts: dict[str, Any] = {"generator_optimizer": adam, "discriminator_optimizer": adam, "num_classes": num_classes}
    return AdversarialModule(generator, discriminator, GAMES["minimax"], latent_dim=4, **parts)


@pytest.mark.parametrize(
    ("generator", "discriminator", "named"),
    [
        (nn.Linear(3, 2), nn.Linear(2, 1), "its generator does not take codes of latent_dim=4"),
        (nn.Linear(4, 3), nn.Linear(2, 1), r"its generator makes examples of shape=\[3\], but a batch has \[2\]"),
        (nn.Linear(4, 2), nn.Linear(3, 1), r"its discriminator does not take examples of shape=\[2\]"),
        (nn.Linear(4, 2), nn.Linear(2, 2), r"its discriminator makes logits of shape=\[2, 2\] of 2 examples"),
        (
            nn.Linear(4, 2),
            nn.Sequential(nn.Linear(2, 2), nn.Flatten(0)),
            r"its discriminator makes logits of shape=\[4\] of 2 examples",
        ),
    ],
)
def test_networks_of_ones_own_that_do_not_fit_are_named_before_the_first_step(
    generator: nn.Module, discriminator: nn.Module, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        fit(own(generator, discriminator), 1, data=DataLoader(TensorDataset(torch.zeros(8, 2)), batch_size=4))


class OfFewClasses(nn.Module):
    """Has codes of five classes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear, self.embedding = nn.Linear(size, 2), nn.Embedding(5, 2)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.linear(x) + self.embedding(labels)


class OfTwo(nn.Linear):
    """Returns its input, too."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


def test_networks_of_too_few_classes_and_outputs_that_are_no_tensors_are_named() -> None:
    data = DataLoader(TensorDataset(torch.zeros(8, 2), torch.zeros(8, dtype=torch.long)), batch_size=4)
    with pytest.raises(ValueError, match="its generator does not take codes of latent_dim=4 with num_classes=10"):
        fit(own(OfFewClasses(4), OfFewClasses(2), num_classes=10), 1, data=data)
    with pytest.raises(ValueError, match="its generator does not take codes of latent_dim=4 .*tuple"):
        fit(own(OfTwo(4, 2), nn.Linear(2, 1)), 1, data=data)


def test_a_penalty_does_not_take_the_name_of_a_loss() -> None:
    for name, slot in (("discriminator", "penalties"), ("generator", "generator_penalties")):
        with pytest.raises(ValueError, match=f"A penalty is named {name}"):
            build(**{slot: {name: (1.0, PENALTIES["r1"])}})


def test_penalties_without_weight_are_named() -> None:
    with pytest.raises(ValueError, match=r"penalties\.r1=0.0 must be positive and finite"):
        ComposedGAN(width=2, penalties={"r1": 0.0})
    with pytest.raises(ValueError, match="penalty_weight=0 must be positive and finite"):
        WGANGP(width=2, penalty_weight=0)


def test_a_rate_that_falls_for_longer_than_the_run_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="decay_steps=40, but the run is planned for 2 batches: set decay_steps=2"):
        fit(NonSaturatingGAN(**POINTS, decay_steps=40), 2)


@pytest.mark.parametrize(
    ("x", "named"),
    [
        (torch.full((8, 1, 28, 28), float("nan")), "NaN"),
        (torch.full((8, 1, 28, 28), 255.0), r"\[-1, 1\].*255"),
        (torch.zeros(8, 3, 28, 28), r"shape=\[1, 28, 28\].*\[3, 28, 28\]"),
    ],
)
def test_bad_batches_are_named_before_the_first_step(x: Tensor, named: str) -> None:
    module = MinimaxGAN(width=2, latent_dim=4)
    before = [p.clone() for p in module.parameters()]
    with pytest.raises(ValueError, match=f"MinimaxGAN.*{named}"):
        fit(module, 1, data=DataLoader(TensorDataset(x, torch.zeros(8, dtype=torch.long)), 8))
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


@pytest.mark.parametrize("labels", [torch.full((16,), 3), torch.full((16,), -1), torch.zeros(16)])
def test_labels_that_do_not_fit_are_named_before_the_first_step(labels: Tensor) -> None:
    data = DataLoader(TensorDataset(torch.zeros(16, 2), labels), 16)
    with pytest.raises(ValueError, match="num_classes=3"):
        fit(NonSaturatingGAN(**POINTS, num_classes=3), 1, data=data)


def test_a_run_longer_than_the_learning_rate_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="9.*decay_steps=8"):
        fit(NonSaturatingGAN(**POINTS, decay_steps=8), 9)


def test_nan_in_the_loss_stops_with_step_term_and_weights_of_before() -> None:
    module = NonSaturatingGAN(**POINTS)
    forward = module.discriminator.forward
    calls: list[int] = []

    def broken(x: Tensor, condition: Tensor | None = None) -> Tensor:
        calls.append(1)
        return forward(x, condition) * (float("nan") if len(calls) > 7 else 1.0)  # 3 calls a batch: third batch

    module.discriminator.forward = broken
    with pytest.raises(NonFiniteLoss, match="batch 2: discriminator=nan") as stop:
        fit(module, 5)
    assert ".ckpt" not in str(stop.value)
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_nan_of_the_generator_is_told_with_its_batch() -> None:
    module = NonSaturatingGAN(**POINTS)
    module.game = Game(module.game.discriminator, lambda fake: fake.sum() * float("inf"))
    with pytest.raises(NonFiniteLoss, match=r"batch 0: generator=-?(inf|nan)"):
        fit(module, 2)


def test_finite_loss_with_a_gradient_that_is_not_stops_before_the_step() -> None:
    module = NonSaturatingGAN(**POINTS)
    before = [p.clone() for p in module.discriminator.parameters()]
    module.discriminator.get_parameter("head.linear.weight").register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NonFiniteLoss, match=r"batch 0: discriminator=[\d.]+, gradient_norm=nan"):
        fit(module, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, module.discriminator.parameters(), strict=True))


def test_non_finite_stop_names_the_last_checkpoint(tmp_path: Path) -> None:
    module = WGANGP(**POINTS, lr=1e30)
    checkpoints = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    with pytest.raises(NonFiniteLoss, match=r"step=\d+\.ckpt") as stop:
        fit(module, 50, enable_checkpointing=True, callbacks=[checkpoints])
    assert checkpoints.last_model_path in str(stop.value)
