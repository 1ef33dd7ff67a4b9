"""The practitioner's page names every field, preset and metric."""

import dataclasses
import re

import pytest
from trl import GRPOConfig

from repro import paths
from repro.trainer import PRESETS, CovGRPOConfig, docs, filter_groups, monitor
from repro.trainer.methods import METHODS

from .conftest import FixedGRPOTrainer, history

PAGE = paths.root() / "book" / "trainer.md"


def named_in(page: str) -> set[str]:
    """All names in backticks; a name that begins with ``_`` ends the one before it in another way."""
    names: set[str] = set()
    for row in page.splitlines():
        whole = re.findall(r"`([^`]+)`", row)
        names.update(whole)
        names.update(
            first[: first.rindex("_below")] + suffix
            for first in whole
            if "_below" in first
            for suffix in whole
            if suffix.startswith("_")
        )
    return names


def test_tables_are_what_the_code_says():
    page = docs.page().read_text()
    assert set(re.findall(r"<!-- table (\w+) -->", page)) == set(docs.TABLES)
    assert docs.written(page) == page, "the code has changed: python -m repro.trainer.docs"


def test_a_changed_table_is_mended():
    page = docs.page().read_text()
    assert docs.written(page.replace("| `kl_cov_coef` | `1.0` |", "| `kl_cov_coef` | `2.0` |")) == page


def test_every_field_has_a_row():
    rows = re.findall(r"^\| `(\w+)` \|", docs.fields(), flags=re.M)
    assert sorted(rows) == sorted(
        {field.name for field in dataclasses.fields(CovGRPOConfig)} - {f.name for f in dataclasses.fields(GRPOConfig)}
    )


def test_page_has_every_preset(settings):
    page = PAGE.read_text()
    few = {key: settings[key] for key in ("output_dir", "use_cpu", "bf16", "report_to", "gradient_checkpointing")}
    for name in PRESETS:
        row = next(line for line in page.splitlines() if line.startswith("|") and f"`{name}`" in line)
        names, rates, method, ratio = (cell.strip() for cell in row.strip("|").split("|"))
        config = CovGRPOConfig.preset(name, per_device_train_batch_size=32, gradient_accumulation_steps=8, **few)
        place = re.findall(r"`([^`]+)`", names).index(name)
        assert float(rates.split(", ")[place]) == config.learning_rate
        low, high = config.clip_range
        assert ratio == ("no clip" if high == float("inf") else f"$[{1 - low:g}, {1 + high:g}]$")
        assert method.startswith({"none": "none", "clip_cov": "Clip-Cov", "kl_cov": "KL-Cov"}[config.entropy_control])
        if config.entropy_control != "none":
            assert f"fraction {config.entropy_control_fraction}" in method


def test_declared_metrics_are_the_logged_ones(train):
    """KL-Cov with its controller and filtered groups logs everything that is declared, and nothing else of ours."""
    run = {
        "entropy_control": "kl_cov",
        "entropy_control_fraction": 0.04,
        "kl_cov_adaptive": True,
        "entropy_control_budget": "gradient",
        "filter_groups": True,
    }
    logs = history(train(**run))
    logged = {name for entry in logs for name in entry}
    plain = {name for entry in history(train(FixedGRPOTrainer, GRPOConfig)) for name in entry}
    declared = {name for names in monitor.METRICS | filter_groups.METRICS for name in names}
    declared |= {name for method in METHODS.values() for name in method.logs}
    assert logged - plain == declared and len(declared) == 30
    assert declared == set(re.findall(r"`(\w+/[\w.]+)`", docs.metrics() + docs.filtering()))


def test_from_grpo_names_fields_and_metrics_that_are_there(train):
    page = named_in((paths.root() / "book" / "from_grpo.md").read_text())
    logged = set(history(train(entropy_control="kl_cov", entropy_control_fraction=0.04))[1])
    metrics = {name for name in page if "/" in name and not re.search(r"CHECKPOINT|\.py|::", name)}
    assert len(metrics) == 10 and metrics <= logged
    fields = {field.name for field in dataclasses.fields(CovGRPOConfig)}
    assert {name.partition("=")[0] for name in page if re.fullmatch(r"\w+=.*", name)} <= fields


@pytest.mark.parametrize(
    "schedule",
    [
        {"steps_per_generation": 8 * 2, "gradient_accumulation_steps": 2},
        {"num_iterations": 2},
        {"generation_batch_size": 2048, "per_device_train_batch_size": 32, "gradient_accumulation_steps": 8},
    ],
)
def test_from_grpo_has_schedules_that_act(settings, schedule):
    few = {key: settings[key] for key in ("output_dir", "use_cpu", "bf16", "report_to", "gradient_checkpointing")}
    config = CovGRPOConfig(entropy_control="kl_cov", num_generations=8, **(few | schedule))
    updates = config.updates_from // config.gradient_accumulation_steps
    assert updates == (2 if "num_iterations" in schedule else 8)
