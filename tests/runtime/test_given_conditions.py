"""Conditions: from batches, from callers, and drawn as in training; and those that do not fit."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Generator, Tensor

from datamodules import Batch, DataSpec, SyntheticImages
from lightning_modules import VAE, NonSaturatingGAN, PixelCNNPlusPlus
from lightning_modules.base import GenerativeModule

WORDS = ("a", "red", "blue", "square", "circle")
SPEC = DataSpec(
    "shapes",
    "image",
    (1, 8, 8),
    value_range=(-1.0, 1.0),
    num_classes=2,
    class_counts=(3, 1),
    vocabulary=WORDS,
    captions=("a red square", "a blue square", "red square", "a blue circle"),
    caption_classes=(0, 0, 0, 1),
)


def gan(both: bool = False, **changed: Any) -> NonSaturatingGAN:
    classes = {"num_classes": 2} if both else {}
    settings: dict[str, Any] = {"architecture": "mlp", "width": 2, "latent_dim": 3, "num_words": 5, **classes}
    return NonSaturatingGAN.for_data(SPEC, **{**settings, **changed})


def seed(number: int = 0) -> Generator:
    return Generator().manual_seed(number)


def test_the_condition_of_a_batch_is_classes_captions_or_both() -> None:
    x, labels, tokens = torch.zeros(2, 1, 8, 8), torch.tensor([1, 0]), torch.tensor([[1, 2], [3, 0]])
    batch = Batch(x, labels, tokens)
    assert gan(num_words=None).condition(batch) is None
    assert gan(num_words=None, num_classes=2).condition(batch) is labels
    assert gan().condition(batch) is tokens
    both = gan(both=True).condition(batch)
    assert both is not None
    assert both.tolist() == [[1, 1, 2], [0, 3, 0]]


def test_captions_become_tokens_in_turn() -> None:
    module = gan()
    assert module.caption_condition(["A red square.", "circle"]).tolist() == [[1, 2, 4], [5, 0, 0]]
    assert module.caption_condition(["red", "blue"], num=3).tolist() == [[2], [3], [2]]
    assert module.caption_condition("red circle").tolist() == [[2, 5]]
    tokens = torch.tensor([[2, 5]])
    assert module.caption_condition(tokens, num=2).tolist() == [[2, 5], [2, 5]]
    both = gan(both=True).caption_condition(["red", "blue circle"], torch.tensor([1, 0]))
    assert both.tolist() == [[1, 2, 0], [0, 3, 5]]


@pytest.mark.parametrize("both", [False, True])
def test_samples_follow_their_captions_alone(both: bool) -> None:
    module = gan(both)
    labels = torch.zeros(4, dtype=torch.int64) if both else None
    captions = ["red square", "blue circle"]
    samples = module.sample(4, captions=captions, labels=labels, generator=seed())
    codes = module.sample_latent(4, generator=seed())
    condition = module.caption_condition(captions, labels, 4)
    torch.testing.assert_close(samples, module.decode(codes, labels=condition))
    other = module.sample(4, captions=["red square", "a blue circle"], labels=labels, generator=seed())
    changes = (samples - other).abs().flatten(1).amax(1)
    assert changes[::2].max() < 1e-5  # the longer caption pads both, and some processors then round in another order
    assert changes[1::2].min() > 1e-3


def test_captions_are_drawn_from_those_of_training_with_their_classes() -> None:
    """At 4 000 draws, five standard errors of each share: a false alarm in a million runs."""
    module, num = gan(both=True), 4000
    drawn = module.choose_condition(num, None, None, seed())
    assert drawn is not None
    rows = [tuple(row) for row in drawn.tolist()]
    longest = 3
    expected = {
        (label, *tokens, *[0] * (longest - len(tokens)))
        for label, tokens in zip(SPEC.caption_classes, map(SPEC.tokens, SPEC.captions), strict=True)
    }
    counts = Counter(rows)
    assert set(counts) == expected
    assert all(abs(count / num - 0.25) < 5 * (0.25 * 0.75 / num) ** 0.5 for count in counts.values())
    again = module.choose_condition(num, None, None, seed())
    assert again is not None
    assert torch.equal(again, drawn)
    of_class = module.choose_condition(3, torch.tensor([1, 1, 0]), None, seed())
    assert of_class is not None
    assert of_class[:, 0].tolist() == [1, 1, 0]
    assert of_class[0].tolist() == of_class[1].tolist() == [1, 1, 3, 5]
    alone = gan().choose_condition(5, None, None, seed())
    assert alone is not None
    assert {tuple(row[row > 0].tolist()) for row in alone} <= {tuple(SPEC.tokens(caption)) for caption in SPEC.captions}


def test_text_to_sample_for_is_of_words_that_were_trained_on() -> None:
    """Held-out captions may have others, and are told by tokens, or to methods that measure examples."""
    module = gan()
    module.data_spec = replace(SPEC, captions=SPEC.captions[:3], caption_classes=())
    unseen = r"no caption of training on shapes had: 'circle'\."
    with pytest.raises(ValueError, match=unseen):
        module.sample(1, captions=["a red circle"])
    with pytest.raises(ValueError, match=unseen):
        module.check_captions(["a red circle"])
    condition = module.caption_condition(["a red circle"])
    assert condition.tolist() == [[1, 2, 5]]
    assert len(module.sample(2, captions=condition)) == 2
    module.data_spec = replace(SPEC, captions=(), caption_classes=())
    assert len(module.sample(1, captions=["a red circle"])) == 1, "nothing says what was trained on"


def test_batches_without_a_condition_are_refused() -> None:
    x, tokens = torch.zeros(2, 1, 8, 8), torch.tensor([[1, 2], [3, 0]])
    with pytest.raises(ValueError, match="a batch with tokens"):
        gan().condition(Batch(x, torch.tensor([1, 0])))
    with pytest.raises(ValueError, match="a batch with labels"):
        gan(both=True).condition(Batch(x, tokens=tokens))


UNKNOWN = "words that no caption of shapes has"


@pytest.mark.parametrize(
    ("both", "arguments", "message"),
    [
        (False, {"captions": []}, r"captions=\[\] has no caption"),
        (False, {"captions": ["red"] * 3}, "3 captions are more than num_samples=2"),
        (False, {"captions": ["reed squares"]}, rf"{UNKNOWN}: 'reed' .*'red'.*'squares' .*'square'"),
        (False, {"captions": ["?"]}, "has no words"),
        (False, {"captions": torch.tensor([[0, 1]])}, "a caption is empty"),
        (False, {"captions": torch.tensor([[6]])}, r"tokens span \[6, 6\], while words are 1 to 5"),
        (False, {"captions": torch.tensor([[0.5]])}, "must be integers"),
        (False, {"captions": torch.tensor([[True]])}, "must be integers .* torch.bool"),
        (False, {"labels": torch.tensor([[True], [True]])}, "must be integers .* not torch.bool"),
        (False, {"captions": torch.tensor([[1, 0, 2]])}, "padding comes before its words"),
        (True, {"captions": torch.tensor([[True]]), "labels": torch.tensor([0, 0])}, "must be integers .* torch.bool"),
        (True, {"captions": ["red"], "labels": torch.tensor([True, False])}, "integers .* not torch.bool"),
        (
            False,
            {"captions": ["red"], "labels": torch.tensor([0, 0])},
            "labels were given to a model of captions alone",
        ),
        (False, {"labels": torch.tensor([0, 0])}, "labels were given to a model of captions alone"),
        (True, {"captions": ["red"]}, "takes a class with each caption: give labels, 2 integers below 2"),
        (True, {"captions": ["red"], "labels": torch.tensor([0])}, r"labels must be integers of shape \(2,\)"),
        (True, {"captions": ["red"], "labels": torch.tensor([0, 2])}, r"labels span \[0, 2\]"),
    ],
)
def test_captions_that_do_not_fit_are_refused(both: bool, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gan(both).sample(2, **arguments)


@pytest.mark.parametrize(
    "module",
    [
        gan(num_words=None),
        gan(num_words=None, num_classes=2),
        VAE.for_data(SPEC, architecture="mlp", hidden=2, depth=1),
        PixelCNNPlusPlus.for_data(SPEC, width=2, num_scales=1),
    ],
    ids=lambda module: type(module).__name__,
)
def test_captions_for_a_model_without_them_are_refused(module: Any) -> None:
    with pytest.raises(ValueError, match="captions were given to a model without captions; build it with num_words"):
        module.sample(2, captions=["red"])


def test_a_condition_of_another_form_is_refused() -> None:
    module, codes = gan(both=True), torch.zeros(2, 3)
    for wrong, message in (
        (None, "A model of captions needs them"),
        (torch.tensor([0, 1]), r"shape \(2, 1 \+ words\)"),
        (torch.tensor([[0], [1]]), r"shape \(2, 1 \+ words\)"),
        (torch.tensor([[2, 1], [0, 1]]), r"labels span \[0, 2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            module.decode(codes, labels=wrong)


def test_without_the_captions_of_training_none_are_drawn() -> None:
    module = gan()
    module.data_spec = replace(SPEC, captions=(), caption_classes=())
    with pytest.raises(ValueError, match=r"not recorded, so none can be drawn: give captions=\[\.\.\.\]"):
        module.sample(2)
    assert len(module.sample(2, captions=["red"])) == 2
    module = gan(both=True)
    module.data_spec = replace(SPEC, caption_classes=())
    with pytest.raises(ValueError, match="classes of the training captions are not recorded"):
        module.sample(2)
    module.data_spec = replace(SPEC, caption_classes=(0, 0, 0, 0))
    with pytest.raises(ValueError, match="No training example has the class 1"):
        module.sample(2, labels=torch.tensor([0, 1]))


def test_a_model_fits_data_of_as_many_words() -> None:
    with pytest.raises(ValueError, match="num_words=4, but the captions of shapes have 5 words"):
        gan(num_words=4)
    data = SyntheticImages(shape=[1, 8, 8], size=8, batch_size=4)
    module = NonSaturatingGAN.for_data(data.spec, architecture="mlp", num_words=5)  # which may have words after setup
    trainer = Trainer(max_steps=2, accelerator="cpu", logger=False, enable_progress_bar=False, barebones=False)
    with pytest.raises(ValueError, match="num_words=5, but synthetic has no captions"):
        trainer.fit(module, data)
    with pytest.raises(ValueError, match="num_words=0"):
        gan(num_words=0)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (None, "a batch must have tokens"),
        (torch.zeros(2, dtype=torch.int64), "a batch must have tokens"),
        (torch.zeros(2, 3), "are torch.float32, not integers"),
        (torch.tensor([[1, 2], [9, 0]]), r"tokens span \[0, 9\], while words are 1 to 5"),
        (torch.tensor([[1, 2], [0, 1]]), "padding comes before its words"),
        (torch.tensor([[1, 2, 3], [1, 0, 2]]), "padding comes before its words"),
    ],
)
def test_batches_whose_captions_do_not_fit_are_refused(tokens: Tensor | None, message: str) -> None:
    module: GenerativeModule = gan()
    with pytest.raises(ValueError, match=f"num_words=5.*{message}"):
        module.check_batch(Batch(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), tokens))
    module.check_batch(Batch(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), torch.tensor([[1, 2], [3, 0]])))
