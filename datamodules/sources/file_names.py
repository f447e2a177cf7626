"""Names of the user's files as text that can be written into configs."""

import os


def legible(name: str) -> str:
    """Returns the name of a file as text: bytes that are not UTF-8 become U+FFFD, so that it can be written down."""
    return os.fsencode(name).decode(errors="replace")
