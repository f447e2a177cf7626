"""Images read from files batch by batch, for data that does not fit in memory.

Threads decode ahead of training (Pillow releases the interpreter lock while it decodes and resizes). Order, sharding,
noise and resuming belong to the loaders of ``datamodules.loader``, which treat this source like a tensor. Images that
were decoded ahead but not yielded are decoded again after a resume.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

BATCHES_AHEAD = 2
MOST_NAMED = 20
"""Number of unreadable files that a message names."""


class UnreadableImage(ValueError):
    """A file that is not an image, or is damaged; the message names the file and the reason."""


class FileSource:
    """Images in files, each decoded, cropped and resized when it is read.

    Args:
        names: One name per image.
        labels: Shape (N,), int64.
        shape: (C, H, W) of every image after resizing; C is 1 or 3, H equals W.
        opener: Opens an image by its name, for reading bytes.
        crop: Height and width of the central square that is cut out and resized; None for the largest square.
        threads: Number of decoding threads; None for one per processor.
        hint: What else to say where a file of a batch cannot be read, such as how to find all of them.
    """

    def __init__(
        self,
        names: Sequence[str],
        labels: Tensor,
        shape: tuple[int, int, int],
        opener: Callable[[str], IO[bytes]],
        crop: int | None = None,
        threads: int | None = None,
        hint: str = "",
    ) -> None:
        self.hint = hint
        self.names, self.labels = list(names), labels
        self.shape: tuple[int, ...] = shape
        self.opener, self.crop = opener, crop
        self.threads = threads or os.cpu_count() or 1

    def __len__(self) -> int:
        return len(self.names)

    def for_epoch(self, epoch: int) -> "FileSource":
        """Returns itself: the same images in every epoch."""
        return self

    def order(self, generator: torch.Generator, size: int) -> Tensor:
        """Returns a permutation."""
        return torch.randperm(len(self), generator=generator)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the images at each tensor of indices, shape (n, C, H, W), uint8.

        Raises:
            ValueError: If files of a batch are no images or are damaged; the message names them.
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

    def targets(self, indices: Tensor) -> dict[str, Tensor]:
        """Returns the labels."""
        return {"labels": self.labels.index_select(0, indices)}

    def read(self, index: int) -> Tensor:
        """Reads one image, shape (C, H, W), uint8.

        Raises:
            UnreadableImage: If its file is not an image or is damaged; the message names it.
        """
        with self._opened(index) as image:
            pixels = np.array(fitted(image, self.shape[-1], self.shape[0] == 1, self.crop))
        return torch.from_numpy(pixels.reshape(*self.shape[1:], self.shape[0])).permute(2, 0, 1)

    def check_header(self, index: int) -> None:
        """Reads the first bytes of one image, which takes a fraction of the time of decoding it.

        Raises:
            UnreadableImage: If its file does not begin as an image; the message names it.
        """
        with self._opened(index):
            pass

    @contextmanager
    def _opened(self, index: int) -> Iterator[Image.Image]:
        name = self.names[index]
        try:
            with self.opener(name) as file, Image.open(file) as image:
                yield image
        except Exception as error:  # the decoders of Pillow raise errors of any class on a damaged file
            reason = "it is no image of a known format" if isinstance(error, UnidentifiedImageError) else error
            raise UnreadableImage(f"{name} cannot be read as an image ({reason or type(error).__name__})") from error

    def _stacked(self, futures: list[Future[Tensor]]) -> Tensor:
        if not futures:
            return torch.empty(0, *self.shape, dtype=torch.uint8)
        wait(futures)
        problems = [error for future in futures if isinstance(error := future.exception(), UnreadableImage)]
        raise_unreadable([str(problem) for problem in problems], len(problems), len(futures), self.hint)
        return torch.stack([future.result() for future in futures])


def raise_unreadable(problems: Sequence[str], count: int, total: int, hint: str = "") -> None:
    """Raises one error for all files that cannot be read; does nothing if there are none.

    Args:
        problems: What is wrong with each of these files, or with the first of them.
        count: Number of files that cannot be read.
        total: Number of files.
        hint: What the message says at its end.

    Raises:
        UnreadableImage: If ``count`` is positive; it names the first twenty files.
    """
    if count == 1:
        raise UnreadableImage(f"{problems[0]}: repair or remove it.{hint}")
    if count:
        more = f"; and {count - MOST_NAMED} more" if count > MOST_NAMED else ""
        raise UnreadableImage(
            f"{count} of {total} files cannot be read as images, repair or remove them: "
            f"{'; '.join(problems[:MOST_NAMED])}{more}.{hint}"
        )


def fitted(image: Image.Image, size: int, grey: bool, crop: int | None = None) -> Image.Image:
    """Converts any image to a square one with 8 bits per channel.

    The camera's rotation is applied, transparent parts become white, 16-bit grey is reduced to 8 bits, and of an
    animation the first frame is taken. The central square is then cut out and resized (bilinear, antialiased).

    Args:
        image: Any image.
        size: Height and width of the result.
        grey: Whether the result has one channel instead of three.
        crop: Height and width of the square; None for the largest. Where an image is smaller, the rest is black.

    Returns:
        An image of mode "L" or "RGB".

    Raises:
        ValueError: If the values of a grey image are not those of 8 or 16 bits.
    """
    image = _eight_bits(ImageOps.exif_transpose(image)).convert("L" if grey else "RGB")
    width, height = image.size
    side = crop or min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BILINEAR)


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(f"mode {image.mode} with values {values.min()}..{values.max()} is not 8 or 16 bits")
        # Pillow opens 16-bit images as mode I;16 or I, so the mode decides: a dark one may have no value above 255.
        return Image.fromarray((values // 256).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
    return image
