"""MkDocs' hooks: pages that are made, formulae as MathML, and a look that nothing is fetched by a reader."""

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

from docs import pages

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
UNBRACED = re.compile(r"\\mathbb (\w)")
"""Double-struck letters that would be made by an attribute, which browsers do not know, and not as letters."""
NAMES = re.compile(r"<mi>(log|exp|ln)</mi>")
"""Names of functions, which are made without the space that they have in print."""
WIDE = ("equations.md", "comparisons.md")
"""Pages with tables that need the room of the whole window."""
FETCHED = re.compile(r'<(?:script|img|iframe)[^>]* src="https?:|<link[^>]* rel="stylesheet"[^>]* href="https?:')


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made and the images that they show, and sets the order of all pages."""
    for path, text in pages.made_pages().items():
        files.append(File.generated(config, path, content=text))
    for path, image in pages.images().items():
        files.append(File.generated(config, path, abs_src_path=str(image)))
    config.nav = pages.navigation()
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Puts what is made into a page that is written, and links its code to the reference."""
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["navigation", "toc"]
    return pages.filled(markdown, page.file.src_uri)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Writes formulae as MathML, which browsers show without a script.

    Raises:
        ValueError: If a formula has a command that is not known.
    """

    def formula(match: re.Match[str]) -> str:
        latex = UNBRACED.sub(r"\\mathbb{\1}", unescape(match[2]))
        made = convert(latex, display="inline" if match[1] == "span" else "block")
        if "\\" in unescape(made):
            raise ValueError(f"{page.file.src_uri}: {match[2]} has a command that MathML is not made of.")
        return NAMES.sub(r'<mo lspace="0.17em" rspace="0.17em">\1</mo>', made)

    html = FORMULA.sub(formula, html)
    return f'<div class="wide">{html}</div>' if page.file.src_uri in WIDE else html


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuses a page that would fetch a script, a style or an image.

    Raises:
        ValueError: If there is one.
    """
    if found := FETCHED.search(output):
        raise ValueError(f"{page.file.src_uri} fetches something from the net: {found[0]}")
    return output
