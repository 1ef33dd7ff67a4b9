"""Where things are: the same names in a checkout and in an installed wheel.

A function each, so that tests and notebooks can move the build folder with the ``REPRO_BUILD`` environment variable.
"""

import os
import tomllib
from functools import cache
from pathlib import Path

# What pip calls this package; another one has the name repro on the public index.
DISTRIBUTION = "entropy-mechanism"


@cache
def checkout() -> Path | None:
    """The repository that this package was imported from, or None where it was installed from a wheel."""
    candidate = Path(__file__).resolve().parents[2]
    try:
        project = tomllib.loads((candidate / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, ValueError):
        return None
    return candidate if project.get("name") == DISTRIBUTION else None


def root() -> Path:
    """The repository in a checkout; in an installed wheel, the package's data folder."""
    return checkout() or Path(__file__).resolve().parent / "_data"


def configs_dir() -> Path:
    """Profiles and the claims ledger."""
    return root() / "configs"


def bases_dir() -> Path:
    """Base policies, a folder each."""
    return root() / "bases"


def results_dir() -> Path:
    """Recorded runs that ship with the repository and the wheel; read, never written."""
    return root() / "results"


def build_dir() -> Path:
    """Everything that is made: ``REPRO_BUILD`` where set, else ``build`` in the checkout or the working directory."""
    override = os.environ.get("REPRO_BUILD")
    return Path(override).resolve() if override else (checkout() or Path.cwd()) / "build"


def runs_dir() -> Path:
    """Run records made on this machine."""
    return build_dir() / "runs"
