"""Counterfactual figures and their picture: models that know the truth, repeat a neighbour, or draw nothing of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from torch import Tensor, nn

import zoo
from datamodules import Emoji, ZooDataModule
from datamodules.images.emoji import CATEGORIES
from datamodules.images.emoji_attributes import Attributes
from lightning_modules import Classifier, NonSaturatingGAN
from lightning_modules.rendering.image_rows import MARGIN
from tests.datamodules.small_data import small
from tests.zoo.running import fails
from zoo.__main__ import main
from zoo.counterfactual_figures import counterfactuals, draws_captioned_emoji, pairs_of
from zoo.counterfactual_table import COLUMNS, FIGURE, counterfactual_rows, meaning
from zoo.counterfactual_view import HEADINGS, SAMPLES, counterfactual, with_counterfactuals
from zoo.evaluation import EVALUATIONS
from zoo.evaluation_request import Request
from zoo.view_request import Request as ViewRequest
from zoo.views import views_of

SIDE = 16


class Pixels(nn.Module):
    """An extractor whose features are the pixels."""

    extractor_name = "pixels"
    num_features = 3 * SIDE * SIDE

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the pixels, and no logits worth the name."""
        pixels = images.flatten(1).float()
        return pixels, pixels[:, :2]


class Drawing(nn.Module):
    """Draws for each caption the image that a function of what it says gives, and counts what it was asked."""

    num_classes: int | None = None
    num_words = 9

    def __init__(self, data: Emoji, draw: Callable[[Attributes], Tensor]) -> None:
        super().__init__()
        self.data_spec, self.draw = data.spec, draw
        everything = [one for split in ("train", "val", "test") for one in data.attributes(split)]
        self.shown = {one.caption: one for one in everything}
        self.asked: list[list[str]] = []
        self.noise: list[float] = []

    def sample(self, num: int, *, captions: Sequence[str], generator: torch.Generator, **labels: Tensor) -> Tensor:
        self.asked.append(list(captions))
        self.noise.append(torch.rand(1, generator=generator).item())
        if self.num_classes is not None:
            assert labels["labels"].tolist() == [CATEGORIES.index(self.shown[c].category) for c in captions]
        images = torch.stack([self.draw(self.shown[caption]) for caption in captions])
        assert len(images) == num
        return images.float() / 127.5 - 1


