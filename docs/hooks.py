"""MkDocs' hooks: pages that are made, formulae as MathML, and a look that nothing is fetched by a reader."""

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

from docs import pages

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
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
    return pages.filled(markdown, page.file.src_uri)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Writes formulae as MathML, which browsers show without a script.

    Raises:
        ValueError: If a formula has a command that is not known.
    """

    def formula(match: re.Match[str]) -> str:
        made = convert(unescape(match[2]), display="inline" if match[1] == "span" else "block")
        if "\\" in unescape(made):
            raise ValueError(f"{page.file.src_uri}: {match[2]} has a command that MathML is not made of.")
        return made

    return FORMULA.sub(formula, html)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuses a page that would fetch a script, a style or an image.

    Raises:
        ValueError: If there is one.
    """
    if found := FETCHED.search(output):
        raise ValueError(f"{page.file.src_uri} fetches something from the net: {found[0]}")
    return output
