"""Reads all image files of a data set before training: everything that cannot be read is reported at once."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from tqdm import tqdm

from datamodules.images.streaming import MOST_NAMED, FileSource, UnreadableImage, raise_unreadable
from datamodules.loader import Source, TensorSource

READ_CHUNK = 256
DELAY_SECONDS = 1.0
"""A progress bar is shown for what takes longer."""


def decoded(sources: Mapping[str, FileSource], title: str) -> dict[str, Source]:
    """Decodes all images into sources that are tensors, one for each split.

    Args:
        sources: The files of each split.
        title: Title of the progress bar, which is shown after a second.

    Raises:
        ValueError: If files are no images or are damaged; the message names the first twenty and their number.
    """
    data = {split: torch.empty(len(x), *x.shape, dtype=torch.uint8) for split, x in sources.items()}

    def fill(split: str, index: int) -> None:
        data[split][index] = sources[split].read(index)

    _for_each(sources, title, fill)
    return {split: TensorSource(data[split], source.labels) for split, source in sources.items()}


def check_all(sources: Mapping[str, FileSource], title: str) -> None:
    """Decodes every file and keeps nothing; see ``decoded``."""
    _for_each(sources, title, lambda split, index: sources[split].read(index))


def check_headers(sources: Mapping[str, FileSource], title: str) -> None:
    """Reads the beginning of every file, for images that are decoded batch by batch; see ``decoded``."""
    _for_each(sources, title, lambda split, index: sources[split].check_header(index))


def _for_each(sources: Mapping[str, FileSource], title: str, task: Callable[[str, int], object]) -> None:
    """Runs a task for every file in threads, and raises one error for all that cannot be read."""
    problems: list[str] = []
    count, total = 0, sum(map(len, sources.values()))

    def attempted(place: tuple[str, int]) -> str | None:
        try:
            task(*place)
        except UnreadableImage as error:
            return str(error)
        return None

    pool = ThreadPoolExecutor(max((x.threads for x in sources.values()), default=1), thread_name_prefix="decode")
    try:
        # With miniters=1 the bar moves by time, however long an image takes.
        with tqdm(total=total, desc=title, unit="image", leave=False, delay=DELAY_SECONDS, miniters=1) as bar:
            for split, source in sources.items():
                for start in range(0, len(source), READ_CHUNK):
                    part = [(split, index) for index in range(start, min(start + READ_CHUNK, len(source)))]
                    for problem in pool.map(attempted, part):
                        bar.update()
                        if problem is not None:
                            count += 1
                            problems += [problem] if len(problems) < MOST_NAMED else []
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    raise_unreadable(problems, count, total)
