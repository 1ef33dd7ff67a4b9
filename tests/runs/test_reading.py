"""Records are read by others' tools as the page on models says: its code is run where the tool is installed."""

import re

import pytest

from repro import paths

PAGE = (paths.root() / "book" / "models.md").read_text(encoding="utf-8")
CODE = {re.search(r"import (\w+)", code).group(1): code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)}


@pytest.mark.study
@pytest.mark.parametrize("tool", ["pandas", "polars", "duckdb"])
def test_the_pages_code_reads_every_record(tool):
    pytest.importorskip(tool)
    found = {}
    exec(CODE[tool], found)
    table = found["ends"] if tool == "pandas" else found["best"]
    assert len(table) == len(list(paths.results_dir().glob("*/metrics.parquet"))) > 100
