"""Flows given captions: guidance, what dropping learns, samples by text, likelihoods, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.spec import Batch, DataSpec
from lightning_modules import FlowMatching
from lightning_modules.callbacks import EMA
from tests.captioned import WORDS, with_words
from tests.standins import quiet_trainer
from tests.training import TinyData

SPEC = with_words(DataSpec("bars", "image", (1, 8, 8), (-1.0, 1.0), num_classes=2))
CAPTIONS = ["a bar", "a bar leaning left", "bar"]


def flow(both: bool = False, **settings: Any) -> FlowMatching:
    """A small U-Net whose zeros have been replaced, as training does."""
    torch.manual_seed(0)
    classes = {"num_classes": 2} if both else {}
    module = FlowMatching.for_data(SPEC, **{"width": 4, "depth": 1, "num_words": len(WORDS), **classes, **settings})
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return module


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def labels_of(both: bool) -> Tensor | None:
    return torch.tensor([0, 1, 1]) if both else None


@pytest.mark.parametrize("both", [False, True], ids=["captions", "both"])
@pytest.mark.parametrize("architecture", ["unet", "mlp"])
def test_guidance_is_between_the_velocities_without_and_with_captions(architecture: str, both: bool) -> None:
    """w = 0 and 1 are the unconditional and the conditional field, with nothing of the other one in them."""
    module = flow(both, architecture=architecture)
    condition, other = (module.caption_condition(texts, labels_of(both)) for texts in (CAPTIONS, CAPTIONS[::-1]))
    x, time = torch.randn(3, 1, 8, 8), torch.full((3,), 0.4)
    without, given = module.network(x, time, None), module.network(x, time, condition)
    assert not torch.allclose(without, given)
    for w, expected in {0.0: without, 1.0: given, 2.5: without + 2.5 * (given - without)}.items():
        torch.testing.assert_close(module.velocity(x, 0.4, condition, w), expected)
    assert torch.equal(module.velocity(x, 0.4, other, 0.0), without)
    assert not torch.allclose(module.velocity(x, 0.4, other, 1.0), given)

    z, steps = module.sample_latent(3, generator=seed()), {"steps": 3}
    unguided = [module.decode(z, labels=labels, guidance=0.0, **steps) for labels in (condition, other)]
    assert torch.equal(*unguided)
    samples = module.sample(3, captions=CAPTIONS, labels=labels_of(both), guidance=2.0, generator=seed(), **steps)
    torch.testing.assert_close(samples, module.decode(z, labels=condition, guidance=2.0, **steps))


def test_a_share_of_captions_is_dropped_with_their_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dropped example adds to the gradient is that of the same example without any condition."""
    module = flow(both=True, condition_dropout=0.5)
    monkeypatch.setattr(module, "objective", lambda terms: terms["velocity_error"])
    seen: dict[str, Any] = {}
    hook = module.network.register_forward_pre_hook(
        lambda network, given: seen.update(zip(("x", "time", "condition", "dropped"), given, strict=True))
    )
    condition = module.caption_condition(CAPTIONS, labels_of(both=True)).repeat(20, 1)
    torch.manual_seed(0)
    module.training_step(Batch(torch.randn(60, 1, 8, 8), condition[:, 0], condition[:, 1:]), 0)
    hook.remove()
    assert torch.equal(seen["condition"], condition)
    dropped = seen["dropped"]
    assert 10 < dropped.sum() < 50  # of 60, five standard errors of 30 are 20
    velocity = module.network(seen["x"], seen["time"], condition, dropped)
    without, given = (module.network(seen["x"], seen["time"], value) for value in (None, condition))
    torch.testing.assert_close(velocity[dropped], without[dropped])
    torch.testing.assert_close(velocity[~dropped], given[~dropped])
    velocity[dropped].square().sum().backward()
    text = {name: p.grad for name, p in module.network.named_parameters() if ".encoder." in name}
    assert text
    assert not any(gradient.any() for gradient in text.values() if gradient is not None)


def test_one_caption_of_any_length_serves_many_samples() -> None:
    module = flow()
    long = " ".join(["a bar leaning left"] * 60)
    samples = module.sample(4, captions=long, steps=1, generator=seed())
    again = module.sample(4, captions=[long], steps=1, generator=seed())
    assert torch.equal(samples, again)
    assert samples.isfinite().all()
    drawn = module.sample(4, steps=1, generator=seed())
    assert drawn.shape == (4, 1, 8, 8)


