"""The strict wrapper around papermill, the .ipynb for Colab, and the notebooks themselves."""

import ast
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure

from repro import paths
from repro.book import display, notebook
from repro.book.notebook import NotebookError

NOTEBOOKS = sorted((paths.root() / "notebooks").glob("*.py"))
PARAMETERS = '# %% tags=["parameters"]\n'


@pytest.fixture
def script(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "note.py"
        path.write_text(text)
        return path

    return write


# Parameters.


def test_parameters_are_read_with_their_types(script):
    source = script(PARAMETERS + 'name = "a"\nrate: float = 0.5\nseeds: list[int] | None = None\n')
    assert notebook.parameters(source) == {"name": str, "rate": float, "seeds": list[int] | None}


@pytest.mark.parametrize("tagged", ["# %%\nx = 1\n", PARAMETERS + "x = 1\n\n" + PARAMETERS + "y = 1\n"])
def test_exactly_one_cell_must_be_tagged(script, tmp_path, tagged):
    with pytest.raises(NotebookError, match=r"note\.py: [02] cells are tagged 'parameters', exactly one must be"):
        notebook.execute(script(tagged), tmp_path / "out.ipynb", {})


@pytest.mark.parametrize("line", ["x = y", "x = 1 + f()", "x += 1", "x, y = 1, 2", "print(1)", "x: int", "import os"])
def test_the_parameters_cell_holds_literals_only(script, line):
    with pytest.raises(NotebookError, match="may only assign literals to names"):
        notebook.parameters(script(PARAMETERS + line + "\n"))


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("x = 1", "1"),
        ("x = 1", True),
        ("x = 1", 1.0),
        ("x = True", 1),
        ("x = 'a'", None),
        ("x: list[int] | None = None", "3"),
        ("x: list[int] | None = None", [1, "2"]),
        ("x: list[int] | None = None", [True]),
        ("x: dict[str, float] = {}", {"a": "b"}),
    ],
)
def test_values_of_another_type_are_refused(script, tmp_path, cell, value):
    with pytest.raises(NotebookError, match=r"parameter x must be .*, got "):
        notebook.execute(script(f"{PARAMETERS}{cell}\n"), tmp_path / "out.ipynb", {"x": value})


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("x = 0.5", 1),
        ("x: list[int] | None = None", [1, 2]),
        ("x: list[int] | None = [1]", None),
        ("x: dict[str, float] = {}", {"a": 1}),
    ],
)
def test_values_of_the_stated_type_are_accepted(script, cell, value):
    notebook.check(script(f"{PARAMETERS}{cell}\n"), {"x": value})


def test_unknown_parameters_name_the_known_ones(script, tmp_path):
    source = script(PARAMETERS + "profile = 'cpu'\nseeds = [0]\n")
    with pytest.raises(NotebookError, match=r"no parameter called 'porfile' \(known: profile, seeds\)"):
        notebook.execute(source, tmp_path / "out.ipynb", {"porfile": "smoke"})
    assert not (tmp_path / "out.ipynb").exists()


# Execution.


def test_execution_sets_parameters_and_writes_the_whole_notebook(script, tmp_path):
    source = script(f"# %% [markdown]\n# # Title\n\n{PARAMETERS}x = 1\ny = 2\n\n# %%\nprint(10 * x + y)\n")
    output = notebook.execute(source, tmp_path / "deep" / "out.ipynb", {"x": 4})
    executed = nbformat.read(output, as_version=4)
    nbformat.validate(executed)
    assert executed.cells[-1].outputs[0].text == "42\n"
    assert "papermill" not in executed.metadata
    assert [one.name for one in output.parent.iterdir()] == ["out.ipynb"]
    first = output.read_bytes()
    assert notebook.execute(source, output, {"x": 4}).read_bytes() == first


