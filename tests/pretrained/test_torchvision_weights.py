"""torchvision's weights from a cache or a download that file addresses stand in for."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

from lightning_modules.pretrained import torchvision_weights
from lightning_modules.pretrained.packaged_weights import WeightsError
from lightning_modules.pretrained.torchvision_weights import (
    fetch_torchvision,
    find_torchvision,
    normalization_of,
    torchvision_names,
    torchvision_state,
)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The address of a network's weights is this file, and torch hub's cache is empty."""
    torch.save({"layer.weight": torch.arange(3.0)}, tmp_path / "weights")
    digest = hashlib.sha256((tmp_path / "weights").read_bytes()).hexdigest()
    path = (tmp_path / "weights").rename(tmp_path / f"tiny-{digest[:8]}.pth")
    weights = SimpleNamespace(url=path.as_uri(), meta={"_file_size": 1.0})
    monkeypatch.setattr(torchvision_weights, "_weights", lambda name: weights)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return path


def test_weights_are_downloaded_once(published: Path, tmp_path: Path) -> None:
    assert find_torchvision("tiny") is None
    path = fetch_torchvision("tiny")
    assert path == tmp_path / "hub/checkpoints" / published.name
    published.unlink()
    assert fetch_torchvision("tiny") == find_torchvision("tiny") == path
    assert torch.equal(torchvision_state("tiny")["layer.weight"], torch.arange(3.0))


def test_without_a_network_the_address_and_the_folder_are_named(published: Path) -> None:
    published.unlink()
    with pytest.raises(WeightsError, match=r"tiny are not on this machine.*download file://.*into .*hub/checkpoints"):
        fetch_torchvision("tiny")


def test_a_damaged_download_is_discarded_and_a_damaged_file_named(published: Path) -> None:
    content = published.read_bytes()
    published.write_bytes(content[:-1])
    with pytest.raises(WeightsError, match="download of tiny was damaged and discarded"):
        fetch_torchvision("tiny")
    assert find_torchvision("tiny") is None
    published.write_bytes(content)
    path = fetch_torchvision("tiny")
    path.write_bytes(content[:-1])
    with pytest.raises(WeightsError, match=rf"{path.name} is damaged.*Delete it"):
        fetch_torchvision("tiny")


def test_a_cache_that_cannot_be_written_to_is_named(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="could not be written to .*file/checkpoints.*TORCH_HOME"):
        fetch_torchvision("tiny")


def test_networks_are_built_with_the_weights_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that torchvision builds itself: its real file is too large, so that of another digest stands in."""
    network = squeezenet1_1()
    path = tmp_path / "checkpoints" / Path(SqueezeNet1_1_Weights.DEFAULT.url).name
    path.parent.mkdir()
    torch.save(network.state_dict(), path)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torchvision_weights, "_digest_prefix", lambda path: "")
    built = torchvision_weights.torchvision_network("squeezenet1_1")
    assert not built.training
    torch.testing.assert_close(dict(built.state_dict()), dict(network.state_dict()))


def test_names_and_normalizations_are_those_of_classification() -> None:
    names = torchvision_names()
    assert {"vgg19", "resnet50", "densenet121"} <= set(names)
    assert "fcn_resnet50" in torchvision.models.list_models()
    assert "fcn_resnet50" not in names
    assert normalization_of("vgg19") == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 224)
