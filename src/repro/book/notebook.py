"""Notebooks as percent scripts: executed through a strict papermill wrapper, and turned into .ipynb files for Colab.

papermill by itself only warns about a misspelt parameter and drops parameters where no cell is tagged for them; here
both raise, and so does a value of another type than the default's.
"""

import ast
import contextlib
import os
import subprocess
import tempfile
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from repro import paths
from repro.errors import ReproError

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
STAMP = "REPOSITORY_URL"


class NotebookError(ReproError):
    """A notebook that cannot be read, parametrized, executed or written."""


@dataclass(frozen=True)
class Parameter:
    """One name of the parameters cell: its default, and its annotation if it has one."""

    name: str
    default: Any
    annotation: Any = None

    @property
    def allowed(self) -> str:
        """The type that a value must have, in words."""
        if self.annotation is None:
            return type(self.default).__name__
        return self.annotation.__name__ if isinstance(self.annotation, type) else str(self.annotation)

    def accepts(self, value: Any) -> bool:
        """Whether `value` has the annotated type or, without annotation, that of the default."""
        return _matches(value, type(self.default) if self.annotation is None else self.annotation)


def _matches(value: Any, kind: Any) -> bool:
    """Whether a value is of a type written with builtins: `int`, `str | None`, `list[int]`, `dict[str, float]`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return any(_matches(value, one) for one in arguments)
    if origin is list:
        return type(value) is list and all(_matches(one, arguments[0]) for one in value)
    if origin is dict:
        return type(value) is dict and all(
            _matches(key, arguments[0]) and _matches(one, arguments[1]) for key, one in value.items()
        )
    # bool is a subclass of int, and a whole number is a fine float.
    return type(value) is kind or (kind is float and type(value) is int)


def read(source: Path) -> NotebookNode:
    """Read a percent script as a notebook.

    Raises:
        NotebookError: the file is missing or not Python text.
    """
    try:
        notebook = jupytext.reads(Path(source).read_text(encoding="utf-8"), fmt="py:percent")
    except (OSError, UnicodeDecodeError) as error:
        raise NotebookError(f"{source}: cannot read the notebook ({error})") from error
    notebook.metadata = NotebookNode(kernelspec=NotebookNode(KERNEL), language_info=NotebookNode(name="python"))
    # nbformat draws random ids; numbering them gives the same file for the same script.
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return notebook


def parameters(source: Path) -> dict[str, Parameter]:
    """The parameters of a percent script, by name.

    Raises:
        NotebookError: not exactly one cell is tagged `parameters`, or that cell holds anything but assignments of
            literals to names (a value computed there would not follow a parameter that is set from outside).
    """
    return _parameters(source, read(source))


def _parameters(source: Path, notebook: NotebookNode) -> dict[str, Parameter]:
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise NotebookError(
            f"{source}: {len(tagged)} cells are tagged 'parameters', exactly one must be: write '# %% "
            'tags=["parameters"]\' above it'
        )
    found = {}
    try:
        statements = ast.parse(tagged[0].source).body
    except SyntaxError as error:
        raise NotebookError(f"{source}: the parameters cell is not valid Python ({error})") from error
    for statement in statements:
        try:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    found[name] = Parameter(name, ast.literal_eval(value))
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
                    kind = eval(compile(ast.Expression(annotation), str(source), "eval"), {})
                    found[name] = Parameter(name, ast.literal_eval(value), kind)
                case _:
                    raise ValueError
        except (ValueError, NameError, TypeError):
            raise NotebookError(
                f"{source}: the parameters cell may only assign literals to names, got {ast.unparse(statement)!r}; "
                "derive values in the next cell"
            ) from None
    return found


def _check(source: Path, known: Mapping[str, Parameter], given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name not in known:
            raise NotebookError(f"{source}: no parameter called {name!r} (known: {', '.join(known) or 'none'})")
        if not known[name].accepts(value):
            raise NotebookError(
                f"{source}: parameter {name} must be {known[name].allowed}, got {value!r} ({type(value).__name__})"
            )


def execute(source: Path, output: Path, parameters: Mapping[str, Any]) -> Path:
    """Execute a percent script with the given parameters and write the executed notebook.

    The output appears only when every cell has run; what was there before stays otherwise.

    Args:
        source: a percent .py file with exactly one cell tagged `parameters`.
        output: the .ipynb file to write; its folder is made.
        parameters: values for names that the parameters cell assigns, of the types it gives them.

    Returns:
        `output`.

    Raises:
        NotebookError: a missing tag, an unknown parameter, a value of the wrong type, a cell that failed (the message
            names file, cell and exception), or an output that cannot be written.
    """
    source, output = Path(source), Path(output)
    notebook = read(source)
    _check(source, _parameters(source, notebook), parameters)
    with tempfile.TemporaryDirectory() as folder:
        draft, result = Path(folder, source.stem + ".ipynb"), Path(folder, source.stem + ".out.ipynb")
        nbformat.write(notebook, draft)
        try:
            papermill.execute_notebook(
                draft,
                result,
                dict(parameters),
                kernel_name=KERNEL["name"],
                cwd=source.parent,
                progress_bar=False,
                log_output=False,
                # A new kernel warns that it talks over local TCP; its errors are still shown.
                extra_arguments=["--IPKernelApp.log_level=40"],
            )
        except PapermillExecutionError as error:
            first = next((line for line in error.source.splitlines() if line.strip()), "")
            raise NotebookError(
                f"{source}: cell {error.cell_index} ({first!r}) failed with {error.ename}: {error.evalue}"
            ) from error
        executed = nbformat.read(result, as_version=4)
    _strip(executed)
    write_atomically(output, nbformat.writes(executed) + "\n")
    return output


def _strip(notebook: NotebookNode) -> None:
    """Drop papermill's notes of times and of temporary paths, which differ from one execution to the next."""
    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for note in ("papermill", "execution"):
            cell.metadata.pop(note, None)


