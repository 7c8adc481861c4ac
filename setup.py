"""The README and the addresses for a package index, whose links need the public address of the repository.

It is given when a release is built: ``PARETTA_REPOSITORY=https://HOST/OWNER/paretta python -m build``. Links to files
lead there then, by ``/blob/`` and ``/raw/`` as GitHub and GitLab answer them. Without it they stay relative, and no
address is named. All else is in pyproject.toml.
"""

import os
import re
from pathlib import Path

from setuptools import setup

REPOSITORY = os.environ.get("PARETTA_REPOSITORY", "").rstrip("/")
BRANCH = "main"
PLACES = {
    "Documentation": f"blob/{BRANCH}/docs/index.md",
    "Changelog": f"blob/{BRANCH}/CHANGELOG.md",
    "Issues": "issues",
}


def absolute(page: str) -> str:
    """Return the page with its relative links and pictures as addresses below `REPOSITORY`."""

    def address(link: re.Match[str]) -> str:
        picture, words, path = link.groups()
        return f"{picture}[{words}]({REPOSITORY}/{'raw' if picture else 'blob'}/{BRANCH}/{path})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)]+)\)", address, page)


README = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
setup(
    long_description=absolute(README) if REPOSITORY else README,
    long_description_content_type="text/markdown",
    project_urls={"Repository": REPOSITORY, **{name: f"{REPOSITORY}/{path}" for name, path in PLACES.items()}}
    if REPOSITORY
    else {},
)
