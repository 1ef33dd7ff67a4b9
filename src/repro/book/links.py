"""Links from the book to the repository that it was built from; without a remote on GitHub there are none.

The site is published on the branch ``gh-pages`` with each notebook's .ipynb beside its page, which is where Colab
opens it from (``.github/workflows/book.yml``).
"""

import re
from typing import Any

BRANCH = "gh-pages"
# https://github.com/owner/name.git, with or without a user; git@github.com:owner/name; ssh://git@github.com/owner/name
REMOTE = re.compile(r"(?:https://(?:[^/@]+@)?|ssh://git@|git@)github\.com[/:]([\w.-]+)/([\w.-]+?)(?:\.git)?/?")


def repository(remote: str | None) -> str | None:
    """The web address of the repository that a git remote names, or None where it is not on GitHub."""
    found = REMOTE.fullmatch(remote or "")
    return found and f"https://github.com/{found[1]}/{found[2]}"


def settings(remote: str | None) -> dict[str, Any]:
    """What a git remote adds to Jupyter Book's settings: a link to the repository, and to Colab on notebooks' pages."""
    address = repository(remote)
    if address is None:
        return {}
    return {
        "repository": {"url": address, "branch": BRANCH, "path_to_book": ""},
        "launch_buttons": {"colab_url": "https://colab.research.google.com", "thebe": False},
        "html": {"use_repository_button": True},
    }
