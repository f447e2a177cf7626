"""Statistics of features of the real images of a split: computed once and kept in a file.

A file is named by (data set, split, preprocessing, digest of the extractor). It is searched first in
``extractor.statistics_dir`` (the statistics of the zoo's data sets ship with its classifiers, so that evaluation needs
no data), then in the cache. If the data are available, their digest must agree with that in the file, so that two
folders of images with one name are not confused.

Limitation: at most 5 000 rows of features are kept, for KID, precision and recall; they are chosen and ordered by a
fixed permutation, because files of images are often sorted by class.
"""

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_warn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from datamodules.spec import DataSpec
from lightning_modules.metrics.image import ScoreWithSpread, inception_score, moments
from lightning_modules.metrics.protocol import check_extractor, check_image_spec, extract_images
from lightning_modules.parts.files import cache_folder
from lightning_modules.parts.processes import rank, world_size

SPLITS = ("train", "val", "test", "all")
MAX_FEATURES = 5000
_ORDER_SEED = 0
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
_digests: "WeakKeyDictionary[nn.Module, tuple[str, tuple[int, ...]]]" = WeakKeyDictionary()


class HoldsImages(Protocol):
    """The interface of a datamodule that metrics of images need."""

    @property
    def spec(self) -> DataSpec:
        """Returns the spec of the images."""
        ...

    def images(self, split: str) -> tuple[Tensor, Tensor]:
        """Returns all images of a split or of ``"all"``, uint8 (N, C, H, W), and their labels (N,)."""
        ...


@dataclass(frozen=True)
class RealStatistics:
    """Features of all N real images of a split, on the CPU.

    Attributes:
        mu: Mean of the features, float64 (D,).
        sigma: Their unbiased covariance, float64 (D, D).
        num_samples: N.
        features: float32 (min(N, 5000), D), a fixed random subset in a fixed random order.
        inception_score: Inception Score of the real images, the value of a perfect model.
    """

    mu: Tensor
    sigma: Tensor
    num_samples: int
    features: Tensor
    inception_score: ScoreWithSpread


