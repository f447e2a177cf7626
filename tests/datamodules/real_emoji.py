"""The real emoji, for tests that skip where their archive is not."""

import pytest

from datamodules.images.emoji_captions import DescribedEmoji, read_emoji
from datamodules.sources import find
from datamodules.sources.emoji_files import STYLES, EmojiFiles


def real_emoji() -> list[DescribedEmoji]:
    """Returns all real emoji, or skips the test; nothing is fetched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(find, "_fetch", lambda *arguments: False)
        try:
            return read_emoji(EmojiFiles(list(STYLES)).table())
        except find.DataNotFoundError as error:
            pytest.skip(f"emoji-64.zip is in no folder that is searched: {error}")
