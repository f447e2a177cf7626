"""Pictures read from files batch by batch, for data that does not fit in memory.

Threads decode ahead of training (Pillow releases the interpreter while it decodes and resizes). Order, sharding,
noise and resuming belong to the loaders of ``datamodules.loader``, which know no difference between this source
and a tensor: what is read ahead but not yielded is simply read again after a resume.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from datamodules.loader import TensorSource

BATCHES_AHEAD = 2
READ_CHUNK = 256


class FileSource:
    """Pictures in files, each decoded, resized and cropped when it is asked for.

    Args:
        names: One name a picture.
        labels: Shape (N,), int64.
        shape: (C, H, W) of every picture as yielded; C is 1 or 3, H equals W.
        opener: Opens a picture by its name, for reading bytes.
        crop: Height and width of the centre that is cut out and resized; None for the largest square.
        threads: Decoding threads; None for one a processor.
    """

    def __init__(
        self,
        names: Sequence[str],
        labels: Tensor,
        shape: tuple[int, int, int],
        opener: Callable[[str], IO[bytes]],
        crop: int | None = None,
        threads: int | None = None,
    ) -> None:
        self.names, self.labels = list(names), labels
        self.shape: tuple[int, ...] = shape
        self.opener, self.crop = opener, crop
        self.threads = threads or os.cpu_count() or 1

    def __len__(self) -> int:
        return len(self.names)

    def for_epoch(self, epoch: int) -> "FileSource":
        """Returns itself: the same pictures in every epoch."""
        return self

    def order(self, generator: torch.Generator, size: int) -> Tensor:
        """Returns a permutation."""
        return torch.randperm(len(self), generator=generator)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the pictures at each tensor of indices, shape (n, C, H, W), uint8.

        Raises:
            ValueError: If a file is no picture or is damaged; the message names it.
        """
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="decode")
        waiting: deque[list[Future[Tensor]]] = deque()
        try:
            for indices in batches:
                waiting.append([pool.submit(self.read, index) for index in indices.tolist()])
                if len(waiting) > BATCHES_AHEAD:
                    yield self._stacked(waiting.popleft())
            while waiting:
                yield self._stacked(waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def beside(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Returns the labels."""
        return (self.labels.index_select(0, indices),)

    def read(self, index: int) -> Tensor:
        """Reads one picture, shape (C, H, W), uint8."""
        name = self.names[index]
        try:
            with self.opener(name) as file, Image.open(file) as picture:
                pixels = np.array(fitted(picture, self.shape[-1], self.shape[0] == 1, self.crop))
        except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise ValueError(f"{name} cannot be read as a picture ({error}): repair it or take it away.") from error
        return torch.from_numpy(pixels.reshape(*self.shape[1:], self.shape[0])).permute(2, 0, 1)

    def in_memory(self, title: str) -> TensorSource:
        """Reads everything once, with a progress bar."""
        data = torch.empty(len(self), *self.shape, dtype=torch.uint8)
        parts = [torch.arange(start, min(start + READ_CHUNK, len(self))) for start in range(0, len(self), READ_CHUNK)]
        with tqdm(total=len(self), desc=title, unit="picture", leave=False, disable=len(self) < READ_CHUNK) as bar:
            for indices, pixels in zip(parts, self.stream(parts), strict=True):
                data[indices[0] : indices[-1] + 1] = pixels
                bar.update(len(indices))
        return TensorSource(data, self.labels)

    def _stacked(self, futures: list[Future[Tensor]]) -> Tensor:
        if not futures:
            return torch.empty(0, *self.shape, dtype=torch.uint8)
        return torch.stack([future.result() for future in futures])


def fitted(picture: Image.Image, size: int, grey: bool, crop: int | None = None) -> Image.Image:
    """Turns any picture into a square one of 8 bits a channel.

    The camera's rotation is applied, transparency is laid over white, 16-bit grey is cut to 8 bits, and of an
    animation the first frame is taken. The central square is then cut out and resized (bilinear, antialiased).

    Args:
        picture: Any picture.
        size: Height and width of the result.
        grey: Whether the result has one channel instead of three.
        crop: Height and width of the square; None for the largest. Where a picture is smaller, the rest is black.

    Returns:
        A picture of mode "L" or "RGB".
    """
    picture = _eight_bits(ImageOps.exif_transpose(picture)).convert("L" if grey else "RGB")
    width, height = picture.size
    side = crop or min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BILINEAR)


def _eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture)
        if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"mode {picture.mode} with values {values.min()}..{values.max()} is no 8 or 16 bit picture"
            )
        # Pillow opens 16 bits as I;16, and as I where it must; a dark picture of them is no picture of 8 bits.
        return Image.fromarray((values // 256).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
    return picture
