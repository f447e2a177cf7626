"""Counterfactual figures and their picture: models that know the truth, repeat a neighbour, or draw nothing of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from datamodules import CaptionedFolder, Emoji
from datamodules.images.emoji import CATEGORIES
from datamodules.images.emoji_attributes import Attributes
from lightning_modules import Classifier
from lightning_modules.metrics.protocol import Extracted
from lightning_modules.metrics.reference_statistics import compute_statistics, ship_statistics
from lightning_modules.metrics.sample_evaluation import evaluate_samples
from tests.datamodules.small_data import small
from tests.datamodules.small_emoji import captioned_folder
from tests.zoo.drawing_emoji import SIDE, Drawing, Pixels, gan, images_of
from zoo.counterfactual_figures import (
    counterfactuals,
    draws_captioned_emoji,
    figures,
    group_of,
    pairs_of,
    real_emoji,
)
from zoo.counterfactual_table import FIGURE
from zoo.data import compared_with
from zoo.data_record import record_of
from zoo.evaluation import EVALUATIONS, evaluate
from zoo.evaluation_request import LeftOut, Request
from zoo.views import views_of


def measured(data: Emoji, module: nn.Module, extractor: nn.Module, **settings: Any) -> dict[str, float]:
    request = Request(zoo.card("sngan.fashion_mnist"), module, **settings)
    vars(request).update(datamodule=data, feature_extractor=extractor)
    return counterfactuals(request)


def shares(values: dict[str, float]) -> dict[str, float]:
    """Returns the figures without their errors, and without what their names say of the protocol."""
    found = {name: FIGURE.fullmatch(name) for name in values}
    assert all(found.values())
    return {
        name.partition("-")[0].removeprefix("test/counterfactual_"): values[name]
        for name, match in found.items()
        if match is not None and not match["error"]
    }


def test_a_model_that_draws_the_truth_is_right_in_everything(emoji: Emoji) -> None:
    real = images_of(emoji)
    values = measured(emoji, Drawing(emoji, lambda one: real[one.image, one.style]), Pixels())
    found = shares(values)
    for name in ("nearer", "nearest_tone", "retrieved_1", "retrieved_5"):
        assert [found[f"{name}_{side}"] for side in ("unseen", "seen", "difference")] == [1.0, 1.0, 0.0], name
    assert all(value == 0 for name, value in values.items() if "error" in name and "neighbour" not in name)
    assert found["retrieved_1_unseen_neighbour"] == 0
    assert found["nearest_tone_unseen_neighbour"] < 1


def test_a_model_that_repeats_another_tone_is_wrong_for_the_unseen_alone(emoji: Emoji) -> None:
    """It draws a seen image of the same person and role, or the truth where that was seen."""
    real, seen = images_of(emoji), emoji.attributes("train")

    def repeated(one: Attributes) -> Tensor:
        if one in seen:
            return real[one.image, one.style]
        copies = [o for o in seen if (o.person, o.role, o.style) == (one.person, one.role, one.style)]
        other = (copies or [o for o in seen if o.role])[0]
        return real[other.image, other.style]

    unseen = [one for one in emoji.attributes("test") if one.tone]
    pairs = {(one.person, one.role) for one in seen}
    without = sum((one.person, one.role) not in pairs for one in unseen)
    found = shares(measured(emoji, Drawing(emoji, repeated), Pixels()))
    assert [found[f"retrieved_1_{side}"] for side in ("unseen", "seen", "difference")] == [0.0, 1.0, -1.0]
    assert found["nearest_tone_seen"] == 1
    # Of people none of whose tones was seen it draws others, whose noise may be nearest to any tone.
    assert found["nearest_tone_unseen"] <= without / len(unseen) < 1


def test_seen_partners_are_asked_from_the_same_random_numbers(emoji: Emoji) -> None:
    module = Drawing(emoji, lambda one: torch.zeros(3, SIDE, SIDE, dtype=torch.uint8))
    module.num_classes = 10
    values = measured(emoji, module, Pixels(), seed=3)
    unseen, seen = module.asked
    assert module.noise[0] == module.noise[1]
    assert set(unseen) == set(emoji.captions("test"))
    assert set(seen) <= set(emoji.captions("train"))
    assert len(pairs_of(emoji)) == len(unseen) == len(seen)
    assert not any(caption in emoji.captions("train") for caption in unseen)
    assert any(name.endswith(f"-pixels-{len(unseen)}") for name in values)
    fewer = measured(emoji, module, Pixels(), num_samples=9)
    assert [len(captions) for captions in module.asked[2:]] == [4, 4]
    assert any(name.endswith("-pixels-4") for name in fewer)


def test_attributes_are_named_by_a_classifier_where_a_caption_asks_for_them(emoji: Emoji) -> None:
    known = small_classifier(emoji)
    real = images_of(emoji)
    values = measured(emoji, Drawing(emoji, lambda one: real[one.image, one.style]), known)
    found, unseen = shares(values), emoji.attributes("test")
    for name in ("tone", "category", "person", "role", "style"):
        assert found[f"{name}_unseen"] == found[f"{name}_unseen_real"], "the truth is drawn"
    with torch.no_grad():
        features, logits = known.extract(emoji.images("test")[0])
        told = known.attribute_logits(features)
    tones = dict(emoji.spec.attributes)["tone"]
    right = [tones[logit.argmax()] == one.tone for logit, one in zip(told["tone"], unseen, strict=True) if one.tone]
    assert found["tone_unseen"] == pytest.approx(sum(right) / len(right))
    right = [CATEGORIES[logit.argmax()] == one.category for logit, one in zip(logits, unseen, strict=True)]
    assert found["category_unseen"] == pytest.approx(sum(right) / len(right))
    counted = [name.rpartition("-")[2] for name in values if name.startswith("test/counterfactual_tone_unseen-")]
    assert counted == [str(sum(bool(one.tone) for one in unseen))]


def small_classifier(data: Emoji) -> Classifier:
    torch.manual_seed(0)
    return Classifier.for_data(data.spec, width=2).eval()


def test_samples_that_are_not_finite_and_other_images_are_refused(emoji: Emoji) -> None:
    module = Drawing(emoji, lambda one: torch.full((3, SIDE, SIDE), torch.nan))
    with pytest.raises(ValueError, match="NaN or infinite"):
        measured(emoji, module, Pixels())
    with pytest.raises(ValueError, match="emoji"):
        measured(emoji, module, Classifier(width=2))
    with pytest.raises(ValueError, match="num_samples=3 .*'composition'.* at least 4"):
        measured(emoji, Drawing(emoji, lambda one: torch.zeros(3, SIDE, SIDE)), Pixels(), num_samples=3)


def test_a_classifier_that_may_have_seen_the_truth_does_not_judge(
    emoji: Emoji, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Drawing(emoji, lambda one: torch.zeros(3, SIDE, SIDE, dtype=torch.uint8))
    own = emoji.spec.preprocessing
    noisy = small_classifier(emoji)
    noisy.data_spec = replace(emoji.spec, preprocessing=f"{own}-dequantized")
    assert measured(emoji, module, noisy), "noise on the same images"
    for changed in ({"split": "random"}, {"split": "style"}, {"background": "black"}, {"styles": ["noto"]}):
        other = Emoji(**{"image_size": 16, "split": "composition", **changed}).spec
        judge = small_classifier(emoji)
        judge.data_spec = other
        with pytest.raises(LeftOut, match=rf"'{other.preprocessing}' .*'{own}'.* --extractor"):
            measured(emoji, module, judge)
    judge.data_spec = replace(emoji.spec, name="faces", preprocessing="resized-16")
    assert measured(emoji, module, judge), "it has seen no emoji"


def test_figures_of_a_single_group_are_left_out(emoji: Emoji, monkeypatch: pytest.MonkeyPatch) -> None:
    real = images_of(emoji)
    module = Drawing(emoji, lambda one: real[one.image, one.style])
    shown = [one for split in ("train", "val", "test") for one in emoji.attributes(split)]
    pairs = pairs_of(emoji)
    kinds = [group_of(shown[place]) for place in pairs[:, 0].tolist()]
    other = next(place for place, kind in enumerate(kinds) if kind != kinds[0])
    alike = [place for place, kind in enumerate(kinds) if kind == kinds[0]]
    chosen = torch.stack([pairs[0], pairs[other]])
    known = real_emoji(emoji, Pixels())
    toneless = replace(known, shown=[replace(one, tone="") if one == shown[chosen[1, 0]] else one for one in shown])
    asked = {"unseen": chosen[:, 0], "seen": chosen[:, 1]}
    made = {side: Extracted(known.features[places], known.logits[places]) for side, places in asked.items()}
    found = figures(Pixels(), toneless, asked, made)
    assert "test/counterfactual_nearer_unseen-pixels-2" in found
    assert not any("nearest_tone_unseen" in name for name in found), "one of the two has a tone"
    monkeypatch.setattr("zoo.counterfactual_figures.torch.randperm", lambda num, generator: torch.tensor(alike))
    with pytest.raises(LeftOut, match=r"num_samples=5 asks for 2 pairs .* of 1 person\(s\) and role\(s\)"):
        measured(emoji, module, Pixels(), num_samples=5)


def test_only_models_of_captioned_emoji_have_them(
    emoji: Emoji, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioned = gan(emoji)
    assert draws_captioned_emoji(captioned)
    assert EVALUATIONS["counterfactuals"].applies(captioned)
    assert "counterfactual" in views_of(captioned)
    pets = small("CaptionedFolder", tmp_path / "pets", monkeypatch)
    pets.setup()
    for other in (gan(emoji, captions=False), gan(pets)):
        assert not draws_captioned_emoji(other)
        assert "counterfactual" not in views_of(other)


@pytest.mark.filterwarnings("ignore:FID of", "ignore:Classifier models images")
def test_the_command_measures_them_beside_the_distance_from_all_real_images(
    emoji: Emoji, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("zoo.evaluation_request.datamodule_of", lambda card, data_dir: emoji)
    judge = small_classifier(emoji)
    zoo.save(judge, "judge", samples=False)
    zoo.save(gan(emoji), "drawing", samples=False)
    values = evaluate(zoo.card("./drawing"), extractor="./judge", num_samples=40)
    real = compute_statistics(judge, emoji.images("all")[0])
    expected = evaluate_samples(
        zoo.load("./drawing"), judge, spec=emoji.spec, num_samples=40, statistics=real, progress=False
    )
    for name in ("fid", "kid", "precision"):
        assert values[f"test/{name}-emoji-40-all"] == pytest.approx(expected[f"test/{name}-emoji-40"], rel=1e-5)
    assert not any(name.endswith("-emoji-40") for name in values)
    toned = [one for one in emoji.attributes("test") if one.tone]
    assert "test/counterfactual_style_unseen-emoji-20" in values, "of forty samples half are of unseen captions"
    assert any(f"test/counterfactual_tone_unseen-emoji-{num}" in values for num in range(2, 1 + min(20, len(toned))))
    assert (
        evaluate(zoo.card("./drawing"), extractor="./judge", num_samples=40, samples_only=True).keys() < values.keys()
    )
    judge.data_spec = Emoji(image_size=16, split="random").spec
    zoo.save(judge, "other", samples=False)
    with pytest.warns(UserWarning, match="Counterfactual figures are left out: the classifier"):
        fewer = evaluate(zoo.card("./drawing"), extractor="./other", num_samples=40)
    assert "test/fid-emoji-40-all" in fewer, "what was measured before is kept"
    references = evaluate(zoo.card("./judge"))
    assert references["test/inception_score_of_real_pictures-emoji-all"] == pytest.approx(real.inception_score.mean)
    assert {f"test/accuracy_{name}" for name in ("tone", "person", "role", "style")} < references.keys()
    shipped = ship_statistics(judge, emoji, compared_with(zoo.card("./judge")), tmp_path / "statistics")
    assert shipped.name.startswith("emoji.all.noto-twemoji-resized-16-composition.")


def test_a_folder_of_the_users_own_is_compared_with_its_test_split(tmp_path: Path) -> None:
    data = CaptionedFolder(str(captioned_folder(tmp_path / "emoji")), image_size=8, val_size=4, test_size=5)
    data.setup()
    module = gan(data)
    zoo.save(module, "drawing", samples=False)
    card = zoo.card("./drawing")
    assert card.data == "emoji"
    assert compared_with(replace(card, datamodule=record_of(data))) == "test"
    assert compared_with(card) == "all", "nothing says that they are not the public ones"
