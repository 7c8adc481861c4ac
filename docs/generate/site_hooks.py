"""Links from a page to files outside the documentation become the file's path, as the site holds only the pages."""

import re
from pathlib import PurePosixPath
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+)([^)#:]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Replace links that leave the documentation; MkDocs calls this for each page."""
    depth = len(PurePosixPath(str(page.file.src_uri)).parts)
    return without_outer_links(markdown, depth)


def without_outer_links(markdown: str, depth: int) -> str:
    """Return the page with links that go `depth` or more folders up replaced by the path in the repository.

    >>> without_outer_links("see [the log](../benchmarks/LOG.md) and [tasks](../tasks.md)", 1)
    'see the log (`benchmarks/LOG.md`) and tasks (`tasks.md`)'
    >>> without_outer_links("see [tasks](../tasks.md)", 2)
    'see [tasks](../tasks.md)'
    """

    def path_instead(link: re.Match[str]) -> str:
        words, up, path = link[1], link[2], link[3]
        if up.count("../") < depth:
            return link[0]
        return f"`{path}`" if words.strip("`") == path else f"{words} (`{path}`)"

    return _LINK.sub(path_instead, markdown)
