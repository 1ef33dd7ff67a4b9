"""A fingerprint of the code that decides a run's result.

It is taken over the syntax trees of ``repro.runs.training`` and of every module of this package that it imports,
directly or not, by an import statement or by an entry of a registry (``"repro.tasks.arithmetic:HARD"``).
Comments, docstrings, layout, the order of files and the Python version leave it as it is.
"""

import ast
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "repro"
START = ("repro.runs.training", "repro.runs.config")
# Where files are, how errors read and how records are stored do not change what a run computes.
NO_EFFECT = frozenset({"repro", "repro.errors", "repro.paths", "repro.runs"})
# Context is implied by position; the others hold comments and spelling.
IGNORED_FIELDS = frozenset({"ctx", "kind", "type_comment"})
# A module and what it calls its object, as registries have them.
ENTRY = re.compile(r"[a-z_][\w.]*:[A-Za-z_]\w*")


@cache
def code_fingerprint() -> str:
    """16 hexadecimal digits for the code of this process, read once."""
    return fingerprint(Path(__file__).resolve().parents[1])


def fingerprint(package: Path) -> str:
    """16 hexadecimal digits for the training code of the package in a folder.

    Raises:
        OSError, SyntaxError: when a module cannot be read or parsed.
    """
    trees = training_modules(package)
    text = json.dumps([[module, _plain(trees[module])] for module in sorted(trees)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def training_modules(package: Path) -> dict[str, ast.Module]:
    """Names and syntax trees of the modules that the fingerprint is taken over."""
    trees: dict[str, ast.Module] = {}
    waiting = list(START)
    while waiting:
        module = waiting.pop()
        if module in trees or module in NO_EFFECT:
            continue
        path = _module_path(package, module)
        trees[module] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        waiting += _imported(package, module, path, trees[module])
    return trees


def _module_path(package: Path, module: str) -> Path | None:
    location = package.joinpath(*module.split(".")[1:])
    for path in (location.with_suffix(".py"), location / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imported(package: Path, module: str, path: Path, tree: ast.Module) -> Iterator[str]:
    """Modules of the package that a module's import statements and registries name, wherever in it they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                here = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                source = ".".join([*here[: len(here) - node.level + 1], *source.split(".")]).rstrip(".")
            names = [
                name if _module_path(package, name := f"{source}.{alias.name}") else source for alias in node.names
            ]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ENTRY.fullmatch(node.value):
            names = [node.value.partition(":")[0]]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == PACKAGE and _module_path(package, name))


def _plain(node: Any) -> Any:
    """A syntax tree as nested lists: no positions, no docstrings, no empty fields (which differ between Pythons)."""
    if isinstance(node, ast.Constant):
        return ["Constant", type(node.value).__name__, ascii(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", *_joined(node.values)]
    if isinstance(node, ast.AST):
        values = ((name, getattr(node, name, None)) for name in node._fields if name not in IGNORED_FIELDS)
        return [type(node).__name__, *([name, _plain(value)] for name, value in values if value not in (None, []))]
    if isinstance(node, list):
        return [_plain(item) for item in node if not _is_string_statement(item)]
    return ascii(node)


def _joined(parts: list[ast.expr]) -> Iterator[Any]:
    """The parts of an f-string, its neighbouring texts made one: Pythons cut them in different places."""
    for is_text, group in itertools.groupby(parts, lambda part: isinstance(part, ast.Constant)):
        if not is_text:
            yield from map(_plain, group)
        elif text := "".join(part.value for part in group):
            yield ["Constant", "str", ascii(text)]


def _is_string_statement(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