def real_statistics(
    extractor: nn.Module,
    spec: DataSpec,
    split: str,
    datamodule: HoldsImages | None = None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> RealStatistics:
    """Finds the statistics of a split, or computes and stores them. All processes must call it together.

    Args:
        extractor: A ``FeatureExtractor``. If it has a ``statistics_dir``, that is searched first.
        spec: Spec of the images, with the names of the data set and its preprocessing.
        split: ``"train"``, ``"val"`` or ``"test"``; ``"all"`` for the images of all three.
        datamodule: Source of the images if no file is found; not needed otherwise.
        cache_dir: Folder in which statistics are stored; by default ``statistics_cache()``.
        progress: Whether to show a progress bar while computing.

    Raises:
        ValueError: If the split is unknown, the data are not images, or there is neither a file of the statistics
            nor a datamodule to compute them from.
    """
    check_image_spec(spec)
    checked = check_extractor(extractor)
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not one of {', '.join(SPLITS)}.")
    cache = Path(cache_dir) if cache_dir is not None else statistics_cache()
    shipped = getattr(extractor, "statistics_dir", None)
    name = statistics_file_name(extractor, spec, split)
    places = [Path(folder) / name for folder in (shipped, cache) if folder is not None]
    images = datamodule.images(split)[0] if datamodule is not None and hasattr(datamodule, "images") else None

    found: list[RealStatistics | None] = [None]
    if rank() == 0:
        digest = None if images is None else _tensor_digest(images)
        found = [_first_readable(places, digest, checked.num_features)]
    if world_size() > 1:  # one process decides, because the folder may not be shared
        dist.broadcast_object_list(found)
    if found[0] is not None:
        return found[0]
    if images is None:
        raise ValueError(
            f"There are no real statistics of {spec.name!r} ({split}) for {checked.extractor_name!r}: searched for "
            f"{' and '.join(str(place) for place in places)}. Pass a datamodule with images(split), so that they can "
            "be computed."
        )
    statistics = compute_statistics(extractor, images, progress=progress)
    if rank() == 0:
        try:
            write_statistics(statistics, cache / name, _tensor_digest(images))
        except OSError as error:
            rank_zero_warn(f"The real statistics could not be written to {cache / name} ({error}); set a cache_dir.")
    return statistics


def compute_statistics(extractor: nn.Module, images: Tensor, *, progress: bool = False) -> RealStatistics:
    """Extracts the features of uint8 images (N, C, H, W), each once. All processes must call it together.

    Raises:
        ValueError: If the images are not uint8 or there are fewer than two.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or len(images) < 2:
        raise ValueError(
            f"Statistics need at least 2 images, uint8 (N, C, H, W), not {images.dtype} {tuple(images.shape)}."
        )
    seen = extract_images(extractor, images, progress="real images" if progress else None)
    mu, sigma = moments(seen.features)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(_ORDER_SEED))
    return RealStatistics(
        mu=mu,
        sigma=sigma,
        num_samples=len(images),
        features=seen.features[order[:MAX_FEATURES]].contiguous(),
        inception_score=inception_score(seen.logits[order], splits=min(10, len(images))),
    )


def ship_statistics(extractor: nn.Module, datamodule: HoldsImages, split: str, folder: str | Path) -> Path:
    """Computes the statistics of a split and writes them into a classifier's ``statistics`` folder.

    Returns:
        The file, which ``real_statistics`` finds when ``extractor.statistics_dir`` is that folder.
    """
    images = datamodule.images(split)[0]
    path = Path(folder) / statistics_file_name(extractor, datamodule.spec, split)
    write_statistics(compute_statistics(extractor, images), path, _tensor_digest(images))
    return path


def statistics_cache() -> Path:
    """Returns ``$GENERATIVE_ZOO_CACHE/statistics``, or the same under the user's cache folder."""
    return cache_folder("statistics")


def statistics_file_name(extractor: nn.Module, spec: DataSpec, split: str) -> str:
    """Returns the unique name of a file of statistics, without folder and valid on every file system.

    Samples of models of dequantised data are compared with the images themselves, without the noise.
    """
    preprocessing = spec.preprocessing.removesuffix("dequantized").removesuffix("-")
    parts = (spec.name, split, preprocessing or "plain", extractor_digest(extractor)[:16])
    return ".".join(re.sub(r"[^\w-]", "_", part) for part in parts) + ".safetensors"


def extractor_digest(extractor: nn.Module) -> str:
    """Returns a digest that identifies an extractor: the sha256 in a zoo classifier's card, else that of its weights.

    The latter is computed once per object, and does not depend on the device. A later change of the weights, as in
    training, is detected, so that a retrained classifier does not get the statistics of the former one.
    """
    known = _digests.get(extractor)
    if known is None or known[1] != _checksums(extractor):
        digest = hashlib.sha256(check_extractor(extractor).extractor_name.encode())
        for name, tensor in sorted(extractor.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
        set_extractor_digest(extractor, digest.hexdigest())
    return _digests[extractor][0]


def set_extractor_digest(extractor: nn.Module, digest: str) -> None:
    """Sets the digest of the present weights of an extractor."""
    _digests[extractor] = digest, _checksums(extractor)


def _checksums(extractor: nn.Module) -> tuple[int, ...]:
    # Integer sums are exact, and so equal on every device. torch's count of in-place changes misses fused optimizers.
    tensors = extractor.state_dict().values()
    return tuple(int(tensor.view(_BITS[tensor.element_size()]).sum(dtype=torch.int64)) for tensor in tensors)


def write_statistics(statistics: RealStatistics, path: Path, images_digest: str) -> None:
    """Writes one safetensors file atomically.

    Raises:
        OSError: If the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "mu": statistics.mu,
        "sigma": statistics.sigma,
        "num_samples": torch.tensor(statistics.num_samples),
        "features": statistics.features,
        "inception_score": torch.tensor(statistics.inception_score, dtype=torch.float64),
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata={"images_sha256": images_digest})
        os.chmod(temporary, 0o644)  # with mkstemp's 0600 only one user could read a shared cache
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_statistics(path: Path, num_features: int) -> tuple[RealStatistics, str]:
    """Reads a file of ``write_statistics``: the statistics and the digest of the images.

    Raises:
        ValueError: If the file is damaged or of an extractor with another number of features.
        FileNotFoundError: If there is no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            images_digest = (file.metadata() or {})["images_sha256"]
        statistics = RealStatistics(
            mu=tensors["mu"],
            sigma=tensors["sigma"],
            num_samples=int(tensors["num_samples"]),
            features=tensors["features"],
            inception_score=ScoreWithSpread(*tensors["inception_score"].tolist()),
        )
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"The real statistics in {path} are damaged ({error}); delete the file.") from error
    size = num_features
    if statistics.mu.shape != (size,) or statistics.sigma.shape != (size, size):
        raise ValueError(
            f"{path} holds statistics of {len(statistics.mu)} features, but the extractor has {size}; delete the file."
        )
    return statistics, images_digest


def _first_readable(places: list[Path], images_digest: str | None, num_features: int) -> RealStatistics | None:
    for place in places:
        if not place.is_file():
            continue
        try:
            statistics, found_digest = read_statistics(place, num_features)
        except ValueError as error:
            rank_zero_warn(f"{error} It is ignored.")
            continue
        if images_digest in (None, found_digest):
            return statistics
    return None


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def _tensor_digest(tensor: Tensor) -> str:
    return hashlib.sha256(str(tuple(tensor.shape)).encode() + _bytes(tensor)).hexdigest()
