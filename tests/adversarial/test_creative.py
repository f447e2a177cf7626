"""Ambiguity of style: least, ln K, at the uniform posterior; and the generator finds examples between two styles."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from datamodules import Batch, DataSpec
from lightning_modules import CreativeAdversarialNetwork
from lightning_modules.adversarial.creative import cross_entropy_to_uniform, style_ambiguity
from tests.training import TinyData

SMALL: dict[str, Any] = {"shape": (2,), "architecture": "mlp", "latent_dim": 2, "width": 4}


def points(num_classes: int | None) -> DataSpec:
    return DataSpec("dots", "points", (2,), num_classes=num_classes)


@pytest.mark.parametrize("num_styles", [2, 3, 10])
def test_ambiguity_is_ln_k_plus_the_divergence_of_the_posterior_from_uniform(num_styles: int) -> None:
    """Gibbs' inequality: -1/K sum_k ln p_k = ln K + KL(uniform, p), so it is least, ln K, iff p is uniform."""
    logits = 3 * torch.randn(50, num_styles, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    uniform = torch.full_like(logits, 1 / num_styles)
    divergence = F.kl_div(logits.log_softmax(1), uniform, reduction="none").sum(1)
    torch.testing.assert_close(cross_entropy_to_uniform(logits), math.log(num_styles) + divergence)
    assert (divergence > 0).all()
    even = torch.full((4, num_styles), -2.5, dtype=torch.float64)
    torch.testing.assert_close(cross_entropy_to_uniform(even), torch.full((4,), math.log(num_styles)).double())


def test_descent_on_the_ambiguity_ends_at_the_uniform_posterior() -> None:
    logits = torch.tensor([[4.0, -1.0, 0.0, 2.0]], requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=2.0)
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy_to_uniform(logits).sum().backward()
        optimizer.step()
    torch.testing.assert_close(logits.softmax(1).detach(), torch.full((1, 4), 0.25))


def test_entropy_is_relative_to_that_of_the_uniform_distribution() -> None:
    posterior = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(style_ambiguity(posterior), torch.tensor([0.5, 1.0, 0.0]))


def fitted(module: CreativeAdversarialNetwork, batch: Batch, steps: int) -> Trainer:
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, num_sanity_val_steps=0, limit_val_batches=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    loader: Any = DataLoader(range(steps), collate_fn=lambda _: batch)  # type: ignore[arg-type]
    trainer.fit(module, loader, loader)
    return trainer


def losses_by_hand(module: CreativeAdversarialNetwork, batch: Batch, z: tuple[Tensor, Tensor]) -> list[Tensor]:
    """The sums that both players descend on, from probabilities."""
    assert batch.labels is not None
    real, styles = module.discriminator(batch.x, None)
    fake = module.discriminator(module.generator(z[0], None), None)[0]
    posterior = styles.softmax(1)[torch.arange(len(batch.x)), batch.labels]
    game = -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean())
    again, styles = module.discriminator(module.generator(z[1], None), None)
    ambiguity = -styles.softmax(1).log().mean(1).mean()
    return [game, -posterior.log().mean(), -again.sigmoid().log().mean(), module.ambiguity_weight * ambiguity]


def test_losses_are_those_of_the_paper() -> None:
    torch.manual_seed(0)
    module = CreativeAdversarialNetwork(**SMALL, num_styles=3, ambiguity_weight=0.7)
    batch = Batch(torch.randn(6, 2), torch.tensor([0, 1, 2, 2, 1, 0]))
    torch.manual_seed(1)
    found = [*module.discriminator_losses(batch).values(), *module.generator_losses(6).values()]
    torch.manual_seed(1)
    z = torch.randn(6, 2), torch.randn(6, 2)
    torch.testing.assert_close(found, losses_by_hand(module, batch, z))


def test_the_generator_moves_to_where_the_discriminator_knows_no_style() -> None:
    """Two styles, at x = -1 and x = 1: both players find these, and then the generator leaves them for the border."""
    torch.manual_seed(0)
    labels = torch.arange(256) % 2
    x = torch.stack([2.0 * labels - 1, torch.zeros(256)], 1) + 0.05 * torch.randn(256, 2)
    module = CreativeAdversarialNetwork(**SMALL | {"width": 8}, num_styles=2, lr=2e-3, ambiguity_weight=0.0)
    fitted(module, Batch(x, labels), 200)
    assert (module.style_posterior(x).argmax(1) == labels).float().mean() > 0.99
    before = ambiguity_of_samples(module)
    module.ambiguity_weight = 100.0  # so much that being taken for real does not matter
    optimizer = torch.optim.Adam(module.generator.parameters(), lr=2e-3)
    for _ in range(200):
        optimizer.zero_grad()
        torch.stack([*module.generator_losses(64).values()]).sum().backward()
        optimizer.step()
    assert before < 0.1
    assert ambiguity_of_samples(module) > 0.9


