"""Any folder of images with captions as a datamodule."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.images.caption_files import read_captions
from datamodules.images.folder import ImageFolder


class CaptionedFolder(ImageFolder):
    """A folder of images as ``ImageFolder``, with a caption for each.

    Captions are in ``captions.jsonl`` in the folder, whose lines are ``{"file": "pets/1.png", "caption": "a sleeping
    cat"}``; or, where there is no such file, in a text beside each image, ``pets/1.txt``. Every image needs one. Images
    and texts lie in the folder: links that lead out of it, and ``..``, are refused. Batches are ``(x, labels,
    tokens)``; see ``datamodules.captions``. The words of all captions are in ``spec`` at once.

    Arguments and errors are those of ``ImageFolder``, and a ``ValueError`` for captions that cannot be used.
    """

    def captions_of(self, paths: Sequence[Path]) -> list[str]:
        """Returns the caption of each image; see ``read_captions``, also for errors."""
        return read_captions(self.folder, paths)