def test_a_failing_cell_is_named_and_the_old_output_stays(script, tmp_path):
    output = tmp_path / "out.ipynb"
    output.write_text("old")
    source = script(PARAMETERS + "x = 1\n\n# %%\n\n1 / 0\n")
    with pytest.raises(NotebookError, match=r"note\.py: cell \d+ \('1 / 0'\) failed with ZeroDivisionError: division"):
        notebook.execute(source, output, {})
    assert output.read_text() == "old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["note.py", "out.ipynb"]


def test_a_missing_script_is_named(tmp_path):
    with pytest.raises(NotebookError, match=r"none\.py: cannot read the notebook"):
        notebook.execute(tmp_path / "none.py", tmp_path / "out.ipynb", {})


def test_an_output_that_cannot_be_written_leaves_nothing(script, tmp_path):
    (tmp_path / "folder").write_text("in the way")
    with pytest.raises(NotebookError, match=r"out\.ipynb: cannot write it"):
        notebook.make_ipynb(script("# %% [markdown]\n# # Title\n"), tmp_path / "folder" / "out.ipynb", "a.whl")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "note.py"]


# The .ipynb for Jupyter and Colab.


def test_the_ipynb_is_the_script_with_an_installation(script, tmp_path):
    source = script(f"# %% [markdown]\n# # Title\n\n{PARAMETERS}x = 1\n")
    made = notebook.make_ipynb(source, tmp_path / "note.ipynb", "https://example.org/a.whl")
    title, installation, parameters = nbformat.read(made, as_version=4).cells
    assert (title.source, parameters.source) == ("# Title", "x = 1")
    assert installation.source == notebook.setup("https://example.org/a.whl")
    assert installation.source.endswith("\nset_up('https://example.org/a.whl', in_drive=in_drive)")
    first = made.read_bytes()
    assert notebook.make_ipynb(source, made, "https://example.org/a.whl").read_bytes() == first


# What notebooks show.


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as (data by MIME type, metadata)."""
    outputs = []
    monkeypatch.setattr(display, "display", lambda data, raw, metadata=None: outputs.append((data, metadata)))
    return outputs


def test_glued_values_carry_their_names_where_the_book_looks_for_them(shown):
    display.glue(share=0.5, verdict="partly", n=3)
    prefix = "application/papermill.record/"
    assert {metadata["scrapbook"]["name"]: data for data, metadata in shown} == {
        "share": {f"{prefix}text/plain": "0.5"},
        "verdict": {f"{prefix}text/plain": "'partly'"},
        "n": {f"{prefix}text/plain": "3"},
    }
    assert {metadata["scrapbook"]["mime_prefix"] for _, metadata in shown} == {prefix}


@pytest.mark.parametrize("value", [pd.Series([0.5]).iloc[0], float("nan"), float("-inf"), None, True, [1]])
def test_other_values_cannot_be_glued(value):
    with pytest.raises(TypeError, match="share must be a finite float, an int or a str"):
        display.glue(share=value)


def test_figures_are_shown_as_svg_with_their_caption(shown):
    display.show(Figure(), some_caption="What it shows.")
    (_, caption), (figure, _) = shown
    assert caption["scrapbook"]["name"] == "some_caption"
    assert figure["image/svg+xml"].startswith("<?xml")
    assert "<dc:date>" not in figure["image/svg+xml"]
    assert figure["text/plain"] == "What it shows."


def test_tables_are_shown_in_full(shown):
    long = "x" * 200
    display.table(pd.DataFrame({"a": [long], "b": ["<b>"]}), css="facts")
    [(data, _)] = shown
    assert long in data["text/html"]
    assert "&lt;b&gt;" in data["text/html"]
    assert 'class="dataframe facts"' in data["text/html"]


# The notebooks of the study.


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_house_rules(source):
    cells = notebook.read(source).cells
    assert len(cells) <= 25
    assert {"profile", "seeds"} <= set(notebook.parameters(source))
    for cell in cells:
        if cell.cell_type == "code":
            imported = [
                node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Import | ast.ImportFrom)
            ]
            for node in imported:
                names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                assert all(name.split(".")[0] == "repro" for name in names), "notebooks call into repro only"
    assert any("assert " in cell.source for cell in cells)