@pytest.fixture
def emoji(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emoji:
    data = small("Emoji", tmp_path / "small", monkeypatch, split="composition", val_size=4)
    assert isinstance(data, Emoji)
    data.setup()
    return data


def images_of(data: Emoji) -> dict[tuple[str, str], Tensor]:
    """Returns every real image by its file and style."""
    shown = [one for split in ("train", "val", "test") for one in data.attributes(split)]
    return {(one.image, one.style): image for one, image in zip(shown, data.images("all")[0], strict=True)}


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
    tones = dict(emoji_with_attributes(emoji).attributes)["tone"]
    right = [tones[logit.argmax()] == one.tone for logit, one in zip(told["tone"], unseen, strict=True) if one.tone]
    assert found["tone_unseen"] == pytest.approx(sum(right) / len(right))
    right = [CATEGORIES[logit.argmax()] == one.category for logit, one in zip(logits, unseen, strict=True)]
    assert found["category_unseen"] == pytest.approx(sum(right) / len(right))
    counted = [name.rpartition("-")[2] for name in values if name.startswith("test/counterfactual_tone_unseen-")]
    assert counted == [str(sum(bool(one.tone) for one in unseen))]


def emoji_with_attributes(data: Emoji) -> Any:
    other = Emoji(data_dir=data.data_dir, image_size=SIDE, split="composition", val_size=4, with_attributes=True)
    other.setup()
    return other.spec


def small_classifier(data: Emoji) -> Classifier:
    torch.manual_seed(0)
    return Classifier.for_data(emoji_with_attributes(data), width=2).eval()


def test_samples_that_are_not_finite_and_other_images_are_refused(emoji: Emoji) -> None:
    module = Drawing(emoji, lambda one: torch.full((3, SIDE, SIDE), torch.nan))
    with pytest.raises(ValueError, match="NaN or infinite"):
        measured(emoji, module, Pixels())
    with pytest.raises(ValueError, match="emoji"):
        measured(emoji, module, Classifier(width=2))
    with pytest.raises(ValueError, match="two groups"):
        measured(emoji, Drawing(emoji, lambda one: torch.zeros(3, SIDE, SIDE)), Pixels(), num_samples=2)


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


def gan(data: ZooDataModule, captions: bool = True) -> NonSaturatingGAN:
    words = len(data.spec.vocabulary) if captions else None
    return NonSaturatingGAN.for_data(data.spec, architecture="mlp", width=2, latent_dim=3, num_words=words)


# The picture


def test_rows_have_the_truth_the_samples_and_the_nearest_seen_image(emoji: Emoji) -> None:
    real = images_of(emoji)
    module: Any = Drawing(emoji, lambda one: real[one.image, one.style])
    seen = emoji.images("train")[0]
    shown = emoji.attributes("test")[:2]
    images = torch.stack([real[one.image, one.style] for one in shown])
    request = ViewRequest(
        module,
        2,
        torch.Generator().manual_seed(0),
        images.float() / 127.5 - 1,
        training=seen,
        extractor=Pixels(),
        asked=shown,
    )
    image = counterfactual(request)
    columns, cell = 2 + SAMPLES, SIDE + 2
    font = ImageFont.load_default()
    left = max(int(font.getlength(one.caption)) for one in shown) + 2 * MARGIN
    top = image.height - 2 * (2 * cell + 2)
    assert image.width >= left + 2 * (columns * cell + 2)
    assert top > 0, "and so do headings"
    pixels = np.asarray(image)
    assert pixels[:top, left:].min() < 100
    assert max(HEADINGS) == columns - 1
    grid = pixels[top::2, left::2]
    for row in range(2):
        cells = [
            grid[2 + row * cell : 2 + row * cell + SIDE, 2 + column * cell : 2 + column * cell + SIDE]
            for column in range(columns)
        ]
        truth = images[row].permute(1, 2, 0).numpy()
        away = (seen.float() - images[row].float()).flatten(1).norm(dim=1)
        for shown_there in cells[:-1]:
            assert np.array_equal(shown_there, truth)
        assert np.array_equal(cells[-1], seen[away.argmin()].permute(1, 2, 0).numpy())
    assert module.asked == [[one.caption for one in shown for _ in range(SAMPLES)]]


def test_the_command_draws_held_out_captions(
    emoji: Emoji, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    zoo.save(gan(emoji), "drawing", samples=False)
    monkeypatch.setattr("zoo.counterfactual_view.datamodule_of", lambda card, data_dir: emoji)
    monkeypatch.setattr("zoo.counterfactual_view.default_extractor", lambda card, spec: "pixels")
    monkeypatch.setattr("zoo.counterfactual_view.load_extractor", lambda name: Pixels())
    assert main(["draw", "./drawing", "counterfactual", "--num", "3", "--out", "some.png"]) == 0
    with Image.open("some.png") as image:
        rows = (image.height - 2 * (3 * (SIDE + 2) + 2)) / 2
        assert 0 < rows < SIDE, "three rows and the headings"
    total = len(emoji.captions("test"))
    assert f"{total} held-out captions" in fails(["draw", "./drawing", "counterfactual", "--num", "99"], capsys)
    request = with_counterfactuals(ViewRequest(zoo.load("./drawing"), total, torch.Generator()), zoo.card("./drawing"))
    assert [one.caption for one in request.asked] == list(emoji.captions("test"))
    monkeypatch.setattr("zoo.counterfactual_view.datamodule_of", lambda card, data_dir: None)
    assert "counterfactuals are known of emoji only" in fails(["draw", "./drawing", "counterfactual"], capsys)


# What is shown of the figures

METRICS = {
    f"test/counterfactual_{name}{error}-emoji-330": value
    for name, share in {
        "tone_unseen": 0.5,
        "tone_seen": 0.75,
        "tone_difference": -0.25,
        "tone_unseen_real": 0.95,
        "tone_seen_real": 1.0,
        "retrieved_5_unseen": 0.4,
        "retrieved_5_seen": 0.6,
        "retrieved_5_difference": -0.2,
        "retrieved_5_unseen_neighbour": 0.99,
    }.items()
    for error, value in (("", share), ("_standard_error", 0.01))
}


def test_a_card_shows_them_in_a_table_of_their_own(emoji: Emoji) -> None:
    zoo.save(gan(emoji), "drawing", samples=False, metrics={**METRICS, "test/fid-emoji-10k-all": 3.0})
    text = Path("drawing/README.md").read_text()
    _, _, metrics = text.partition("## Metrics")
    assert "| test/fid-emoji-10k-all | 3 |" in metrics
    assert "| test/counterfactual" not in metrics
    assert "| " + " | ".join(COLUMNS) + " |" in metrics
    row = "| the classifier names the tone | 0.500 ± 0.010 | 0.750 ± 0.010 | -0.250 ± 0.010 | 0.950 ± 0.010 | 330 |"
    assert row in metrics
    assert "five nearest of all real images | 0.400 ± 0.010" in metrics
    assert "| 0.990 ± 0.010 | 330 |" in metrics
    assert "features of emoji" in metrics


def test_rows_are_those_of_unseen_captions() -> None:
    assert {name: len(rows) for name, rows in counterfactual_rows(METRICS).items()} == {"emoji": 2}
    assert counterfactual_rows({"test/fid-emoji-10k": 1.0}) == {}


def test_names_are_explained() -> None:
    assert (
        meaning("test/counterfactual_tone_unseen-emoji-330") == "share: the classifier names the tone; unseen captions"
    )
    assert meaning("test/counterfactual_nearest_tone_difference_standard_error-emoji-330") == (
        "standard error of the share: nearest to the truth among its five skin tones (chance 0.2); unseen minus seen"
    )
    assert meaning("test/counterfactual_retrieved_1_seen_neighbour-a-b-2k") == (
        "share: the truth is the nearest of all real images; seen captions, of the seen image nearest to the truth"
    )
    assert meaning("test/fid-emoji-10k") == ""
