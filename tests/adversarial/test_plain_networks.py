"""Any two networks play: an ``nn.Sequential``, which takes its input alone, as one that takes labels, too."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules import METHODS, WGAN
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.callbacks import EMA
from lightning_modules.parts.conditions import conditioned, takes_condition
from lightning_modules.parts.games import GAMES, Game
from lightning_modules.parts.penalties import PENALTIES, sharing
from tests.adversarial import tiny_loop
from tests.captioned import needed
from tests.standins import quiet_trainer

SIDE = tiny_loop.SIDE


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(2, SIDE * SIDE), nn.Tanh(), nn.Unflatten(1, (1, SIDE, SIDE)))
    return generator, nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 8), nn.Tanh(), nn.Linear(8, 1))


class WithLabels(nn.Module):
    """The same network behind a signature with labels and logits of shape (N,)."""

    def __init__(self, network: nn.Module, flat: bool) -> None:
        super().__init__()
        self.network, self.flat = network, flat

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.network(x).squeeze(1) if self.flat else self.network(x)


def played(generator: nn.Module, discriminator: nn.Module, game: Game, **slots: Any) -> AdversarialModule:
    optimizers: dict[str, Any] = {"generator_optimizer": tiny_loop.adam, "discriminator_optimizer": tiny_loop.adam}
    module = AdversarialModule(generator, discriminator, game, latent_dim=2, **optimizers, **slots)
    torch.manual_seed(5)
    average = EMA(half_life_images=40)
    trainer = quiet_trainer([average], max_epochs=-1, max_steps=4, val_check_interval=2, limit_val_batches=1)
    trainer.fit(module, tiny_loop.Images())
    assert torch.isfinite(trainer.callback_metrics["val/discriminator_loss"])
    return module


RELATIVISTIC = Game(lambda real, fake: (fake - real).mean(), lambda real, fake: (real - fake).mean(), relativistic=True)


@pytest.mark.parametrize("game", [*GAMES.values(), RELATIVISTIC])
def test_plain_networks_play_as_those_do_that_take_labels(game: Game) -> None:
    generator, discriminator = networks()
    wrapped = [WithLabels(copy.deepcopy(generator), False), WithLabels(copy.deepcopy(discriminator), True)]
    penalties = {"penalties": {name: (1.0, penalty) for name, penalty in PENALTIES.items()}}
    plain, other = played(generator, discriminator, game, **penalties), played(*wrapped, game, **penalties)
    torch.testing.assert_close(tiny_loop.weights(plain), tiny_loop.weights(other), rtol=0, atol=0)
    samples = [module.sample(3, generator=torch.Generator().manual_seed(1)) for module in (plain, other)]
    assert torch.equal(*samples)
    assert samples[0].shape == (3, 1, SIDE, SIDE)


def test_penalties_see_the_network_that_torch_has_compiled() -> None:
    """What ``torch.compile`` wraps has no second derivative."""

    def never(graph: Any, inputs: Any) -> Any:
        raise AssertionError("was compiled")

    network = nn.Linear(2, 1)
    compiled: Any = torch.compile(network, backend=never)
    x = torch.randn(3, 2)
    assert torch.equal(conditioned(compiled, None, x), network(x))
    due = {"roth": (1.0, PENALTIES["roth"])}
    assert (sharing(due, network, x.device), sharing(due, compiled, x.device)) == (due, {})


def test_labels_need_networks_that_take_them() -> None:
    with pytest.raises(ValueError, match="num_classes=2.*takes x alone"):
        played(*networks(), GAMES["hinge"], num_classes=2)


def test_signatures_are_read_through_wrappers() -> None:
    sequential = nn.Sequential(nn.Linear(2, 2))
    assert not takes_condition(sequential)
    assert not takes_condition(torch.compile(sequential))  # type: ignore[arg-type]
    assert takes_condition(WithLabels(sequential, False))
    assert all(takes_condition(network) for network in (METHODS["SNGAN"](width=2).generator,))


def test_each_player_of_a_wasserstein_game_has_its_own_rate() -> None:
    generator, critic = WGAN(width=2, lr=1e-3, discriminator_lr=2e-3).configure_optimizers()  # type: ignore[misc]
    assert (generator.param_groups[0]["lr"], critic.param_groups[0]["lr"]) == (1e-3, 2e-3)
    with pytest.raises(ValueError, match="discriminator_lr=-1"):
        WGAN(width=2, discriminator_lr=-1.0)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if issubclass(method, AdversarialModule)])
def test_every_game_has_two_time_scales(method: str) -> None:
    module = METHODS[method](width=2, lr=1e-3, discriminator_lr=2e-3, **needed(method))
    rates = [optimizer.param_groups[0]["lr"] for optimizer in module.configure_optimizers()]  # type: ignore[misc, union-attr]
    assert rates == [1e-3, 2e-3]
