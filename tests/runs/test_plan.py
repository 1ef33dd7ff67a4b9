"""What `repro reproduce --dry-run` says: hours come from records of the same kind, or are not said."""

import json
from pathlib import Path
from statistics import median

import pytest

from repro import paths
from repro.runs import RunConfig, plan, throughput
from repro.runs.record import Found
from repro.runs.throughput import Pace, Record, Work, pace

# 40 steps of 64 prompts with 8 samples, 4 micro-batches: 40 * 512 / 4 completions; evaluations at steps 0, 20 and 40,
# of 10 problems: (2 + 1) + (2 + 1) + (4 + 1) each.
CONFIG = RunConfig(max_steps=40, eval_steps=20, eval_prompts=10, eval_samples=2, eval_samples_last=4)
WORK = Work(5120, 110)


OTHER = Pace(steps_per_generation=8, gradient_accumulation_steps=1, probe_every=0)


def record(
    pace: Pace = OTHER, device: str = "cpu", training: float = 512.0, task: str = "arithmetic", work: Work = WORK
) -> Record:
    return Record("s", task, pace, device, f"a {device}", work, training, 11.0)


def test_the_work_of_a_run():
    assert throughput.work(CONFIG) == WORK


def test_a_rate_is_of_the_same_base_task_and_device():
    known = [record(), record(task="arithmetic_hard", training=1.0), record(device="cuda", training=1.0)]
    twice = CONFIG.replace(max_steps=80, eval_steps=40)
    found = throughput.estimate(twice, "cpu", known)
    assert (found.seconds, found.device_name, found.records) == (pytest.approx(2 * 512 + 11), "a cpu", 1)
    assert throughput.estimate(CONFIG.replace(base="m"), "cpu", known) is None
    assert throughput.estimate(CONFIG.replace(task="countdown"), "cpu", known) is None


def test_records_of_the_runs_pace_alone_count_where_there_are_some():
    known = [record(pace(CONFIG), training=1000.0), record(pace(CONFIG), training=3000.0), record(training=9e9)]
    assert throughput.estimate(CONFIG, "cpu", known).seconds == pytest.approx(2000 + 11)
    assert throughput.estimate(CONFIG.replace(probe_every=1), "cpu", known).records == 3


def test_a_record_that_other_work_slowed_down_does_not_count_for_more():
    half = Work(WORK.trained // 2, WORK.evaluated)
    known = [record(training=512.0), record(training=500.0), record(training=9e9, work=half)]
    assert throughput.estimate(CONFIG, "cpu", known).seconds == pytest.approx(512 + 11)


def test_the_repositorys_records_have_a_speed_and_others_are_passed_over(tmp_path):
    kept = [path.parent for path in sorted(paths.results_dir().glob("*/provenance.json"))]
    assert len(throughput.records([paths.results_dir()])) == len(kept) > 0
    for name, text in {"damaged": "{", "old": json.dumps({"device": "cpu"})}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "provenance.json").write_text(text)
        (tmp_path / name / "config.json").write_bytes((kept[0] / "config.json").read_bytes())
    assert throughput.records([tmp_path]) == []


def test_half_of_the_records_took_longer_than_they_are_estimated_to():
    folders = sorted(path.parent for path in paths.results_dir().glob("*/provenance.json"))
    known = throughput.records([paths.results_dir()])
    took = [json.loads((folder / "provenance.json").read_text())["seconds"] for folder in folders]
    configs = [RunConfig.from_dict(json.loads((folder / "config.json").read_text())) for folder in folders]
    said = [throughput.estimate(config, "cpu", known).seconds for config in configs]
    assert median(one / other for one, other in zip(took, said, strict=True)) == pytest.approx(1, rel=0.05)


def found(config: RunConfig, status: str) -> tuple[RunConfig, Found]:
    return config, Found(status, Path("runs") / config.folder)


def test_a_row_for_each_arm_and_base(build):
    one, other = CONFIG, CONFIG.replace(arm="again")
    unmeasured = CONFIG.replace(arm="bigger", base="m")
    runs = [
        found(one, "current"),
        found(one.replace(seed=1), "stale"),
        # The same run under another label.
        found(other.replace(seed=1), "stale"),
        found(unmeasured, "missing"),
    ]
    rows, below = plan.table(runs, "cpu", [record(training=3600.0 - 11.0)])
    assert rows == [
        plan.HEAD,
        ("grpo", "s", "arithmetic", "1", "1", "cpu", "1"),
        ("again", "s", "arithmetic", "0", "0 (+1 of another arm)", "cpu", ""),
        ("bigger", "m", "arithmetic", "0", "1", "cpu", "no record of this kind on this device"),
    ]
    assert below == [
        "2 of 4 runs to train",
        "about 1 core hours, by the rates of records made on a cpu",
        "1 runs are of a kind that no record on cpu has, and are not in the hours",
    ]
    assert plan.table(runs, "cuda", [record()])[1][1:] == [
        "2 runs are of a kind that no record on cuda has, and are not in the hours"
    ]


@pytest.mark.parametrize(
    ("seconds", "hours"),
    [(200.0, "0.056"), (11_900.0, "3.3"), (3600.0 * 42, "42"), (3600.0 * 99.7, "100"), (3600.0 * 1234, "1234")],
)
def test_hours_have_two_digits_that_count(build, seconds, hours):
    runs = [found(CONFIG, "missing")]
    known = [record(training=seconds - 11.0)]
    assert plan.table(runs, "cpu", known)[0][1][-1] == hours
    assert plan.table(runs, "cpu", known)[1][1].startswith(f"about {hours} core hours, by")
