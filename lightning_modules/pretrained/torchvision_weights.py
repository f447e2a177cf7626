"""Classification networks of torchvision with their ImageNet weights, from torch hub's cache or a download.

The files lie in ``torch.hub.get_dir()``; the beginning of their SHA-256 is part of their names, and is checked each
time.
"""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import torch
import torchvision
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from lightning_modules.parts.files import file_sha256
from lightning_modules.pretrained.packaged_weights import WeightsError

CONNECT_TIMEOUT = 10.0  # seconds


class Normalization(NamedTuple):
    """How the images were normalized that a network was trained on: mean and deviation of [0, 1], and their side."""

    mean: list[float]
    std: list[float]
    side: int


def torchvision_names() -> list[str]:
    """Returns the names of all classification networks."""
    return list(torchvision.models.list_models(module=torchvision.models))


def find_torchvision(name: str) -> Path | None:
    """Returns the checked file of a network's weights if it is in torch hub's cache, else ``None``.

    Raises:
        WeightsError: If the file is damaged.
    """
    path = _path(name)
    if not path.is_file():
        return None
    if not file_sha256(path).startswith(_digest_prefix(path)):
        raise WeightsError(
            f"{path} is damaged: its SHA-256 does not begin with {_digest_prefix(path)}. Delete it, so that it is "
            "downloaded again."
        )
    return path


def fetch_torchvision(name: str) -> Path:
    """Returns the checked file of a network's weights, after downloading it if needed, which is said in one line.

    Raises:
        WeightsError: If it is damaged or cannot be downloaded.
    """
    if (found := find_torchvision(name)) is not None:
        return found
    path, url = _path(name), _weights(name).url
    try:
        # torch hub would wait for as long as the system does if the network swallows packets.
        urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT).close()
        rank_zero_info(f"Downloading {name} ({size_of(name):.0f} MB): {source_of(name)}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), _digest_prefix(path))
    except (TimeoutError, urllib.error.URLError, ConnectionError) as error:
        raise WeightsError(
            f"The weights of {name} are not on this machine and could not be downloaded "
            f"({getattr(error, 'reason', error)}): download {url} where there is a network and put it into "
            f"{path.parent}."
        ) from error
    except OSError as error:
        raise WeightsError(
            f"The weights of {name} could not be written to {path.parent} ({error.strerror or error}): make room "
            "there, or name another folder in TORCH_HOME."
        ) from error
    except RuntimeError as error:  # of a download whose digest differs
        raise WeightsError(f"The download of {name} was damaged and discarded ({error}): try again.") from error
    return path


def torchvision_state(name: str) -> dict[str, Tensor]:
    """Returns the weights of a network, on the CPU, which are read without running any code in the file.

    Raises:
        WeightsError: As ``fetch_torchvision``.
    """
    state: dict[str, Tensor] = torch.load(fetch_torchvision(name), map_location="cpu", weights_only=True)
    return state


def torchvision_network(name: str) -> nn.Module:
    """Returns a network with its weights, in eval mode.

    Raises:
        WeightsError: As ``fetch_torchvision``.
    """
    fetch_torchvision(name)  # torchvision finds it in the cache
    network: nn.Module = torchvision.models.get_model(name, weights=_weights(name))
    return network.eval()


def normalization_of(name: str) -> Normalization:
    """Returns how the images were normalized that a network was trained on."""
    preset = _weights(name).transforms()
    return Normalization(preset.mean, preset.std, preset.crop_size[0])


def size_of(name: str) -> float:
    """Returns the size of the file of a network's weights, in MB."""
    return float(_weights(name).meta["_file_size"]) * 2**20 / 1e6


def source_of(name: str) -> str:
    """Returns the origin of a network's weights, in words."""
    return f"torchvision's {_weights(name)}, trained on ImageNet"


def _weights(name: str) -> Any:
    return torchvision.models.get_model_weights(name).DEFAULT


def _path(name: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(_weights(name).url).path).name


def _digest_prefix(path: Path) -> str:
    return path.stem.rpartition("-")[2]
