"""The block protocol: how samples are drawn for metrics, so that values do not depend on the number of processes.

Samples come in blocks of 250. Block b is one ``module.sample(250, generator=g_b)`` with g_b seeded by (seed, b), and
one pass through the extractor. It is computed on process b modulo the number of processes, and blocks are concatenated
in the order of their index. The last block is sampled completely, then cut to the requested number. So a value is the
same on any number of processes and at any training batch size. The size of a block and the seed are part of the
protocol: another size gives another value.

Limitation: every process receives all features (10 000 images of Inception are 120 MB).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from datamodules.spec import DataSpec
from lightning_modules.parts.capabilities import FeatureExtractor
from lightning_modules.parts.checks import as_count
from lightning_modules.parts.processes import rank, world_size
from lightning_modules.parts.quantization import to_uint8
from lightning_modules.parts.sampling import evaluating

BLOCK_SIZE = 250


@dataclass(frozen=True)
class Extracted:
    """Outputs of a feature extractor for N images, on the CPU, equal on all processes.

    Attributes:
        features: float32 (N, D).
        logits: float32 (N, K).
    """

    features: Tensor
    logits: Tensor

    def __len__(self) -> int:
        return len(self.features)


def block_generator(seed: int, block: int) -> Generator:
    """Returns the source of all random numbers of one block, on the CPU so that they are the same for every device.

    Mersenne Twister uses 32 bits of a seed; for a given ``seed`` they differ between blocks.
    """
    return torch.Generator().manual_seed((seed * 1_000_003 + block) % 2**32)


@contextmanager
def undisturbed(*modules: nn.Module) -> Iterator[None]:
    """Suspends everything that a metric must not depend on: training mode, gradients, autocast, random state.

    Inference mode is turned off, because samplers may need gradients (Langevin steps), which it does not allow.
    """
    device = device_of(modules[0])
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.autocast(device.type, enabled=False))
        for module in modules:
            stack.enter_context(evaluating(module))
        yield


def device_of(module: nn.Module) -> torch.device:
    """Returns the device of a module's first parameter or buffer; the CPU if it has none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def in_blocks(
    num_rows: int, work: Callable[[int], Sequence[Tensor] | None], *, progress: str | None = None
) -> tuple[Tensor, ...]:
    """Runs ``work(block)`` for every block, each on one process, and returns all rows in order on all processes.

    Args:
        num_rows: Rows to return; there are ``ceil(num_rows / 250)`` blocks.
        work: Returns tensors whose first dimension is the block's rows, or ``None`` for values that are
            NaN or infinite; if it raised an error on one process, the others would wait for it.
        progress: Title of a progress bar on the first process; no bar by default.

    Raises:
        ValueError: On every process, if any block was ``None``.
    """
    blocks = range(-(-num_rows // BLOCK_SIZE))
    mine: dict[int, tuple[Tensor, ...] | None] = {}
    share = blocks[rank() :: world_size()]
    for block in tqdm(share, desc=progress, disable=progress is None or rank() > 0, unit="block"):
        result = work(block)
        mine[block] = None if result is None else tuple(tensor.cpu() for tensor in result)
    gathered = [mine]
    if world_size() > 1:
        gathered = [{} for _ in range(world_size())]
        dist.all_gather_object(gathered, mine)
    done = {block: result for share in gathered for block, result in share.items()}
    if failed := sorted(block for block, result in done.items() if result is None):
        raise ValueError(
            f"The samples of block {failed[0]} (and {len(failed) - 1} more of {len(blocks)}) are NaN or infinite. "
            "The model has diverged, or its weights are damaged: measure its last good checkpoint."
        )
    columns = zip(*(done[block] or () for block in blocks), strict=True)
    return tuple(torch.cat(column)[:num_rows] for column in columns)


def sample_blocks(
    module: nn.Module, num_samples: int, shape: Sequence[int], *, seed: int = 0, progress: str | None = None
) -> Tensor:
    """Samples a module by the block protocol; labels of a conditional module come from the generators.

    Args:
        module: A module that ``SupportsSampling``.
        num_samples: N.
        shape: Shape of one sample.
        seed: Seed of the protocol.
        progress: Title of a progress bar.

    Returns:
        (N, *shape) on the CPU, equal on all processes.

    Raises:
        ValueError: If a sample is NaN or infinite, or has another shape.
    """

    def work(block: int) -> Sequence[Tensor] | None:
        samples = _sample_block(module, block, seed, shape)
        return (samples,) if torch.isfinite(samples).all() else None

    with undisturbed(module):
        (samples,) = in_blocks(num_samples, work, progress=progress)
    return samples


def extract_samples(
    module: nn.Module,
    extractor: nn.Module,
    num_samples: int,
    spec: DataSpec,
    *,
    seed: int = 0,
    labels: Tensor | None = None,
    progress: str | None = None,
) -> Extracted:
    """Samples images by the block protocol and passes each block through the extractor once.

    Args:
        module: A module that ``SupportsSampling``.
        extractor: A ``FeatureExtractor``; it is moved to the module's device.
        num_samples: Number of images.
        spec: Spec of the images, with shape and value range.
        seed: Seed of the protocol.
        labels: Class labels of every block, int64 (250,), for a conditional module.
        progress: Title of a progress bar.

    Raises:
        ValueError: If a sample is NaN or infinite, or has another shape.
    """
    value_range = check_image_spec(spec)
    checked = check_extractor(extractor)
    extractor.to(device_of(module))

    def work(block: int) -> Sequence[Tensor] | None:
        samples = _sample_block(module, block, seed, spec.shape, labels)
        if not torch.isfinite(samples).all():
            return None
        return _float32(checked.extract(to_uint8(samples, value_range)))

    with undisturbed(module, extractor):
        return Extracted(*in_blocks(num_samples, work, progress=progress))


def extract_images(extractor: nn.Module, images: Tensor, *, progress: str | None = None) -> Extracted:
    """Passes uint8 images (N, C, H, W) through the extractor in blocks shared among the processes."""
    checked = check_extractor(extractor)
    device = device_of(extractor)

    def work(block: int) -> Sequence[Tensor]:
        rows = images[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]
        return _float32(checked.extract(rows.to(device)))

    with undisturbed(extractor):
        return Extracted(*in_blocks(len(images), work, progress=progress))


def check_image_spec(spec: DataSpec) -> tuple[float, float]:
    """Returns the value range of images.

    Raises:
        ValueError: If the spec is not of images, or has no range.
    """
    if spec.kind != "image" or spec.value_range is None:
        raise ValueError(
            f"Data set {spec.name!r} has kind={spec.kind!r} and value_range={spec.value_range}; FID, Inception "
            "Score, KID, precision and recall need images (kind='image') with a value range. "
            "For two-dimensional points use the ModeCoverage callback."
        )
    return spec.value_range


def check_extractor(extractor: nn.Module) -> FeatureExtractor:
    """Returns the extractor, typed as a ``FeatureExtractor``.

    Raises:
        ValueError: If it has no ``extract``, ``num_features`` or ``extractor_name``.
    """
    if not isinstance(extractor, FeatureExtractor):
        raise ValueError(
            f"{type(extractor).__name__} is not a feature extractor, which has extract(uint8 images) -> "
            "(features, logits), num_features and extractor_name. Give a Classifier, for example "
            "zoo.load_classifier('classifier.fashion_mnist'), zoo.load_extractor('efficientnet_lite0') or "
            "lightning_modules.metrics.inception.Inception(weights_path=...)."
        )
    return extractor


def check_bytes(images: Tensor, name: str) -> None:
    """Raises ValueError unless images are uint8 (N, 1 or 3, H, W), as the extractor of that name takes them."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"{name} needs uint8 images (N, 1 or 3, H, W), not {images.dtype} {tuple(images.shape)}.")


def check_extractor_fits(extractor: nn.Module, spec: DataSpec) -> None:
    """Passes one image of the data's shape through the extractor, so that it is refused before anything is trained.

    Args:
        extractor: A ``FeatureExtractor``.
        spec: Spec of the images.

    Raises:
        ValueError: If it does not take such images, or returns something else than it promises.
    """
    checked = check_extractor(extractor)
    name = f"The feature extractor {checked.extractor_name!r}"
    size = torch.Size(spec.shape).numel()
    image = (torch.arange(size) % 256).to(torch.uint8).view(1, *spec.shape).to(device_of(extractor))
    try:
        with undisturbed(extractor):
            features, logits = checked.extract(image)
    except Exception as error:  # an extractor of the user may raise anything
        raise ValueError(
            f"{name} does not take images of shape {list(spec.shape)}, which {spec.name} has: {error}"
        ) from error
    if features.shape != (1, checked.num_features) or logits.ndim != 2 or len(logits) != 1:
        raise ValueError(
            f"{name} must return features (N, {checked.num_features}) and logits (N, K), but of one image it returns "
            f"{tuple(features.shape)} and {tuple(logits.shape)}."
        )
    if not (features.isfinite().all() and logits.isfinite().all()):
        raise ValueError(f"{name} returns NaN or infinite values: its weights are damaged.")


def _sample_block(
    module: nn.Module, block: int, seed: int, shape: Sequence[int], labels: Tensor | None = None
) -> Tensor:
    request = {} if labels is None else {"labels": labels}
    generator = block_generator(seed, block)
    samples: Tensor = module.sample(BLOCK_SIZE, generator=generator, **request)  # type: ignore[operator]
    if samples.shape != (BLOCK_SIZE, *shape):
        raise ValueError(
            f"{type(module).__name__}.sample({BLOCK_SIZE}) returned {tuple(samples.shape)}, "
            f"but the data are {tuple(shape)} each."
        )
    return samples


def _float32(seen: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    features, logits = seen
    return features.float(), logits.float()


def check_num_samples_at_least_two(**numbers: int) -> None:
    """Raises ValueError unless every number, named by its keyword, is an integer of at least 2."""
    for name, number in numbers.items():
        at_least_two(name, number)


def at_least_two(name: str, number: Any) -> int:
    """Returns a number of samples as an ``int``; raises ValueError unless it is a whole number of at least 2."""
    return as_count(name, number, 2, ": one sample has no covariance")


def same_everywhere(values: dict[str, float]) -> dict[str, float]:
    """Returns process 0's values on every process.

    All processes compute them from the same features. But a decision to keep a checkpoint for its score must be the
    same on all processes, and different kinds of CPU may differ in the last digit.
    """
    if world_size() > 1:
        shared = [values]
        dist.broadcast_object_list(shared)
        return shared[0]
    return values
