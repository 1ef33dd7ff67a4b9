"""Reading the claims ledger: YAML in, checked entries out, with every complaint naming file, entry and value."""

from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from repro import paths
from repro.checked import Checked, parse, read
from repro.claims.errors import ClaimError
from repro.claims.ledger import Claim, Distinct, Ledger, Paper
from repro.errors import ConfigError

_PAPER = "paper.yaml"
Kind = TypeVar("Kind")


class _PaperFile(Checked):
    paper: Paper


class _ClaimsFile(Checked):
    claims: Distinct[Claim]


def load_ledger(folder: Path | None = None) -> Ledger:
    """Read and validate the claims ledger: `paper.yaml`, and the claims of all other files in the order of their names.

    Args:
        folder: holds the YAML files; `configs/claims/` of the project, which is read once, if None.

    Raises:
        ClaimError: a file is missing, is not YAML, or holds a field that is missing, unknown, of the wrong type or
            out of range; the message names the file, the entry, the value and what is allowed.
    """
    if folder is None:
        return _project_ledger()
    paper = _checked(_PaperFile, folder / _PAPER).paper
    files = [path for path in sorted(folder.glob("*.yaml")) if path.name != _PAPER]
    claims = [claim for path in files for claim in _checked(_ClaimsFile, path).claims]
    if not claims:
        raise ClaimError(f"{folder}: no claims; they stand in files such as 01_collapse.yaml")
    return _as(Ledger, {"paper": paper, "claims": claims}, folder)


@cache
def _project_ledger() -> Ledger:
    return load_ledger(paths.configs_dir() / "claims")


def _checked(kind: type[Kind], path: Path) -> Kind:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClaimError(f"{path}: cannot read the claims ledger ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ClaimError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    return _as(kind, content, path.name)


def _as(kind: type[Kind], content: Any, source: object) -> Kind:
    try:
        return read(kind, content, source)
    except ConfigError as error:
        raise ClaimError(str(error)) from None
