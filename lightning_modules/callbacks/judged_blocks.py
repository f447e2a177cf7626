"""The block protocol: which pictures are judged, so that the number does not depend on who draws them.

Samples come in blocks of 250. Block b is one ``module.sample(250, generator=g_b)`` with g_b seeded by
(seed, b), and one pass through the extractor; it is made on process b modulo the number of processes,
and the blocks are put together in the order of their index. The last one is cut to the number asked
for after it was drawn whole. So the number is the same on any number of processes and at any training
batch size. The size of a block and the seed belong to the protocol: another size is another number.

Limitation: every process receives all features (10 000 pictures of Inception are 120 MB).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from lightning_modules.parts.capabilities import DataSpec, Extracts
from lightning_modules.parts.distributed import rank, world_size
from lightning_modules.parts.metrics import to_uint8
from lightning_modules.parts.sampling import evaluating

BLOCK_SIZE = 250


@dataclass(frozen=True)
class Judged:
    """What the extractor saw in N pictures, on the CPU, equal on all processes.

    Attributes:
        features: float32 (N, D).
        logits: float32 (N, K).
    """

    features: Tensor
    logits: Tensor

    def __len__(self) -> int:
        return len(self.features)


def block_generator(seed: int, block: int) -> Generator:
    """Returns the source of all randomness of one block, on the CPU so that every device draws the same.

    Mersenne Twister takes 32 bits of a seed; within one seed no two blocks share them.
    """
    return torch.Generator().manual_seed((seed * 1_000_003 + block) % 2**32)


@contextmanager
def undisturbed(*modules: nn.Module) -> Iterator[None]:
    """Puts aside all that a number must not depend on: training mode, gradients, autocast, random state.

    Inference mode is left because samplers may need gradients of their own (Langevin steps), which it
    would forbid.
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
    """Runs ``work(block)`` for every block, each on one process, and gives all processes all rows in order.

    Args:
        num_rows: Rows to return; there are ``ceil(num_rows / 250)`` blocks.
        work: Returns tensors whose first dimension is the block's rows, or ``None`` for values that are
            NaN or infinite; that one process says so instead of raising keeps the others from waiting.
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
    """Draws samples by the block protocol; labels of a conditional module come from the generators.

    Args:
        module: Something that ``Samples``.
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


def judge_samples(
    module: nn.Module,
    extractor: nn.Module,
    num_samples: int,
    spec: DataSpec,
    *,
    seed: int = 0,
    labels: Tensor | None = None,
    progress: str | None = None,
) -> Judged:
    """Draws pictures by the block protocol and passes each block through the extractor once.

    Args:
        module: Something that ``Samples``.
        extractor: Something that ``Extracts``; it is moved to the module's device.
        num_samples: Pictures to judge.
        spec: Says the pictures' shape and value range.
        seed: Seed of the protocol.
        labels: Classes of one block, int64 (250,), to ask a conditional module for in every block.
        progress: Title of a progress bar.

    Raises:
        ValueError: If a sample is NaN or infinite, or has another shape.
    """
    value_range = check_image_spec(spec)
    judge = check_extractor(extractor)
    extractor.to(device_of(module))

    def work(block: int) -> Sequence[Tensor] | None:
        samples = _sample_block(module, block, seed, spec.shape, labels)
        if not torch.isfinite(samples).all():
            return None
        return _float32(judge.extract(to_uint8(samples, value_range)))

    with undisturbed(module, extractor):
        return Judged(*in_blocks(num_samples, work, progress=progress))


def judge_images(extractor: nn.Module, images: Tensor, *, progress: str | None = None) -> Judged:
    """Passes uint8 pictures (N, C, H, W) through the extractor in blocks shared among the processes."""
    judge = check_extractor(extractor)
    device = device_of(extractor)

    def work(block: int) -> Sequence[Tensor]:
        rows = images[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]
        return _float32(judge.extract(rows.to(device)))

    with undisturbed(extractor):
        return Judged(*in_blocks(len(images), work, progress=progress))


def check_image_spec(spec: DataSpec) -> tuple[float, float]:
    """Returns the value range of pictures.

    Raises:
        ValueError: If the spec is not one of pictures, or knows no range.
    """
    if spec.kind != "image" or spec.value_range is None:
        raise ValueError(
            f"Data set {spec.name!r} has kind={spec.kind!r} and value_range={spec.value_range}; FID, Inception "
            "Score, KID, precision and recall look at pictures (kind='image') with a value range. "
            "For two-dimensional points use the ModeCoverage callback."
        )
    return spec.value_range


def check_extractor(extractor: nn.Module) -> Extracts:
    """Returns the extractor as what it can do.

    Raises:
        ValueError: If it has no ``extract``, ``num_features`` or ``extractor_name``.
    """
    if not isinstance(extractor, Extracts):
        raise ValueError(
            f"{type(extractor).__name__} cannot judge pictures: an extractor has extract(uint8 images) -> "
            "(features, logits), num_features and extractor_name. Give a Classifier, for example "
            "zoo.load('classifier.fashion_mnist'), or lightning_modules.extractors.Inception(weights_path=...)."
        )
    return extractor


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
