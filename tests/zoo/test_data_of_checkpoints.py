"""The data that a checkpoint was trained on, built anew from its card."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import zoo
from datamodules import DATAMODULES, FashionMNIST, MarkovSource, Ring
from zoo import Card
from zoo.data import compared_sequences, datamodule_of, held_out_batch, held_out_sequences, images_of
from zoo.recipe import read_recipe

RING = Card("x", Path(), "WGANGP", {}, "", {"name": "ring8"}, recipe="wgan_gp.ring8")


def test_the_data_of_a_checkpoint_are_its_own_and_not_those_of_the_recipe() -> None:
    assert type(datamodule_of(RING)) is Ring
    other = replace(RING, data_spec={"name": "mnist"})
    assert type(datamodule_of(other)) is DATAMODULES["MNIST"]
    for spec in ({"name": "holiday"}, None):
        with pytest.raises(zoo.ZooError, match="holiday" if spec else "None"):
            datamodule_of(replace(RING, data_spec=spec))


def test_the_arguments_of_the_recipe_are_taken() -> None:
    datamodule = datamodule_of(RING)
    assert datamodule.batch_size == read_recipe("wgan_gp.ring8")["data"]["init_args"]["batch_size"]


@pytest.mark.parametrize("name", ["ring8", "ring8_scale0.2"])
def test_a_card_under_the_former_name_of_its_data_gets_the_data_of_its_scale(name: str) -> None:
    """Cards of former versions call rings of every scale ring8."""
    card = zoo.card("ebm.ring8")
    assert card.data == "ring8_scale0.2"
    former = replace(card, data_spec={**(card.data_spec or {}), "name": name})
    assert datamodule_of(former).spec == Ring(scale=0.2).spec
    with pytest.raises(zoo.ZooError, match="ring8"):  # the recipe's ring is another one
        datamodule_of(replace(former, recipe="wgan_gp.ring8"))


def test_a_folder_of_data_is_passed_on(tmp_path: Path) -> None:
    card = zoo.card("wgan_gp.fashion_mnist")
    assert datamodule_of(card, str(tmp_path)).data_dir == str(tmp_path)


def test_pixels_of_a_sequence_are_laid_out_as_images() -> None:
    spec = images_of(zoo.card("teacher_forcing.fashion_mnist_pixels")).spec
    assert (spec.name, spec.kind, spec.shape, spec.is_binarized) == ("fashion_mnist", "image", (1, 28, 28), True)
    assert images_of(zoo.card("wgan_gp.fashion_mnist")).spec.is_binarized is False


@pytest.mark.usefixtures("fashion_mnist")
def test_held_out_images_are_the_first_of_the_test_split() -> None:
    x = held_out_batch(zoo.card("vae.fashion_mnist"), 3).x
    images, _ = FashionMNIST().images("test")
    assert x.shape == (3, 1, 28, 28)
    spec = zoo.card("vae.fashion_mnist").data_spec
    assert spec is not None
    low, high = spec["value_range"]
    torch.testing.assert_close((x - low) / (high - low), images[:3] / 255, atol=1 / 255, rtol=0)


def test_held_out_sequences_are_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    source = MarkovSource(length=12, test_size=9)
    card = replace(RING, recipe=None, data_spec={"name": "markov_source"})
    monkeypatch.setattr("zoo.data.datamodule_of", lambda card, data_dir=None: source)
    x, _ = source.sequences("test")
    assert all(torch.equal(*pair) for pair in zip(held_out_sequences(card, 4, 11), x, strict=False))
    with pytest.raises(zoo.ZooError, match="12"):
        held_out_sequences(card, 4, 12)
    compared = compared_sequences(card, 6, 4)
    assert {len(sequence) for sequence in compared} == {6}
    assert len(compared) <= 8
