"""SHA-256 of files."""

import hashlib
from functools import lru_cache
from pathlib import Path


def sha256(path: Path) -> str:
    """SHA-256 of a file, hashed once for as long as its size and its time of change stay the same.

    Raises:
        OSError: when it cannot be read.
    """
    stat = path.stat()
    return _hashed(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _hashed(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
