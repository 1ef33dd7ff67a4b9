"""What `repro attest` has found out: which code computes the same numbers as the code that a record is of.

``results/attestations.json`` is committed with the code that it speaks of. An entry says of an arm, whatever its seed,
that replaying the first steps of one of its records under the fingerprint ``new`` gave the bits that the record of
fingerprint ``old`` has, or, where ``replayed`` says both, that replaying it under ``old`` gave on the same machine;
under ``through`` where there is one, which had been attested for the record by then.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from repro.runs.config import RunConfig

FILE = "attestations.json"


def is_attested(folder: Path, config: RunConfig, old: str, new: str) -> bool:
    """Whether the attestations in a folder say that code ``new`` computes what ``old`` did for a config's arm."""
    wanted = config.kind, old
    return any(entry["new"] == new for entry in read(folder) if _key(entry) == wanted)


def read(folder: Path) -> list[dict[str, Any]]:
    """The attestations in a folder; none where there is no file."""
    path = folder / FILE
    try:
        stat = path.stat()
    except FileNotFoundError:
        return []
    return _parsed(path, stat.st_size, stat.st_mtime_ns)


def add(folder: Path, entry: dict[str, Any]) -> None:
    """Write an attestation, in place of an earlier one for the same arm and old code."""
    entries = [one for one in read(folder) if _key(one) != _key(entry)]
    entries = sorted([*entries, entry], key=lambda one: (one["arm"], *_key(one)))
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{FILE}.tmp"
    lines = ",\n".join(json.dumps(one, sort_keys=True) for one in entries)
    draft.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    draft.replace(folder / FILE)


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["kind"], entry["old"]


@lru_cache(maxsize=4)
def _parsed(path: Path, size: int, modified_ns: int) -> list[dict[str, Any]]:
    """The entries of a file; size and time of change are in the signature so that a changed file is read again."""
    return json.loads(path.read_text(encoding="utf-8"))
