"""What is kept of the last build: Sphinx then reads the pages anew whose prose has changed, and no others.

It would miss two things. A page that was not read anew does not warn again, and what was kept is of the code that made
it. So it is kept after a build without warnings only, for the same code, and as long as all that changes is prose: a
heading, a label or a directive may be what another page leads to.
"""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

_STAMP = ".made-by"
_LIBRARIES = ("jupyter-book", "sphinx", "myst-nb", "docutils", "sphinx-book-theme", "sphinx-design")
# How lines begin that are more than prose.
_FRAME = (b"#", b"(", b":", b"`", b"{", b"+++", b"---")


def put(files: Mapping[str, bytes], source: Path) -> bool:
    """Make a folder hold these files and no others. Those that are the same keep their time, by which Sphinx goes.

    Returns:
        Whether all that changed is the prose of pages.
    """
    there = {path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()}
    gone = there.keys() - files.keys()
    for name in gone:
        there[name].unlink()
    prose = not gone
    for name, content in files.items():
        path = source / name
        before = path.read_bytes() if name in there else None
        if before != content:
            prose &= before is not None and name.endswith(".md") and _frame(before) == _frame(content)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return prose


def _frame(page: bytes) -> list[bytes]:
    return [line for line in page.splitlines() if line.lstrip().startswith(_FRAME)]


def remembered(path: Path, key: str, make: Callable[[], Mapping[str, bytes]]) -> Mapping[str, bytes]:
    """Files that `make` gives: those of the last time, from `path`, where the key is the same."""
    try:
        with zipfile.ZipFile(path) as last:
            if last.comment == key.encode():
                return {name: last.read(name) for name in last.namelist()}
    except (OSError, zipfile.BadZipFile):
        pass
    files = make()
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(draft, "w") as new:
        for name, content in files.items():
            new.writestr(name, content)
        new.comment = key.encode()
    draft.replace(path)
    return files


def drop_unless_made_by_this(output: Path) -> None:
    """Remove what another version of the code or of the libraries has built, or nobody has finished."""
    stamp = output / _STAMP
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != _maker():
        shutil.rmtree(output, ignore_errors=True)


def made(output: Path) -> None:
    """Say that a build went through, so that the next one may go on from it."""
    (output / _STAMP).write_text(_maker(), encoding="utf-8")


def _maker() -> str:
    digest = hashlib.sha256(" ".join(map(version, _LIBRARIES)).encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
