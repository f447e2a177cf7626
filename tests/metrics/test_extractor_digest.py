"""What tells one feature extractor from another, so that reference statistics are never those of other weights."""

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import zoo
from datamodules import SyntheticImages
from lightning_modules import Classifier
from lightning_modules.metrics import reference_statistics
from lightning_modules.metrics.reference_statistics import (
    extractor_digest,
    real_statistics,
    set_extractor_digest,
    ship_statistics,
    statistics_file_name,
)
from tests.standins import SPEC, StandInData, StandInExtractor, quiet_trainer
from zoo.cards import read_card

NAME = "classifier.fashion_mnist"


class Trainable(nn.Module):
    """Weights that are trained, and batch statistics that change without a gradient."""

    extractor_name, num_features = "trainable", 8

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.layers = nn.Sequential(nn.Linear(36, 8), nn.BatchNorm1d(8))
        self.statistics_dir: str | None = None
        self.eval()

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layers(images.flatten(1).float() / 127.5 - 1)
        return features, features


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every tensor that was hashed."""
    read = reference_statistics._bytes
    sizes: list[int] = []

    def counted(tensor: Tensor) -> bytes:
        sizes.append(tensor.numel() * tensor.element_size())
        return read(tensor)

    monkeypatch.setattr(reference_statistics, "_bytes", counted)
    return sizes


def trained(extractor: Trainable, optimizer: Callable[..., torch.optim.Optimizer], **settings: bool) -> None:
    """One step of an optimizer."""
    steps = optimizer(extractor.parameters(), lr=1e-3, **settings)
    extractor.extract(torch.randint(256, (4, 1, 6, 6), dtype=torch.uint8))[0].square().sum().backward()
    steps.step()


CHANGES: dict[str, Callable[[Trainable], object]] = {
    "adamw": lambda extractor: trained(extractor, torch.optim.AdamW),
    "fused adamw": lambda extractor: trained(extractor, torch.optim.AdamW, fused=True),  # as ``Classifier`` is trained
    "in place": lambda extractor: next(extractor.parameters()).data.add_(1e-3),
    "load_state_dict": lambda extractor: extractor.load_state_dict(
        {name: value + 1 for name, value in extractor.state_dict().items()}
    ),
    "assigned": lambda extractor: extractor.load_state_dict(
        {name: value + 1 for name, value in extractor.state_dict().items()}, assign=True
    ),
    "batch statistics": lambda extractor: extractor.train().layers(torch.randn(4, 36)),
    "another layer": lambda extractor: setattr(extractor.layers, "0", nn.Linear(36, 8)),
    "half precision": lambda extractor: extractor.half(),
}


def test_the_digest_sees_weights_names_and_the_extractors_name() -> None:
    digest = extractor_digest(StandInExtractor())
    renamed, changed = StandInExtractor(), StandInExtractor()
    renamed.extractor_name = "other"
    changed.features[0, 0] += 1e-6
    assert digest == extractor_digest(StandInExtractor())
    assert len({digest, extractor_digest(renamed), extractor_digest(changed)}) == 3


def test_a_zoo_classifier_is_known_by_the_sha256_in_its_card(hashed: list[int]) -> None:
    classifier = zoo.load_classifier(NAME)
    card = read_card(Path(zoo.__file__).parents[1] / "checkpoints" / NAME)
    assert extractor_digest(classifier) == card.sha256
    weights = (card.path / "model.safetensors").read_bytes()
    assert card.sha256 == hashlib.sha256(weights).hexdigest()
    extractor_digest(classifier.train().to("cpu").requires_grad_(False))
    assert hashed == []
    assert extractor_digest(zoo.load_classifier(NAME)) == card.sha256


def test_any_other_is_hashed_once_per_object(hashed: list[int]) -> None:
    extractor = Trainable()
    digest = extractor_digest(extractor)
    once = len(hashed)
    assert once == len(extractor.state_dict())
    for same in (extractor, extractor.train(), extractor.to("cpu"), extractor.requires_grad_(False)):
        assert extractor_digest(same) == digest
    extractor.eval().extract(torch.zeros(2, 1, 6, 6, dtype=torch.uint8))
    assert extractor_digest(extractor) == digest
    assert len(hashed) == once
    assert extractor_digest(Trainable()) == digest
    assert len(hashed) == 2 * once


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("known", [False, True], ids=["hashed", "named"])
def test_changed_weights_are_hashed_anew(change: str, known: bool) -> None:
    extractor = Trainable()
    if known:
        set_extractor_digest(extractor, "0" * 64)
    before = extractor_digest(extractor)
    CHANGES[change](extractor)
    fresh = Trainable()
    if change == "half precision":
        fresh.half()
    fresh.layers = copy.deepcopy(extractor.layers)
    assert extractor_digest(extractor) == extractor_digest(fresh) != before


def test_weights_that_come_back_have_their_digest_back() -> None:
    extractor = Trainable()
    digest, weights = extractor_digest(extractor), copy.deepcopy(extractor.state_dict())
    trained(extractor, torch.optim.SGD)
    assert extractor_digest(extractor) != digest
    extractor.load_state_dict(weights)
    assert extractor_digest(extractor) == digest


def test_a_retrained_extractor_never_gets_the_statistics_of_the_one_before() -> None:
    extractor, data = Trainable(), StandInData()
    set_extractor_digest(extractor, "a" * 64)
    ship_statistics(extractor, data, "test", "shipped")
    extractor.statistics_dir = "shipped"
    before = real_statistics(extractor, SPEC, "test", cache_dir="cache")
    old = statistics_file_name(extractor, SPEC, "test")
    assert [path.name for path in Path("shipped").iterdir()] == [old]

    trained(extractor, torch.optim.AdamW, fused=True)
    new = statistics_file_name(extractor, SPEC, "test")
    assert new != old
    with pytest.raises(ValueError, match=new):
        real_statistics(extractor, SPEC, "test", cache_dir="cache")
    after = real_statistics(extractor, SPEC, "test", data, cache_dir="cache")
    assert [path.name for path in Path("cache").iterdir()] == [new]
    features, _ = extractor.extract(data.images("test")[0])
    torch.testing.assert_close(after.mu, features.double().mean(0).detach(), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(after.mu, before.mu, atol=1e-4)


def test_a_classifier_that_is_trained_further_is_another_one() -> None:
    data = SyntheticImages(shape=[1, 28, 28], num_classes=3, size=64, val_size=16, batch_size=16)
    classifier = Classifier.for_data(data.spec, width=2)
    set_extractor_digest(classifier, "0" * 64)
    quiet_trainer(max_epochs=-1, max_steps=1).fit(classifier, data)
    assert extractor_digest(classifier) != "0" * 64
