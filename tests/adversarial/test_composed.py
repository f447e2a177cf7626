"""Parts by name: any combination trains, and equals the named method where there is one."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules import SyntheticImages
from lightning_modules import LSGAN, R3GAN, SNGAN, WGANGP, ComposedGAN, InstanceNoiseGAN, JacobianClampingGAN, RothGAN
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.games import CROSS_ENTROPY_GAMES, GAMES
from lightning_modules.parts.penalties import PENALTIES
from tests.adversarial.covering import Row, all_rows, allowed_pairs, covering_rows, pairs_of
from tests.adversarial.games import POINTS, all_terms, fit

IMAGES: dict[str, Any] = {**POINTS, "shape": [1, 8, 8]}

FACTORS: dict[str, list[dict[str, Any]]] = {
    "game": [{"game": name} for name in GAMES],
    "penalty": [{}, *({"penalties": {name: 0.5}} for name in PENALTIES), {"penalties": {"r1": 0.5, "r2": 0.5}}],
    "constraint": [{}, {"spectral_norm": True}, {"weight_clip": 0.1}],
    "period": [{}, {"lazy_every": 2}],
    "noise": [{}, {"instance_noise": 0.1, "noise_steps": 2}],
    "augmentation": [{}, {"augment": ["translation", "cutout"], "augment_probability": 0.5}],
    "clamping": [{}, {"jacobian_clamping": 1.0}, {"jacobian_clamping": 0.5, "lambda_min": 2.0, "clamp_fraction": 0.5}],
    "classes": [{}, {"num_classes": 3}],
    "steps": [{}, {"critic_steps": 2}],
}


def settings_of(row: Mapping[str, int]) -> dict[str, Any]:
    """Returns the hyperparameters of a row."""
    return {key: value for name, level in row.items() for key, value in FACTORS[name][level].items()}


def possible(row: Mapping[str, int]) -> bool:
    """Whether values can be combined: what ComposedGAN refuses is stated here once more, independently."""
    settings = settings_of(row)
    if "roth" in settings.get("penalties", {}) and settings.get("game", "minimax") not in CROSS_ENTROPY_GAMES:
        return False
    return not ("penalty" in row and "lazy_every" in settings and "penalties" not in settings)


ROWS = covering_rows(FACTORS, possible)


def losses(module: AdversarialModule) -> dict[str, float]:
    torch.manual_seed(1)
    return {name: value.item() for name, value in all_terms(module, torch.randn(8, 2)).items()}


@pytest.mark.parametrize(
    ("named", "settings"),
    [
        (WGANGP, {"game": "wasserstein", "penalties": {"gradient_penalty": 10.0}}),
        (SNGAN, {"game": "hinge", "spectral_norm": True}),
        (LSGAN, {"game": "least_squares"}),
        (InstanceNoiseGAN, {"instance_noise": 0.1}),
        (RothGAN, {"penalties": {"roth": 0.1}}),
        (JacobianClampingGAN, {"jacobian_clamping": 1.0}),
        (R3GAN, {"game": "relativistic", "penalties": {"r1": 0.05, "r2": 0.05}}),
    ],
)
def test_equals_the_named_method(named: type[AdversarialModule], settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    first = named(**POINTS)
    torch.manual_seed(0)
    second = ComposedGAN(**POINTS, **settings)
    assert losses(first) == losses(second)
    assert {"discriminator", "generator"} <= losses(first).keys()


def test_few_rows_cover_every_pair_of_parts() -> None:
    assert len(ROWS) <= 50
    assert all(map(possible, ROWS))
    covered = set().union(*map(pairs_of, ROWS))
    assert covered == allowed_pairs(FACTORS, possible)
    assert covering_rows(FACTORS, possible) == ROWS
    # 6 games with 6 penalties, but the Roth penalty with two of them only
    assert len([pair for pair in covered if {name for name, _ in pair} == {"game", "penalty"}]) == 6 * 6 - 4


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(map(str, row.values())))
def test_every_pair_of_parts_trains(row: Row) -> None:
    torch.manual_seed(0)
    module = ComposedGAN(**IMAGES, **settings_of(row))
    before = {name: p.clone() for name, p in module.named_parameters()}
    data = SyntheticImages(shape=[1, 8, 8], num_classes=3, size=64, val_size=16, test_size=16, batch_size=8)
    trainer = fit(module, 4, data=data, log_every_n_steps=1)
    logged = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
    expected = {*module.penalties, *module.generator_penalties, "discriminator", "generator"}
    assert expected <= {name.removeprefix("train/") for name in logged}
    assert all(value.isfinite() for value in logged.values())
    moved = [name for name, p in module.named_parameters() if not torch.equal(p, before[name])]
    assert {"discriminator", "generator"} == {name.partition(".")[0] for name in moved}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_combination_has_finite_losses_and_gradients() -> None:
    """Of one batch each: 58 of games, penalties and periods, times 72 of the other parts, with one critic step."""
    labels = torch.tensor([0, 2, 1, 1, 0, 2, 0, 1])
    real = torch.rand(8, 1, 8, 8) * 2 - 1
    tried = 0
    for row in all_rows({**FACTORS, "steps": FACTORS["steps"][:1]}, possible):
        settings = settings_of(row)
        module = ComposedGAN(**IMAGES, **settings)
        terms = all_terms(module, real, labels if "num_classes" in settings else None, step=1)
        torch.stack(list(terms.values())).sum().backward()
        bad = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert bad == [], settings
        tried += 1
    assert tried == 58 * 72


def gradients(module: AdversarialModule, term: str, labels: Tensor | None = None) -> dict[str, float]:
    """Returns the norm of the gradient of one term by each player's weights; 0 where it does not depend on them."""
    value = all_terms(module, torch.rand(8, *module.hparams["shape"]) * 2 - 1, labels)[term]
    norms = {}
    for player in ("generator", "discriminator"):
        found = torch.autograd.grad(
            value, list(module.get_submodule(player).parameters()), retain_graph=True, allow_unused=True
        )
        norms[player] = sum(g.norm().item() for g in found if g is not None)
    return norms


