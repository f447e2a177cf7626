"""The picture and the table of counterfactuals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

import zoo
from datamodules import Emoji
from lightning_modules.rendering.image_rows import MARGIN
from tests.zoo.drawing_emoji import SIDE, Drawing, Pixels, gan, images_of
from tests.zoo.running import fails
from zoo.__main__ import main
from zoo.counterfactual_table import COLUMNS, counterfactual_rows, meaning
from zoo.counterfactual_view import HEADINGS, SAMPLES, counterfactual, with_counterfactuals
from zoo.view_request import Request as ViewRequest


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
