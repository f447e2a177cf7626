"""Inception from a local file: one pass, both outputs, no download, no pickle."""

import pickle
from pathlib import Path

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-untyped]
    FeatureExtractorInceptionV3,
)

from lightning_modules.metrics.inception import Inception
from lightning_modules.parts.capabilities import FeatureExtractor


class Malicious:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("executed"),)


def test_missing_weights_name_the_file_its_source_and_the_argument() -> None:
    for path in (None, "nowhere.pth"):
        with pytest.raises(FileNotFoundError, match=r"https://.*inception-2015-12-05-6726825d.pth.*weights_path="):
            Inception(path)


def test_files_that_are_no_weights_are_refused_and_not_executed() -> None:
    Path("hostile.pth").write_bytes(pickle.dumps(Malicious(), protocol=2))
    torch.save({"weights": Malicious()}, "hostile_zip.pth")
    Path("truncated.pth").write_bytes(b"PK\x03\x04")
    torch.save([torch.zeros(2)], "list.pth")
    torch.save({"fc.weight": torch.zeros(2)}, "other.pth")
    for name in ("hostile", "hostile_zip", "truncated", "list", "other"):
        with pytest.raises(ValueError, match=f"{name}.pth"):
            Inception(f"{name}.pth")
    assert not Path("executed").exists()


@pytest.fixture
def random_weights(monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of the right form: the network's own random initialisation."""
    module = "torch_fidelity.feature_extractor_inceptionv3"
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.save(FeatureExtractorInceptionV3("reference", ["2048"]).state_dict(), "weights.pth")
    return "weights.pth"


def test_one_pass_gives_the_features_and_logits_of_torch_fidelity(random_weights: str) -> None:
    inception = Inception(random_weights)
    assert isinstance(inception, FeatureExtractor)
    assert not inception.train().training
    assert not any(parameter.requires_grad for parameter in inception.parameters())
    grey = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    features, logits = inception.extract(grey)
    assert features.shape == (2, inception.num_features)
    assert logits.shape == (2, 1008)
    reference = FeatureExtractorInceptionV3("reference", ["2048", "logits_unbiased"], random_weights)
    for ours, theirs in zip((features, logits), reference(grey.repeat(1, 3, 1, 1)), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match="uint8.*float32"):
        inception.extract(grey.float())
    with pytest.raises(ValueError, match="2, 2, 28, 28"):
        inception.extract(grey.repeat(1, 2, 1, 1))
