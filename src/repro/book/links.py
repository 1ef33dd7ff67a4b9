"""Where the checkout comes from: what pip installs, and the book's links, which need a remote on GitHub.

The site is published on the branch ``gh-pages`` with each notebook's .ipynb beside its page, which is where Colab
opens it from (``.github/workflows/book.yml``).
"""

import re
import subprocess
from pathlib import Path
from typing import Any

from repro import paths

BRANCH = "gh-pages"
# https://github.com/owner/name.git, with or without a user; git@github.com:owner/name; ssh://git@github.com/owner/name
REMOTE = re.compile(r"(?:https://(?:[^/@]+@)?|ssh://git@|git@)github\.com[/:]([\w.-]+)/([\w.-]+?)(?:\.git)?/?")


def remote() -> str | None:
    """The address of the checkout's git remote `origin`, None without one."""
    command = ["git", "-C", str(paths.root()), "remote", "get-url", "origin"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def requirement(remote: str | None) -> str:
    """What pip installs the package from: the git remote, and without one the checkout itself."""
    if address := repository(remote):
        # A session elsewhere has no key for ssh.
        return f"git+{address}"
    if remote is None or Path(remote).exists():
        return str(paths.root())
    if "://" not in remote and ":" in remote:
        # git's short form user@host:path is no address to pip.
        remote = "ssh://" + remote.replace(":", "/", 1)
    # A name and password in the address stay on this machine.
    return "git+" + re.sub(r"^(https?://)[^/@]+@", r"\1", remote)


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