def ambiguity_of_samples(module: CreativeAdversarialNetwork) -> float:
    posterior = module.style_posterior(module.sample(500, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(posterior.sum(1), torch.ones(500))
    return style_ambiguity(posterior).mean().item()


def test_held_out_ambiguity_is_of_generated_examples_and_accuracy_of_real_ones() -> None:
    torch.manual_seed(0)
    module = CreativeAdversarialNetwork(**SMALL, num_styles=2)
    with torch.no_grad():
        module.discriminator.head.styles.weight.zero_()
        module.discriminator.head.styles.bias.copy_(torch.tensor([3.0, 0.0]))
    batch = Batch(torch.randn(4, 2), torch.tensor([0, 0, 0, 1]))
    found = module.held_out(batch, torch.arange(4), "val")
    p = torch.tensor([3.0, 0.0]).softmax(0)
    torch.testing.assert_close(found["style_ambiguity"], (-(p * p.log2()).sum()).expand(4))
    assert found["style_accuracy"].tolist() == [1, 1, 1, 0]


def test_styles_are_the_classes_of_the_data() -> None:
    assert CreativeAdversarialNetwork.for_data(points(7), width=2).num_styles == 7
    with pytest.raises(ValueError, match=r"num_styles=5, but dots has num_classes=7\."):
        CreativeAdversarialNetwork.for_data(points(7), width=2, num_styles=5)
    with pytest.raises(ValueError, match="needs classes, its styles, and dots has none"):
        CreativeAdversarialNetwork.for_data(points(None))
    with pytest.raises(ValueError, match=r"num_styles=5, but dots has num_classes=null\."):
        CreativeAdversarialNetwork(**SMALL, num_styles=5).check_data(points(None))


def test_another_number_of_styles_is_refused_before_training() -> None:
    module = CreativeAdversarialNetwork(**SMALL, num_styles=5)
    trainer = Trainer(accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match=r"num_styles=5, but tiny has num_classes=2\."):
        trainer.fit(module, TinyData((2,)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, r"num_styles=2; a batch must be \(x, integer labels"), (torch.tensor([0, 2]), r"num_styles=2.*\[0, 2\]")],
)
def test_labels_of_a_users_own_loader_are_checked(labels: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted(CreativeAdversarialNetwork(**SMALL, num_styles=2), Batch(torch.zeros(2, 2), labels), 1)


@pytest.mark.parametrize("architecture", ["dcgan", "resnet", "mlp"])
def test_every_architecture_has_two_heads_on_one_trunk(architecture: str) -> None:
    module = CreativeAdversarialNetwork((1, 28, 28), architecture, latent_dim=2, width=2, num_styles=3)
    x = torch.rand(4, 1, 28, 28)
    realness, styles = module.judged(x)
    assert (realness.shape, styles.shape) == ((4,), (4, 3))
    styles.sum().backward()
    shared = {key for key, p in module.discriminator.named_parameters() if p.grad is not None}
    own = {f"head.{name}.{kind}" for name in ("linear", "styles") for kind in ("weight", "bias")}
    assert shared == {key for key, _ in module.discriminator.named_parameters()} - {
        "head.linear.weight",
        "head.linear.bias",
    }
    assert shared - own


def test_spectral_norm_bounds_both_heads() -> None:
    module = CreativeAdversarialNetwork(**SMALL, num_styles=3, spectral_norm=True)
    fitted(module, Batch(torch.randn(8, 2), torch.arange(8) % 3), 10)
    module.eval()
    for head in (module.discriminator.head.linear, module.discriminator.head.styles):
        assert torch.linalg.matrix_norm(head.weight, 2).item() == pytest.approx(1.0, abs=0.05)
    plain = CreativeAdversarialNetwork(**SMALL, num_styles=3)
    assert not any("parametrizations" in name for name in plain.state_dict())


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="num_styles=1 must be an integer of at least 2"):
        CreativeAdversarialNetwork(num_styles=1)
    for weight in (-0.5, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"ambiguity_weight={weight}"):
            CreativeAdversarialNetwork(ambiguity_weight=weight)
    module = CreativeAdversarialNetwork(**SMALL)
    with pytest.raises(ValueError, match="labels were given"):
        module.decode(torch.zeros(2, 2), labels=torch.tensor([0, 1]))