def test_codes_and_likelihoods_are_given_captions() -> None:
    module = flow(steps=40, likelihood_steps=4).double()
    condition = module.caption_condition(CAPTIONS)
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64) - 0.5
    torch.testing.assert_close(module.reconstruct(x, labels=condition), x, atol=1e-2, rtol=0.0)
    padded = torch.nn.functional.pad(condition, (0, 3))
    values = module.log_prob(x, labels=condition)
    torch.testing.assert_close(module.log_prob(x, labels=padded), values)
    assert not torch.allclose(module.log_prob(x, labels=condition.flip(0)), values)
    leaf = x.clone().requires_grad_()
    module.log_prob(leaf, labels=condition).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.flatten(1).any(1).all()


def run(module: FlowMatching, steps: int, folder: Path, ckpt_path: str | None = None) -> dict[str, Tensor]:
    torch.manual_seed(1)
    trainer = quiet_trainer([EMA(half_life_images=40)], max_epochs=-1, max_steps=steps)
    trainer.fit(module, TinyData((1, 8, 8), captioned=True), ckpt_path=ckpt_path)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    return module.state_dict()


def test_a_run_resumes_bit_for_bit_and_its_checkpoint_keeps_the_words(tmp_path: Path) -> None:
    whole = run(flow(both=True), 8, tmp_path)
    run(flow(both=True), 3, tmp_path / "part")
    resumed = run(flow(both=True), 8, tmp_path / "rest", str(tmp_path / "part" / "3.ckpt"))
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    loaded = FlowMatching.load_from_checkpoint(tmp_path / "8.ckpt", weights_only=True)
    assert loaded.data_spec.vocabulary == WORDS
    labels = torch.zeros(2, dtype=torch.int64)
    assert len(loaded.sample(2, captions=["leaning bar"], labels=labels, steps=1)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"captions": []}, r"captions=\[\] has no caption"),
        ({"captions": ["bar"] * 3}, "3 captions are more than num_samples=2"),
        ({"captions": ["baar"]}, r"words that no caption of bars has: 'baar' \(did you mean 'bar'"),
        ({"captions": ["bar", 3]}, "captions must be strings, but 3 is of int"),
        ({"captions": b"bar"}, "captions must be strings, but 98 is of int"),
        ({"captions": 7}, "captions must be strings, but 7 is of int"),
        ({"captions": torch.tensor([1, 2])}, r"shape \(N, words\), not \(2,\).*tokens\[None\]"),
        ({"labels": torch.tensor([0, 1])}, "labels were given to a model of captions alone"),
        ({"captions": ["bar"], "labels": torch.tensor([0, 1])}, "labels were given to a model of captions alone"),
        ({"labels": [[1, 2], [1]]}, r"labels must be a tensor of integers, not \[\[1, 2\], \[1\]\]"),
        ({"captions": ["bar"], "guidance": -1}, "guidance=-1"),
    ],
)
def test_what_cannot_be_sampled_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flow().sample(2, **arguments)


def test_a_model_of_both_draws_captions_of_the_classes_that_are_given() -> None:
    module = flow(both=True)
    asked = module.choose_condition(4, torch.tensor([1, 0, 1, 0]), None, seed())
    assert asked is not None
    assert asked[:, 0].tolist() == [1, 0, 1, 0]
    assert len(module.sample(4, labels=torch.tensor([1, 0, 1, 0]), steps=1)) == 4
    with pytest.raises(ValueError, match="takes a class with each caption: give labels, 2 integers below 2"):
        module.sample(2, captions=["bar"])


def test_captions_for_a_flow_without_them_and_batches_without_captions_are_refused() -> None:
    plain = flow(num_words=None)
    with pytest.raises(ValueError, match="captions were given to a model without captions; build it with num_words"):
        plain.sample(2, captions=["bar"])
    with pytest.raises(ValueError, match=r"guidance=2 needs a velocity without a condition, which condition_dropout=0"):
        flow(condition_dropout=0.0, guidance=2.0)
    always, x = flow(condition_dropout=0.0), torch.zeros(2, 1, 8, 8)
    with pytest.raises(ValueError, match="labels=None needs a velocity without a condition"):
        always.velocity(x, 0.5, None)
    with pytest.raises(ValueError, match="guidance=0 needs a velocity without a condition"):
        always.velocity(x, 0.5, always.caption_condition(CAPTIONS[:2]), guidance=0)
    assert always.velocity(x, 0.5, always.caption_condition(CAPTIONS[:2])).shape == x.shape
    assert flow(num_words=None, condition_dropout=0.0).velocity(x, 0.5, None).shape == x.shape
    with pytest.raises(ValueError, match="num_words=5; a batch must have tokens"):
        flow().check_batch(Batch(torch.zeros(2, 1, 8, 8)))
    with pytest.raises(ValueError, match="num_words=5, but tiny has no captions"):
        quiet_trainer().fit(flow(), TinyData((1, 8, 8)))
    module = flow()
    module.data_spec = replace(SPEC, captions=(), caption_classes=())
    with pytest.raises(ValueError, match="not recorded, so none can be drawn"):
        module.sample(2)