def make_ipynb(source: Path, output: Path, repo_url: str | None = None) -> Path:
    """Make the .ipynb of a percent script, for Jupyter and Colab; it holds no outputs.

    Args:
        source: a percent .py file. If it assigns the name `REPOSITORY_URL`, that line receives the address.
        output: the .ipynb file to write; its folder is made.
        repo_url: address that pip can install the package from; that of the checkout's remote `origin` if None, and
            without a remote the line stays as it is.

    Returns:
        `output`.

    Raises:
        NotebookError: the source cannot be read or the output cannot be written.
    """
    notebook = read(source)
    url = _origin() if repo_url is None else repo_url
    if url:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                lines = [
                    f"{STAMP} = {url!r}" if line.startswith(f"{STAMP} = ") else line
                    for line in cell.source.splitlines()
                ]
                cell.source = "\n".join(lines)
    write_atomically(Path(output), nbformat.writes(notebook) + "\n")
    return Path(output)


def is_pair(source: Path, notebook: Path) -> bool:
    """Whether an .ipynb has the cells of a percent script: compared by content, times of change mean nothing.

    The stamped line is left out of the comparison.

    Raises:
        NotebookError: the script cannot be read, or the notebook is there but is none.
    """

    def cells(one: NotebookNode) -> list[tuple[str, list[str], list[str]]]:
        return [
            (
                cell.cell_type,
                list(cell.metadata.get("tags", [])),
                [line for line in cell.source.splitlines() if not line.startswith(f"{STAMP} = ")],
            )
            for cell in one.cells
        ]

    if not Path(notebook).exists():
        return False
    try:
        other = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise NotebookError(f"{notebook}: not a notebook ({error}); make it again with `make notebooks`") from error
    return cells(read(source)) == cells(other)


def _origin() -> str | None:
    """What pip installs the remote `origin` of this checkout by, or None outside a checkout or without a remote."""
    if paths.checkout() is None:
        return None
    answer = subprocess.run(
        ["git", "remote", "get-url", "origin"], cwd=paths.root(), capture_output=True, text=True, check=False
    )
    address = answer.stdout.strip()
    if answer.returncode or not address:
        return None
    if "://" not in address and ":" in address and not Path(address).exists():
        # git's short form user@host:path is no address to pip.
        address = "ssh://" + address.replace(":", "/", 1)
    return f"git+{address}" if "://" in address else address


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the whole new one.

    Raises:
        NotebookError: the file cannot be written, for instance because the disk is full; nothing is left behind.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise NotebookError(f"{path}: cannot write it ({error.strerror}); free space or change permissions") from error
