"""A stranger's text, made harmless: for a terminal, and for a model card in Markdown.

Names, notes and settings of a checkpoint are written by whoever made it. In a terminal, control characters could
rewrite what was printed before; in Markdown, HTML and links could be taken for the zoo's own.
"""

import re

MARKUP = re.compile(r"[\\`*\[\]|~]")
BLOCKS = re.compile(r"^(\s*)([#>+=-]|\d+[.)])", re.MULTILINE)


def printable(text: str, keep: str = "") -> str:
    r"""Returns a text with control characters, marks of direction and lone surrogates as escapes, ``\x1b``.

    Args:
        text: Any text.
        keep: Control characters to leave as they are, such as ``"\n"``.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text
    )


def markdown(text: str) -> str:
    """Returns a line of text that Markdown shows as it is, without markup, links or HTML."""
    text = MARKUP.sub(lambda found: "\\" + found[0], printable(text))
    return text.replace("<", "&lt;").replace(">", "&gt;")


def paragraphs(text: str) -> str:
    """Returns lines of text that Markdown shows as they are, in paragraphs."""
    lines = "\n".join(line.strip() for line in map(markdown, text.splitlines()))
    return BLOCKS.sub(lambda found: found[1] + found[2][:-1] + "\\" + found[2][-1], lines)


def code_span(text: str) -> str:
    """Returns a line of text in backticks, more of them than the text has in a row."""
    text = printable(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    if longest == 0:
        return f"`{text}`"
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}"
