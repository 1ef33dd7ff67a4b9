"""The practitioner's page names every field, preset and metric."""

import dataclasses
import re

import pytest
from trl import GRPOConfig

from repro import paths
from repro.trainer import PRESETS, CovGRPOConfig

from .conftest import history

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


def test_page_has_every_field_and_its_default(settings):
    page = PAGE.read_text()
    ours = {field.name for field in dataclasses.fields(CovGRPOConfig)} - {
        f.name for f in dataclasses.fields(GRPOConfig)
    }
    rows = dict(reversed(re.findall(r"^\| `(\w+)`(?:, `\w+`)* \| (.+?) \|", page, flags=re.M)))
    assert ours <= named_in(page)
    config = CovGRPOConfig(**settings)
    for name in ours - {"entropy_control_fraction", "clip_cov_low", "clip_cov_high"}:
        default = getattr(config, name)
        shown = rows[name].strip("`").strip('"')
        assert shown == str(default) or float(shown) == default, name


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


def test_page_has_every_metric(train):
    page = named_in(PAGE.read_text())
    logged = set(history(train(entropy_control="kl_cov", entropy_control_fraction=0.04, kl_cov_adaptive=True))[1])
    ours = {n for n in logged if n.split("/")[0] in ("covariance", "ratio", "selected", "penalty", "kl_cov")}
    ours |= {"entropy/token_mean", "entropy/response_mean"}
    assert len(ours) == 23
    assert {name for name in ours if name not in page and not name.startswith("covariance/top_")} == set()


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
