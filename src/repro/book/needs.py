"""What the parts of a book are made from: the runs that a notebook reads, and the content of the code that shows them.

The workflow makes a part again when either changes. The content of code is its syntax tree: a comment, the layout and
the time of a file leave it as it is.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import grimp

from repro.claims import Claim, Ledger, answered
from repro.runs.profiles import Profile, all_arms

PACKAGE = Path(__file__).resolve().parents[1]
# What decides a run's numbers makes its record stale, and notebooks follow the records.
TRAINING = "repro.runs.training"


def claims(notebook: Path, ledger: Ledger) -> list[Claim]:
    """The ledger's entries that a notebook names, by id or by page."""
    words = _words(notebook)
    return [claim for claim in ledger.claims if {claim.id, claim.page} & words]


def arms(notebook: Path, ledger: Ledger, known: Iterable[str]) -> list[str]:
    """The arms, among those known, whose runs a notebook reads: of its claims, or named by it or its figures."""
    drawing = [module for module in imported(notebook) if module.startswith("repro.book.figures.")]
    words = _words(notebook).union(*(_words(_path(module)) for module in drawing))
    words.update(arm for claim in claims(notebook, ledger) for arm in claim.arms)
    return [arm for arm in known if arm in words]


def lacking(notebook: Path, ledger: Ledger, profile: Profile) -> list[str]:
    """The arms that a notebook reads and a profile leaves out."""
    return [arm for arm in arms(notebook, ledger, all_arms()) if arm not in profile.arms]


def executes(notebook: Path, ledger: Ledger, profile: Profile) -> bool:
    """Whether a notebook is executed for a profile: it has the arms read, and answers a claim shown if any is."""
    shown, answers = {claim.id for claim in claims(notebook, ledger)}, {claim.id for claim in answered(profile, ledger)}
    return not lacking(notebook, ledger, profile) and bool(not shown or shown & answers)


def imported(notebook: Path) -> list[str]:
    """Modules of the package that a script imports by itself."""
    froms = [node for node in ast.walk(_tree(notebook)) if isinstance(node, ast.ImportFrom)]
    names = [(node.module, f"{node.module}.{one.name}") for node in froms for one in node.names]
    modules = _graph().modules
    return sorted({inner if inner in modules else outer for outer, inner in names if outer in modules})


def content(modules: Iterable[str], *more: object) -> str:
    """16 hexadecimal digits for modules, all that they import, the data beside them, and more: files, or values."""
    graph = _graph()
    found = set(modules).union(*map(graph.find_upstream_modules, modules))
    digest = hashlib.sha256()
    for part in (*(_path(module) for module in sorted(found)), *more):
        digest.update(_content(part) if isinstance(part, Path) else repr(part).encode())
    return digest.hexdigest()[:16]


@cache
def _graph() -> grimp.ImportGraph:
    graph = grimp.build_graph(PACKAGE.name, cache_dir=None)
    graph.remove_module(TRAINING)
    return graph


def _path(module: str) -> Path:
    """The file of a module, found without importing it."""
    location = PACKAGE.joinpath(*module.split(".")[1:])
    return location / "__init__.py" if location.is_dir() else location.with_suffix(".py")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _words(path: Path) -> set[str]:
    """The texts that stand in a Python file."""
    constants = [node.value for node in ast.walk(_tree(path)) if isinstance(node, ast.Constant)]
    return {value for value in constants if isinstance(value, str)}


@cache
def _content(path: Path) -> bytes:
    """A file's content: of Python code the syntax tree, and with a package the data in its folder."""
    if path.suffix != ".py":
        return path.read_bytes()
    beside = path.parent.rglob("*.*") if path.name == "__init__.py" else ()
    data = sorted(one for one in beside if one.suffix not in (".py", ".pyc") and one.is_file())
    return b"".join([ast.dump(_tree(path)).encode(), *(one.read_bytes() for one in data)])
