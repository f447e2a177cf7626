"""Joint games of networks of one's own: what is refused, measured on held-out data, and logged."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules import Ring, SyntheticImages
from lightning_modules import ALI, GibbsNet
from lightning_modules.adversarial.joint_game import JointModule
from lightning_modules.parts.critic_schedules import EveryNth
from tests.adversarial.joint_games import SMALL, AffineGaussian, Quadratic, adam, built, fit
from tests.standins import quiet_trainer


class WideEncoder(nn.Module):
    """Means and log-scales of two numbers where the generator takes one."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x, x, x], 1)


class OfPairs(nn.Module):
    """Logits of pairs with so many numbers together."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, 1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.linear(torch.cat([x, z], 1))


def with_networks(**networks: nn.Module) -> JointModule:
    own: dict[str, Any] = {
        "generator": AffineGaussian(1.0, 0.0),
        "encoder": AffineGaussian(1.0, 0.0),
        "discriminator": Quadratic(),
        **networks,
    }
    return JointModule(**own, latent_dim=1, player_optimizer=adam(0.1), discriminator_optimizer=adam(0.1))


def test_networks_that_do_not_fit_are_refused_before_a_step() -> None:
    x = torch.randn(1, 4, 1)
    with pytest.raises(ValueError, match=r"JointModule: .*encoder.*shape=\[2\].*latent_dim=1"):
        fit(with_networks(generator=nn.Linear(1, 1), encoder=WideEncoder()), x)
    with pytest.raises(ValueError, match=r"JointModule: .*generator.*shape=\[3\].*batch has \[1\]"):
        fit(with_networks(generator=nn.Linear(1, 3)), x)
    for networks, said in (
        ({"generator": nn.Linear(2, 1)}, "generator does not take codes of latent_dim=1"),
        ({"encoder": nn.Linear(2, 2)}, r"encoder does not take examples of shape=\[1\]"),
        ({"encoder": nn.Linear(1, 3)}, r"encoder makes codes of shape=\[2\], .*latent_dim=1"),
        (
            {"discriminator": OfPairs(3)},
            r"discriminator does not take examples of shape=\[1\] with codes of ",
        ),
    ):
        with pytest.raises(ValueError, match=f"JointModule: its {said}"):
            fit(with_networks(**{"generator": nn.Linear(1, 1), **networks}), x)
    wide = JointModule(
        nn.Linear(4, 1), nn.Linear(1, 7), OfPairs(5), latent_dim=4, player_optimizer=adam(0.1),
        discriminator_optimizer=adam(0.1),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"encoder's outputs of shape=\[7\] are not those of codes of latent_dim=4"):
        fit(wide, x)
    with pytest.raises(ValueError, match=r"Linear takes one argument.*\(x, z\)"):
        with_networks(discriminator=nn.Linear(2, 1))
    module = with_networks(generator=nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"JointModule: .*nan"):
        module.encode(torch.full((2, 1), torch.nan))
    assert module.reconstruct(x[0]).shape == (4, 1)


def test_numbers_out_of_range_and_labels_are_refused() -> None:
    for settings, pattern in (
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"width": 0}, "width=0"),
        ({"discriminator_width": 0}, "discriminator_width=0.*width=2"),
        ({"critic_steps": 0}, "critic_steps=0"),
        ({"architecture": "unet"}, "unet.*mlp"),
        ({"architecture": "dcgan"}, r"dcgan.*\[2\]"),
        ({"lr": 0.0}, r"lr=0\.0"),
        ({"betas": [0.5, 1.0]}, r"betas=\[0\.5, 1\.0\]"),
        ({"clip_norm": -1.0}, r"clip_norm=-1\.0"),
        ({"decay_steps": 0}, "decay_steps=0"),
    ):
        with pytest.raises(ValueError, match=pattern):
            GibbsNet(**{**SMALL, **settings})
    module = ALI(**SMALL)
    for call in (
        lambda labels: module.sample(2, labels=labels),
        lambda labels: module.decode(torch.zeros(2, 3), labels=labels),
    ):
        with pytest.raises(ValueError, match="labels.*unconditional"):
            call(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="'16-true'.*bf16-mixed"):
        fit(module, torch.randn(1, 4, 2), precision="16-true")


@pytest.mark.parametrize("method", [ALI, GibbsNet])
def test_the_discriminator_can_be_wider_than_generator_and_encoder(method: Any) -> None:
    plain, wide = method(width=4), method(width=4, discriminator_width=12)
    for name in ("generator", "encoder"):
        shapes = [[p.shape for p in getattr(module, name).parameters()] for module in (plain, wide)]
        assert shapes[0] == shapes[1]
    assert [module.discriminator.features[0].out_channels for module in (plain, wide)] == [4, 12]


@pytest.mark.parametrize("steps", [0, 2])
def test_held_out_values_depend_neither_on_the_batch_size_nor_on_the_random_state(steps: int) -> None:
    module, x = GibbsNet(**SMALL, steps=steps), torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    values: list[dict[str, float]] = []
    for size in (12, 5, 1):
        torch.manual_seed(size)
        (found,) = quiet_trainer().validate(module, DataLoader(TensorDataset(x), size), verbose=False)
        values.append(dict(found))
    error = (module.reconstruct(x) - x).square().mean().item()
    for found in values:
        assert found.keys() == {"val/discriminator_loss", "val/reconstruction_mse"}
        assert found == pytest.approx(values[0], rel=1e-6)
        assert found["val/reconstruction_mse"] == pytest.approx(error, rel=1e-5)
    assert values[0]["val/discriminator_loss"] == pytest.approx(2 * torch.log(torch.tensor(2.0)).item(), abs=0.3)


def test_generator_and_encoder_move_after_every_nth_batch_only() -> None:
    """Their loss is logged from the first batch that is read on, also before they have made a step."""
    x = torch.randn(3, 8, 1)
    module = built(schedule=EveryNth(4))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    trainer = fit(module, x, log_every_n_steps=1)
    changed = {
        key.partition(".")[0] for key, value in module.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed == {"discriminator"}
    assert {"train/discriminator", "train/generator_and_encoder"} <= trainer.callback_metrics.keys()
    moving = built(schedule=EveryNth(3))
    fit(moving, x)
    assert not torch.equal(moving.encoder.slope, module.encoder.slope)  # type: ignore[arg-type]
    assert (module.generator_updates(3), moving.generator_updates(3), moving.generator_updates(8)) == (0, 1, 2)


def test_points_and_images_have_their_own_architecture() -> None:
    assert ALI.for_data(Ring().spec).hparams["architecture"] == "mlp"
    images = SyntheticImages(shape=[1, 28, 28], num_classes=2, size=8).spec
    assert GibbsNet.for_data(images, width=2).hparams["architecture"] == "dcgan"


def test_codes_are_means_or_draws_of_the_encoder() -> None:
    """Of 20 000 draws the mean is within 5 standard errors, of 0.5 / 141, and the scale within 2.5 %."""
    module = built()
    x = torch.full((20_000, 1), 0.6)
    slope, offset, variance = module.encoder.moments()  # type: ignore[operator]
    torch.testing.assert_close(module.encode(x), torch.full((20_000, 1), slope * 0.6 + offset))
    first, second = (module.encode(x, mean=False, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.mean().item() == pytest.approx(slope * 0.6 + offset, abs=0.018)
    assert first.std().item() == pytest.approx(variance**0.5, rel=0.025)
    drawn = module.reconstruct(x, mean=False, generator=torch.Generator().manual_seed(3))
    assert torch.equal(drawn, module.decode(first))
    assert torch.equal(module.reconstruct(x), module.decode(module.encode(x)))
