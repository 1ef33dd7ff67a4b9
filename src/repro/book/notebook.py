"""Notebooks as percent scripts: executed through a strict papermill wrapper, and turned into .ipynb files for Colab.

papermill by itself only warns about a misspelt parameter and drops parameters where no cell is tagged for them; here
both raise, and so does a value of another type than the default's.
"""

import ast
import contextlib
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from pydantic import ConfigDict, TypeAdapter, ValidationError

from repro.book import setup_cell
from repro.errors import ReproError

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
SETUP = """\
# @title Set up: install the package where it is missing
{code}

# Tick to keep records and checkpoints in Google Drive, from which a later session goes on.
in_drive = False  # @param {{"type": "boolean"}}
set_up({requirement!r}, in_drive=in_drive)"""


class NotebookError(ReproError):
    """A notebook that cannot be read, parametrized, executed or written."""


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
    return notebook


def parameters(source: Path) -> dict[str, Any]:
    """The parameters of a percent script: the type of each by its name, as annotated or else that of its default.

    Raises:
        NotebookError: not exactly one cell is tagged `parameters`, or that cell holds anything but assignments of
            literals to names (a value computed there would not follow a parameter that is set from outside).
    """
    tagged = [cell.source for cell in read(source).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise NotebookError(
            f"{source}: {len(tagged)} cells are tagged 'parameters', exactly one must be: write '# %% "
            'tags=["parameters"]\' above it'
        )
    try:
        statements = ast.parse(tagged[0]).body
    except SyntaxError as error:
        raise NotebookError(f"{source}: the parameters cell is not valid Python ({error})") from error
    kinds = {}
    for statement in statements:
        try:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    kinds[name] = type(ast.literal_eval(value))
                case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=ast.expr() as value):
                    ast.literal_eval(value)
                    kinds[name] = eval(ast.unparse(kind), {})
                case _:
                    raise ValueError
        except (ValueError, NameError, TypeError):
            raise NotebookError(
                f"{source}: the parameters cell may only assign literals to names, got {ast.unparse(statement)!r}; "
                "derive values in the next cell"
            ) from None
    return kinds


def check(source: Path, values: Mapping[str, Any]) -> None:
    """Raise a NotebookError unless a script has a parameter for every value, of the value's type."""
    kinds = parameters(source)
    for name, value in values.items():
        if name not in kinds:
            raise NotebookError(f"{source}: no parameter called {name!r} (known: {', '.join(kinds) or 'none'})")
        kind = kinds[name]
        try:
            TypeAdapter(kind, config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError:
            words = kind.__name__ if isinstance(kind, type) else kind
            message = f"parameter {name} must be {words}, got {value!r} ({type(value).__name__})"
            raise NotebookError(f"{source}: {message}") from None


def execute(source: Path, output: Path, values: Mapping[str, Any]) -> Path:
    """Execute a percent script with the given parameters and write the executed notebook.

    The output appears only when every cell has run; what was there before stays otherwise.

    Args:
        source: a percent .py file with exactly one cell tagged `parameters`.
        output: the .ipynb file to write; its folder is made.
        values: values for names that the parameters cell assigns, of the types it gives them.

    Returns:
        `output`.

    Raises:
        NotebookError: a missing tag, an unknown parameter, a value of the wrong type, a cell that failed (the message
            names file, cell and exception), or an output that cannot be written.
    """
    check(source, values)
    try:
        executed = papermill.execute_notebook(
            read(source),
            None,
            dict(values),
            kernel_name=KERNEL["name"],
            cwd=Path(source).parent,
            progress_bar=False,
            # A new kernel warns that it talks over local TCP; its errors are still shown.
            extra_arguments=["--IPKernelApp.log_level=40"],
        )
    except PapermillExecutionError as error:
        first = next((line for line in error.source.splitlines() if line.strip()), "")
        where = f"{source}: cell {error.cell_index} ({first!r})"
        raise NotebookError(f"{where} failed with {error.ename}: {error.evalue}") from error
    # papermill's notes of times differ from one execution to the next.
    for noted in (executed, *executed.cells):
        for note in ("papermill", "execution"):
            noted.metadata.pop(note, None)
    return _write(Path(output), executed)


def make_ipynb(source: Path, output: Path, requirement: str) -> Path:
    """Make the .ipynb of a percent script, for Jupyter and Colab: no outputs, and a cell that installs the package.

    Args:
        source: a percent .py file that begins with its title.
        output: the .ipynb file to write; its folder is made.
        requirement: what pip installs the package from where it is missing.

    Returns:
        `output`.

    Raises:
        NotebookError: the source cannot be read or the output cannot be written.
    """
    return _put(Path(output), blank(source, requirement))


def blank(source: Path, requirement: str) -> str:
    """The content of the .ipynb that `make_ipynb` writes."""
    notebook = read(source)
    # Colab and JupyterLab fold it away.
    folded = {"cellView": "form", "jupyter": {"source_hidden": True}}
    notebook.cells.insert(1, nbformat.v4.new_code_cell(setup(requirement), metadata=folded))
    return _written(notebook)


def setup(requirement: str) -> str:
    """The code of the cell that installs the package from `requirement`: `repro.book.setup_cell` and a call."""
    code = inspect.getsource(setup_cell).replace(f'"""{setup_cell.__doc__}"""', "").strip()
    return SETUP.format(code=code, requirement=requirement)


def _write(path: Path, notebook: NotebookNode) -> Path:
    return _put(path, _written(notebook))


def _written(notebook: NotebookNode) -> str:
    # nbformat draws random ids; numbering them gives the same file for the same cells.
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return nbformat.writes(notebook) + "\n"


def _put(path: Path, text: str) -> Path:
    """Write a file so that a reader sees the old one or the whole new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise NotebookError(f"{path}: cannot write it ({error.strerror}); free space or change permissions") from error
    return path
