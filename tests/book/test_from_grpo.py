"""The column of our own numbers in the page for newcomers is what the committed records say."""

import re

import pandas as pd
import pytest

from repro import paths
from repro.runs import load
from repro.runs.profiles import load_profile

pytestmark = pytest.mark.study
FIRST = 100


@pytest.fixture(scope="module")
def metrics() -> pd.DataFrame:
    runs = [load(config, made=False) for config in load_profile("cpu").configs("kl_cov")]
    return pd.concat([run.metrics[run.metrics["step"] <= FIRST] for run in runs])


def test_numbers_of_the_first_hundred_steps_are_the_records(metrics):
    page = (paths.root() / "book" / "from_grpo.md").read_text(encoding="utf-8")
    assert f"steps 1 to {FIRST} (profile `cpu`, {(metrics['step'] == 1).sum()} seeds" in page
    rows = re.findall(r"^\| `([\w/.]+)` \|.*\| ([^|]*) \|$", page, re.MULTILINE)
    stated = {name: re.findall(r"\d+(?:\.\d+)?", text) for name, text in rows if text.strip()}
    assert len(stated) == 8
    for name, numbers in stated.items():
        found = [metrics[name].mean()]
        if len(numbers) == 2:
            found = [metrics.loc[metrics["step"] == step, name].mean() for step in (1, FIRST)]
        digits = [len(number.partition(".")[2]) for number in numbers]
        assert [f"{value:.{places}f}" for value, places in zip(found, digits, strict=True)] == numbers, name