@pytest.mark.parametrize(
    ("term", "settings", "of"),
    [
        *(("discriminator", {"game": game}, "discriminator") for game in GAMES),
        *(("generator", {"game": game}, "generator") for game in GAMES),
        *((name, {"penalties": {name: 1.0}}, "discriminator") for name in PENALTIES),
        # Above the largest change of a generator that has just been initialised, so that every example is penalised.
        ("jacobian_clamping", {"jacobian_clamping": 1.0, "lambda_min": 15.0}, "generator"),
        ("jacobian_clamping", {"jacobian_clamping": 1.0, "lambda_min": 0.0, "lambda_max": 1e-4}, "generator"),
        ("discriminator", {"instance_noise": 0.5}, "discriminator"),
        ("generator", {"instance_noise": 0.5}, "generator"),
        ("generator", {"augment": ["translation"]}, "generator"),
        ("discriminator", {"spectral_norm": True}, "discriminator"),
    ],
)
@pytest.mark.parametrize("num_classes", [None, 3])
def test_every_term_moves_its_player_and_no_penalty_moves_the_other(
    term: str, settings: dict[str, Any], of: str, num_classes: int | None
) -> None:
    torch.manual_seed(0)
    module = ComposedGAN(**IMAGES, **settings, num_classes=num_classes)
    labels = None if num_classes is None else torch.tensor([0, 2, 1, 1, 0, 2, 0, 1])
    norms = gradients(module, term, labels)
    assert norms[of] > 0
    if term != "generator":  # its gradient passes through the discriminator, whose weights are not stepped
        (other,) = {"generator", "discriminator"} - {of}
        assert norms[other] == 0


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"game": "zero_sum"}, "game='zero_sum'.*minimax, non_saturating, wasserstein, hinge, least_squares, relat"),
        ({"penalties": {"r3": 1.0}}, "penalties.*r3.*gradient_penalty, r1, r2, roth"),
        ({"penalties": {"r1": -1.0}}, r"r1.*-1\.0"),
        ({"weight_clip": 0.1, "spectral_norm": True}, r"weight_clip=0\.1.*spectral_norm"),
        ({"weight_clip": 0.0}, r"weight_clip=0\.0"),
        ({"weight_clip": float("nan")}, "weight_clip=nan"),
        ({"penalties": {"r1": float("nan")}}, r"penalties\.r1=nan must be positive"),
        ({"instance_noise": float("nan")}, "instance_noise=nan"),
        ({"jacobian_clamping": float("inf")}, "jacobian_clamping=inf"),
        ({"jacobian_clamping": 1.0, "lambda_max": float("nan")}, "lambda_max=nan"),
        *(
            ({"game": game, "penalties": {"roth": 1.0}}, f"roth.*game='{game}'.*minimax or non_saturating")
            for game in GAMES
            if game not in CROSS_ENTROPY_GAMES
        ),
        ({"augment": ["translation"]}, r"augment=\['translation'\].*images.*shape=\[2\]"),
        ({"augment": ["mirror"], "shape": [1, 8, 8]}, "mirror.*translation, cutout"),
        ({"augment": ["cutout"], "augment_probability": 1.5, "shape": [1, 8, 8]}, r"^augment_probability=1\.5"),
        ({"augment_probability": 0.5}, r"augment_probability=0\.5 has no effect without augment"),
        (
            {**IMAGES, "augment": ["cutout"], "augment_probability": 0.0},
            r"augment=\['cutout'\] has no effect with augment_probability=0",
        ),
        (
            {"shape": (1, 4, 4), "augment": ["cutout", "translation"]},
            r"translation does not change images of shape=\[1, 4, 4\]; they must have sides of at least 5 pixels",
        ),
        ({"shape": (1, 2, 2), "augment": ["cutout"]}, r"cutout does not change .*shape=\[1, 2, 2\]; .* at least 3 "),
        ({"lazy_every": 4}, "lazy_every=4 has no effect without penalties"),
        ({"lazy_every": 0, "penalties": {"r1": 1.0}}, "lazy_every=0"),
        ({"instance_noise": 0.0}, r"instance_noise=0\.0"),
        ({"noise_steps": 100}, "noise_steps=100 has no effect without instance_noise"),
        ({"instance_noise": 0.1, "noise_steps": 0}, "noise_steps=0"),
        ({"clamp_fraction": 0.5}, r"clamp_fraction=0\.5 has no effect without jacobian_clamping"),
        ({"jacobian_clamping": -1.0}, r"jacobian_clamping=-1\.0"),
        ({"jacobian_clamping": 1.0, "lambda_min": 5.0, "lambda_max": 2.0}, r"lambda_min=5\.0.*lambda_max=2\.0"),
        ({"jacobian_clamping": 1.0, "clamp_fraction": 0.7}, r"clamp_fraction=0\.7"),
        ({"discriminator_width": 0}, "discriminator_width=0.*width=2"),
        (
            {"architecture": "resnext", "shape": [1, 28, 28], "spectral_norm": True},
            r"Spectral norm.*blocks\.0\.contract",
        ),
    ],
)
def test_contradictions_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ComposedGAN(**{**POINTS, **settings})


def test_noise_that_would_not_end_within_the_run_is_refused_before_training() -> None:
    module = ComposedGAN(**POINTS, instance_noise=0.1, noise_steps=9)
    with pytest.raises(ValueError, match=r"noise_steps=9.*planned for 8"):
        fit(module, 8)
    assert fit(ComposedGAN(**POINTS, instance_noise=0.1, noise_steps=8), 8).global_step == 8


def test_the_discriminator_can_be_wider_than_the_generator() -> None:
    first, second = ComposedGAN(width=4), ComposedGAN(width=4, discriminator_width=12)
    sizes = [sum(p.numel() for p in module.generator.parameters()) for module in (first, second)]
    assert sizes[0] == sizes[1]
    assert second.discriminator.features[0].out_channels == 12
    assert first.discriminator.features[0].out_channels == 4
