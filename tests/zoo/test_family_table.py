"""The table over all families: every checkpoint of the images once, its card's numbers, and what is not there."""

from pathlib import Path
from typing import Any

import pytest

import zoo
from lightning_modules import FAMILIES
from tests.packaging.readme_tables import distances
from zoo.__main__ import main
from zoo.cards import Card
from zoo.comparing import card_numbers
from zoo.comparing.card_numbers import PRETRAINED
from zoo.comparing.family_table import BLOCKS, FIT_TO_IMAGES, HEADING, block_of, rows_of, values_of, without_checkpoint
from zoo.features import EXTRACTORS


def card_with(metrics: dict[str, float], **settings: Any) -> Card:
    """A card of grey images with metrics of the test split."""
    spec = {"name": "fashion_mnist", "kind": "image", "value_range": [-1.0, 1.0]}
    named = {f"test/{name}": value for name, value in metrics.items()}
    return Card("some", Path("some"), "VAE", {}, "0", **{"data_spec": spec, "metrics": named, **settings})


def test_every_checkpoint_of_the_images_is_in_one_table_and_every_method_is_told() -> None:
    rows = [row for block in BLOCKS for row in rows_of(block)]
    expected = {name for name in zoo.names("*.fashion_mnist*") if not name.startswith("classifier.")}
    expected -= {name for name in expected if "moving" in name}
    assert sorted(row[2] for row in rows) == sorted(expected - set(zoo.names("*moving*")))
    assert all(len(row) == len(HEADING) for row in rows)
    methods = {method.__name__ for family in FIT_TO_IMAGES for method in FAMILIES[family]}
    assert {row[1] for row in rows} | set(without_checkpoint()) == methods
    assert {row[1] for row in rows} & set(without_checkpoint()) == set()


def test_cells_are_those_of_the_card_and_of_one_protocol() -> None:
    metrics = {
        "bits_per_dim-upper_bound_k1": 3.5,
        "bits_per_dim-upper_bound_k100-1k": 3.25,
        "fid-fashion_mnist-10k": 13.466,
        "fid-fashion_mnist-2k": 99.0,
        "fid_of_means-fashion_mnist-10k": 6.91,
        "precision-fashion_mnist-10k": 0.454,
        "precision-fashion_mnist-2k": 0.9,
        "seconds_per_sample-cpu-64": 0.00018,
    }
    found = card_with(metrics, networks={"encoder": 500_000, "decoder": 490_000}, training={"minutes": 9.5})
    cells = ["≤ 3.25 bits/dim, bound with k = 100, 1 000 images", "13.47", "6.91", "0.45", "", "0.00018", "9.9e5", "10"]
    assert list(values_of(found)) == cells
    few = card_with({"fid-fashion_mnist-2k": 5.5, "recall-fashion_mnist-2k": 0.25, "precision-fashion_mnist-10k": 1.0})
    assert list(values_of(few))[1:5] == ["5.50 (2k)", "", "", "0.25"]


def test_fid_of_another_extractor_is_not_shown_beside_that_of_the_classifier() -> None:
    for name in ("efficientnet_lite0-10k", "inception-2k", "efficientnet_lite0_binarized-10k"):
        metrics = {f"fid-{name}": 99.0, f"precision-{name}": 0.1}
        assert list(values_of(card_with(metrics)))[1:5] == [""] * 4
    both = card_with({**metrics, "fid-fashion_mnist-2k": 5.5})
    assert list(values_of(both))[1:5] == ["5.50 (2k)", "", "", ""]
    assert distances(card_numbers.tested(both)) == ("5.50 (2k)", "")
    assert set(EXTRACTORS) <= set(PRETRAINED)


def test_a_density_of_dequantized_images_is_not_called_an_exact_likelihood_of_grey_values() -> None:
    spec = {"name": "fashion_mnist", "kind": "image", "value_range": [-1.0, 1.0], "preprocessing": "dequantized"}
    for name, words in (("exact", "exact"), ("estimate_nce", "NCE's estimate"), ("upper_bound_k5", "bound with k = 5")):
        cell = next(values_of(card_with({f"bits_per_dim-{name}": 4.5}, data_spec=spec)))
        assert cell.removeprefix("≤ ") == f"4.5 bits/dim, {words}, dequantized"
    assert next(values_of(card_with({"bits_per_dim-exact": 4.5}))) == "4.5 bits/dim, exact"


def test_an_estimate_by_a_flow_says_of_how_many_images_it_is() -> None:
    spec = {"name": "emoji", "kind": "image", "value_range": [-1.0, 1.0], "preprocessing": "noto-32-dequantized"}
    for count, images in (("350", "350"), ("1k", "1 000")):
        metrics = {"bits_per_dim-estimate_ode_half_steps-350": 9.0, f"bits_per_dim-estimate_ode-{count}": 3.876}
        cell = next(values_of(card_with(metrics, data_spec=spec)))
        assert cell == f"3.876 bits/dim, estimate from {images} images, dequantized"


def test_bits_and_grey_values_are_apart_and_other_data_are_left_out() -> None:
    assert block_of(card_with({})) == "grey"
    spec = {"name": "fashion_mnist", "kind": "image", "value_range": [0.0, 1.0]}
    assert block_of(card_with({}, data_spec=spec)) == "bits"
    assert block_of(card_with({}, data_spec={**spec, "name": "fashion_mnist_pixels", "value_range": None})) == "bits"
    for other in (None, {**spec, "name": "mnist"}, {**spec, "name": "moving_fashion_mnist"}):
        assert block_of(card_with({}, data_spec=other)) is None


def test_the_command_prints_both_tables_and_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "families"]) == 0
    said = capsys.readouterr().out
    for fact in ("vae.fashion_mnist_binary", "sngan.fashion_mnist", "AIS estimate", "What does not", "LadderVAE"):
        assert fact in said
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "families", "--train"])
    assert stopped.value.code == 2
    assert "neither --train nor --out" in capsys.readouterr().err
