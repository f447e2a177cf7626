"""Schedules that a run does not end, and what is left of one that a resumed run leaves out."""

import re
import warnings
from typing import Any

import pytest

from lightning_modules import ProgressiveGAN
from lightning_modules.parts.critic_schedules import EveryNth
from lightning_modules.runtime.flags import warn_unreached
from tests.standins import StopAfter, quiet_trainer
from tests.training import TinyData, build, data_of

SCHEDULED = {"InstanceNoiseGAN": "noise_steps", "RothGAN": "gamma_steps", "R3GAN": "schedule_steps"}
SCHEDULED |= dict.fromkeys(("VAE", "LadderVAE"), "kl_warmup_steps")


@pytest.mark.parametrize("method", SCHEDULED)
def test_a_schedule_that_had_not_ended_is_said_where_the_length_was_not_known(method: str) -> None:
    module, shape = build(method, **{SCHEDULED[method]: 100_000})
    trainer = quiet_trainer([StopAfter(2)], max_epochs=-1, max_steps=-1, limit_val_batches=0)
    with pytest.warns(UserWarning, match=f"{SCHEDULED[method]}=100000 batches had not ended when the run did, after 2"):
        trainer.fit(module, TinyData(shape, **data_of(method)))


@pytest.mark.parametrize("method", SCHEDULED)
def test_of_a_schedule_that_ended_nothing_is_said(method: str) -> None:
    module, shape = build(method, **{SCHEDULED[method]: 2})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        quiet_trainer(max_epochs=-1, max_steps=3, limit_val_batches=0).fit(module, TinyData(shape, **data_of(method)))
    assert not [warning for warning in said if "had not ended" in str(warning.message)]


def test_a_schedule_of_beta2_that_is_left_out_on_resume_leaves_no_value_behind() -> None:
    module, shape = build("R3GAN", schedule_steps=4)
    trainer = quiet_trainer(max_epochs=-1, max_steps=4, limit_val_batches=0)
    trainer.fit(module, TinyData(shape, **data_of("R3GAN")))
    assert [group["betas"][1] for each in trainer.optimizers for group in each.param_groups] != [0.9, 0.9]
    trainer.save_checkpoint("before.ckpt")
    module, shape = build("R3GAN", schedule_steps=None)
    trainer = quiet_trainer(max_epochs=-1, max_steps=6, limit_val_batches=0)
    trainer.fit(module, TinyData(shape, **data_of("R3GAN")), ckpt_path="before.ckpt", weights_only=True)
    groups = [group for each in trainer.optimizers for group in each.param_groups]
    assert [tuple(group["betas"]) for group in groups] == [(0.0, 0.9)] * 2
    assert [group["lr"] for group in groups] == [module.hparams["lr"]] * 2


@pytest.mark.parametrize(("given", "expected"), [(None, 6), (3, 3)])
def test_growth_that_follows_from_the_length_is_planned_anew_where_it_was_given(
    given: int | None, expected: int
) -> None:
    module, shape = build("ProgressiveGAN", growth_steps=3)
    trainer = quiet_trainer(max_epochs=-1, max_steps=4, limit_val_batches=0)
    trainer.fit(module, TinyData(shape, **data_of("ProgressiveGAN")))
    trainer.save_checkpoint("before.ckpt")
    module, shape = build("ProgressiveGAN", growth_steps=given)
    assert isinstance(module, ProgressiveGAN)
    trainer = quiet_trainer(max_epochs=-1, max_steps=12, limit_val_batches=0)
    trainer.fit(module, TinyData(shape, **data_of("ProgressiveGAN")), ckpt_path="before.ckpt", weights_only=True)
    assert module.growth.steps == expected


def test_one_resolution_does_not_grow() -> None:
    module, shape = build("ProgressiveGAN", num_resolutions=1)
    trainer = quiet_trainer(max_epochs=-1, max_steps=-1, max_time={"seconds": 0}, limit_val_batches=0)
    trainer.fit(module, TinyData(shape, **data_of("ProgressiveGAN")))


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("WGANGP", {"critic_steps": 5}, ["critic_steps=5 the run, which is planned for 3 batches, makes no step"]),
        ("GibbsNet", {"critic_steps": 4}, ["critic_steps=4 the run, which is planned for 3 batches, makes no step"]),
        ("R3GAN", {"lazy_every": 4}, [f"lazy_every=4 .* never computes the penalty {name}" for name in ("r1", "r2")]),
        ("GibbsNet", {"lazy_every": 5}, ["lazy_every=5 .* never computes the penalty r1", "penalty r2"]),
        ("R3GAN", {"lazy_every": 3, "critic_steps": 3}, []),
        ("SNGAN", {"accumulate_batches": 4}, ["accumulate_batches=4 the run, .* for 3 batches, makes no step: "]),
        ("SNGAN", {"accumulate_batches": 2}, ["accumulate_batches=2 the run, .* makes no step with its last 1: "]),
        ("SNGAN", {"accumulate_batches": 3}, []),
        ("WGAN", {"critic_steps": 1, "bursts": True}, ["bursts=true .* makes no step of the generator"]),
    ],
)
def test_a_run_too_short_for_a_part_of_the_method_is_said(
    method: str, settings: dict[str, Any], said: list[str]
) -> None:
    module, shape = build(method, **settings)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        quiet_trainer(max_epochs=-1, max_steps=3, limit_val_batches=0).fit(module, TinyData(shape, **data_of(method)))
    texts = [text for warning in warned if "the run, which is planned" in (text := str(warning.message))]
    assert len(texts) == len(said)
    for text, pattern in zip(texts, said, strict=True):
        assert re.search(pattern, text)


def test_a_lazy_penalty_on_the_generator_counts_its_steps() -> None:
    trainer = quiet_trainer(max_epochs=-1, max_steps=6)
    with pytest.warns(UserWarning, match="lazy_every=3 .*planned for 6 batches, never computes the penalty late"):
        warn_unreached(trainer, EveryNth(3), EveryNth(3).generator_updates, {"r1": 6}, {"late": 3, "soon": 2})
