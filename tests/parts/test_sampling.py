"""Requests for samples: what is refused, how labels are chosen, and that modes come back as they were."""

import pytest
import torch
from torch import nn

from lightning_modules.parts.noise import Noise, draw_categorical, new_generator
from lightning_modules.parts.sampling import check_labels, check_num_samples, choose_labels, evaluating


@pytest.mark.parametrize("num_samples", [0, -3, 2.0, True, "4"])
def test_bad_numbers_of_samples_are_named(num_samples: object) -> None:
    with pytest.raises(ValueError, match=f"num_samples={num_samples!r}"):
        check_num_samples(num_samples)  # type: ignore[arg-type]


def test_labels_to_an_unconditional_model_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes"):
        choose_labels(torch.zeros(2, dtype=torch.long), 2, None, new_generator())
    assert choose_labels(None, 2, None, new_generator()) is None


def test_labels_that_a_class_conditional_model_needs_are_asked_for_by_their_number() -> None:
    probabilities = torch.full((3,), 1 / 3)
    with pytest.raises(ValueError, match=r"\(2,\)"):
        check_labels(None, 2, probabilities)
    found = check_labels(torch.tensor([2, 0], dtype=torch.int32), 2, probabilities)
    assert found.dtype == torch.int64
    assert found.tolist() == [2, 0]


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0], [0.0, 1.0]])
def test_labels_that_do_not_fit_are_refused(labels: list[float]) -> None:
    with pytest.raises(ValueError, match="labels"):
        choose_labels(torch.tensor(labels), 2, torch.full((3,), 1 / 3), new_generator())


def test_labels_are_chosen_by_training_frequency() -> None:
    probabilities = torch.tensor([0.7, 0.0, 0.3])
    labels = choose_labels(None, 10_000, probabilities, torch.Generator().manual_seed(0))
    assert labels is not None
    frequency = labels.bincount(minlength=3) / 10_000
    assert frequency[1] == 0
    assert frequency[0] == pytest.approx(0.7, abs=0.023)  # 5 s.e.: a false alarm in 1.7 million


def test_the_training_rng_chooses_classes_by_frequency() -> None:
    classes = Noise().categorical(torch.tensor([0.2, 0.0, 0.8]), 10_000)
    frequency = classes.bincount(minlength=3) / 10_000
    assert frequency[1] == 0
    assert frequency[2] == pytest.approx(0.8, abs=0.02)  # 5 s.e.
    assert classes.max() <= 2


def test_categorical_is_reproducible_by_its_generator() -> None:
    classes = [draw_categorical(torch.ones(5), 50, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*classes)


def test_new_generator_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    assert new_generator().initial_seed() != new_generator().initial_seed()
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluating_restores_every_mode_even_after_an_error() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    network[1].eval()

    def fail() -> None:
        with evaluating(network):
            assert not network[0].training
            assert not torch.is_grad_enabled()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert network.training
    assert network[0].training
    assert not network[1].training
    assert torch.is_grad_enabled()
