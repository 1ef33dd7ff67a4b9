"""The workflow on a copy of the repository whose training is instant: what runs, what does not, and what a crash costs.

The tests go through one build folder in order, each from the finished state that the one before it leaves.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BOTH = ["0", "1"]


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"waited a minute for {what}"
        time.sleep(0.05)


def text_of(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def runs(process: int) -> bool:
    """Whether a process is there and not merely waiting for its parent to notice its end."""
    state = text_of(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()[:1]
    return bool(state) and state != ["Z"]


def records(sandbox) -> dict[str, Path]:
    return {path.name.split("-seed")[1][0]: path for path in (sandbox.build / "runs").glob("t-seed*")}


def hanging(sandbox, name: str) -> subprocess.Popen:
    """A call that stands still in the middle of run 1, whose record is put aside under a name."""
    os.rename(records(sandbox)["1"], sandbox.control / name)
    (sandbox.control / "hang-1").touch()
    (sandbox.control / "process-1").unlink(missing_ok=True)
    process = sandbox.start("reproduce", "--profile", "tiny")
    wait_for((sandbox.control / "process-1").exists, "run 1 to reach its middle")
    return process


@pytest.fixture(scope="module")
def reproduced(sandbox):
    first = sandbox.repro("reproduce", "--profile", "tiny")
    assert first.returncode == 0, first.stderr
    assert sandbox.trainings() == BOTH
    assert (sandbox.build / "tiny" / "site" / "index.html").read_text() == "<p>['01_one.ipynb', '02_two.ipynb']</p>\n"
    assert "profile tiny: 2 runs (2 missing)" in first.stdout
    assert "step 12/24, entropy" in first.stdout
    return sandbox


def test_leaves_nothing_outside_build(reproduced):
    assert {path.name for path in reproduced.root.iterdir()} == {
        *("bases", "book", "build", "configs", "control", "notebooks", "pyproject.toml", "src", "workflow")
    }


def times(sandbox) -> dict[str, int]:
    """When each part of the book was made, and each receipt."""
    folder = sandbox.build / "tiny"
    parts = [*(folder / "notebooks").iterdir(), folder / "verdicts.json", folder / "site" / "index.html"]
    return {path.name: path.stat().st_mtime_ns for path in [*parts, *(sandbox.build / "receipts").iterdir()]}


def redone(sandbox, before: dict[str, int]) -> set[str]:
    """The parts that were made since."""
    return {name for name, time in times(sandbox).items() if before.get(name) != time}


@pytest.mark.parametrize(("command", "runs"), [("reproduce", "2 current"), ("book", "2 made here, 0 recorded in")])
def test_second_call_does_nothing(reproduced, command, runs):
    before = times(reproduced)
    started = time.monotonic()
    second = reproduced.repro(command, "--profile", "tiny")
    assert second.returncode == 0, second.stderr
    assert time.monotonic() - started < 30
    assert f"2 runs ({runs}" in second.stdout
    assert reproduced.trainings() == []
    assert redone(reproduced, before) == set()


def edited(sandbox, edits: dict[str, tuple[str, str]]) -> set[str]:
    """The parts that `repro book` makes again after edits of files, old text to new, which are then taken back."""
    before = times(sandbox)
    originals = {sandbox.root / name: (sandbox.root / name).read_text() for name in edits}
    for (path, text), (old, new) in zip(originals.items(), edits.values(), strict=True):
        assert old in text
        path.write_text(text.replace(old, new, 1))
    answer = sandbox.repro("book", "--profile", "tiny")
    assert answer.returncode == 0, answer.stderr
    for path, text in originals.items():
        path.write_text(text)
    assert sandbox.trainings() == []
    return redone(sandbox, before)


def test_an_edit_makes_again_what_it_changes(reproduced):
    """01_one shows claim 1, and 02_two nothing of the claims."""
    comment = ('"""', '# A comment.\n"""')
    comments = dict.fromkeys(["src/repro/cli.py", "src/repro/claims/words.py", "src/repro/runs/record.py"], comment)
    assert edited(reproduced, comments) == set()
    assert edited(reproduced, {"book/index.md": ("# Book", "# A book")}) == {"index.html"}
    second = {"notebooks/02_two.py": ("load\n", "load, status\n")}
    assert edited(reproduced, second) == {"02_two.ipynb", "index.html"}
    # This call takes the edit before it back too.
    ledger = {"configs/claims/01_collapse.yaml": ("Entropy collapses early", "Entropy falls early")}
    assert edited(reproduced, ledger) == {"01_one.ipynb", "02_two.ipynb", "verdicts.json", "index.html"}
    assert edited(reproduced, {}) == {"01_one.ipynb", "verdicts.json", "index.html"}


def test_verdicts_are_those_of_the_repositorys_records_where_they_are_checked(reproduced):
    """The stand-in's curves fall with a time constant of 5 and 6 steps of 24, so the claims come out undecided."""
    answer = reproduced.repro("verdicts", "--profile", "tiny")
    assert answer.returncode == 0 and "underpowered" in answer.stdout
    answer = reproduced.repro("verdicts", "--profile", "tiny", "--check")
    assert answer.returncode == 2
    assert re.fullmatch(r"error: run \S+ is not recorded in .*results; .*\n", answer.stderr)


def test_lost_receipt_costs_no_training(reproduced):
    next((reproduced.build / "receipts").iterdir()).unlink()
    answer = reproduced.repro("reproduce", "--profile", "tiny")
    assert answer.returncode == 0, answer.stderr
    assert "2 runs (2 current)" in answer.stdout
    assert reproduced.trainings() == []


def test_kill_in_the_middle_of_a_run_redoes_that_run_only(reproduced):
    found = records(reproduced)
    for path in found.values():
        os.rename(path, reproduced.control / path.name)
    (reproduced.control / "hang-1").touch()
    process = reproduced.start("reproduce", "--profile", "tiny")
    wait_for((reproduced.control / "process-1").exists, "run 1 to reach its middle")
    assert found["0"].exists(), "the runs of an arm are trained one after the other"
    assert (reproduced.build / "receipts" / f"grpo-{found['0'].name}.json").exists()
    os.kill(int((reproduced.control / "process-1").read_text()), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.splitlines()[-1].startswith("error: 1 of the jobs failed")
    assert "logs/tiny-train-grpo.log" in errors
    assert "step 10/24" in errors.partition("ends with:")[2]
    assert reproduced.trainings() == BOTH
    assert not found["1"].exists() and (reproduced.build / "runs" / ".partial" / found["1"].name).exists()

    (reproduced.control / "hang-1").unlink()
    again = reproduced.repro("reproduce", "--profile", "tiny")
    assert again.returncode == 0, again.stderr
    assert "2 runs (1 current, 1 missing)" in again.stdout
    assert reproduced.trainings() == ["1"]
    assert found["1"].exists() and list((reproduced.build / "runs" / ".partial").iterdir()) == []


def test_kill_of_everything_redoes_that_run_only(reproduced):
    process = hanging(reproduced, "killed")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (reproduced.control / "hang-1").unlink()
    assert reproduced.trainings() == ["1"]
    again = reproduced.repro("reproduce", "--profile", "tiny")
    assert again.returncode == 0, again.stderr
    assert reproduced.trainings() == ["1"]


def test_train_makes_the_runs_alone_and_stops_when_its_time_is_up(reproduced):
    """A run that hangs is stopped with everything else, and the one that was recorded before stays."""
    found = records(reproduced)
    os.rename(found["1"], reproduced.control / "limited")
    (reproduced.control / "hang-1").touch()
    (reproduced.control / "process-1").unlink()
    page = reproduced.build / "tiny" / "site" / "index.html"
    before = page.stat().st_mtime_ns
    short = reproduced.repro("train", "--profile", "tiny", "--minutes", "0.25")
    assert short.returncode == 0, short.stderr
    assert short.stdout.endswith("1 of 2 runs are recorded; call again to go on\n")
    started = reproduced.control / "process-1"
    assert not started.exists() or not runs(int(started.read_text()))
    started.touch()
    (reproduced.control / "hang-1").unlink()
    reproduced.trainings()
    whole = reproduced.repro("train", "--profile", "tiny")
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.endswith("2 of 2 runs are recorded\n")
    assert reproduced.trainings() == ["1"]
    assert page.stat().st_mtime_ns == before
    last = reproduced.repro("reproduce", "--profile", "tiny")
    assert last.returncode == 0 and reproduced.trainings() == []


def test_orphaned_run_is_waited_for(reproduced):
    """With Snakemake and its parent gone, the run that they started goes on; the next call takes its result."""
    process = hanging(reproduced, "orphaned")
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    for child in [process.pid, *map(int, children.stdout.split())]:
        os.kill(child, signal.SIGKILL)
    second = reproduced.start("reproduce", "--profile", "tiny")
    log = reproduced.build / "logs" / "tiny-train-grpo.log"
    wait_for(lambda: "trained by another process" in text_of(log), "the second call to find the lock")
    (reproduced.control / "hang-1").unlink()
    _, errors = second.communicate(timeout=60)
    process.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert reproduced.trainings() == ["1"]


def test_a_terminated_call_ends_what_it_started(reproduced):
    process = hanging(reproduced, "terminated")
    training = int((reproduced.control / "process-1").read_text())
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.endswith("interrupted; what is done is kept, call again to go on\n")
    assert not runs(training)
    (reproduced.control / "hang-1").unlink()
    again = reproduced.repro("reproduce", "--profile", "tiny")
    assert again.returncode == 0, again.stderr
    assert reproduced.trainings() == ["1", "1"]


def test_two_calls_at_once(reproduced):
    first = hanging(reproduced, "held")
    second = reproduced.repro("reproduce", "--profile", "tiny")
    assert second.returncode == 2
    assert second.stderr.startswith("error: another call is at work")
    assert f"process {first.pid}" in second.stderr
    (reproduced.control / "hang-1").unlink()
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
    reproduced.trainings()


def test_truncated_record_is_reported_kept_and_trained_again(reproduced):
    found = records(reproduced)
    table = found["0"] / "metrics.parquet"
    table.write_bytes(table.read_bytes()[:-10])
    answer = reproduced.repro("reproduce", "--profile", "tiny")
    assert answer.returncode == 0, answer.stderr
    assert f"run grpo-{found['0'].name} is damaged" in answer.stderr
    assert f"{table} was truncated or edited" in answer.stderr
    (kept,) = (reproduced.build / "runs" / ".damaged").iterdir()
    assert kept.name.startswith(found["0"].name) and (kept / "metrics.parquet").stat().st_size > 0
    assert reproduced.trainings() == ["0"]


def test_changed_training_code_trains_again_and_a_comment_does_not(reproduced):
    code = reproduced.root / "src" / "repro" / "runs" / "training.py"
    original = code.read_text()
    code.write_text(original + "\n# A comment.\n")
    answer = reproduced.repro("reproduce", "--profile", "tiny")
    assert answer.returncode == 0, answer.stderr
    assert "2 current" in answer.stdout and reproduced.trainings() == []
    code.write_text(original.replace("LEVEL = 0.9", "LEVEL = 0.8"))
    answer = reproduced.repro("reproduce", "--profile", "tiny")
    assert answer.returncode == 0, answer.stderr
    assert "2 stale" in answer.stdout and reproduced.trainings() == BOTH


def test_book_is_made_from_recorded_runs_and_reproduce_trains_them_here(reproduced):
    made, kept = reproduced.build / "runs", reproduced.root / "results"
    made.rename(kept)
    try:
        book = reproduced.repro("book", "--profile", "tiny")
        assert book.returncode == 0, book.stderr
        assert "2 runs (0 made here, 2 recorded in results/)" in book.stdout
        assert reproduced.trainings() == []
        # The notebook that shows the runs follows their records; the other has none.
        before = times(reproduced)
        trained = reproduced.repro("reproduce", "--profile", "tiny")
        assert trained.returncode == 0, trained.stderr
        assert "2 runs (2 missing)" in trained.stdout
        assert reproduced.trainings() == BOTH
        changed = {name for name in redone(reproduced, before) if not name.startswith("grpo")}
        assert changed == {"01_one.ipynb", "verdicts.json", "index.html"}
        again = reproduced.repro("book", "--profile", "tiny")
        assert "2 runs (2 made here, 0 recorded in results/)" in again.stdout
    finally:
        shutil.rmtree(kept)


def test_book_without_a_record_names_it_and_the_command_that_trains(reproduced):
    found = records(reproduced)
    hidden = found["1"].rename(reproduced.control / "hidden")
    before = times(reproduced)
    answer = reproduced.repro("book", "--profile", "tiny")
    hidden.rename(found["1"])
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith(
        f"error: the book of profile tiny needs 2 recorded runs, and 1 is missing (grpo-{found['1'].name});"
    )
    assert line.endswith("`make reproduce PROFILE=tiny` trains them")
    assert reproduced.trainings() == [] and redone(reproduced, before) == set()


def test_missing_base_names_the_remedy(reproduced):
    weights = reproduced.root / "bases" / "t" / "model.safetensors"
    hidden = weights.rename(weights.with_suffix(".hidden"))
    answer = reproduced.repro("reproduce", "--profile", "tiny")
    hidden.rename(weights)
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: base policy 't' is missing") and line.endswith("or put its files there")


def test_broken_workflow_is_named(reproduced):
    snakefile = reproduced.root / "workflow" / "Snakefile"
    original = snakefile.read_text()
    snakefile.write_text("def\n" + original)
    answer = reproduced.repro("reproduce", "--profile", "tiny")
    snakefile.write_text(original)
    assert answer.returncode == 2
    assert "SyntaxError" in answer.stderr and "Snakefile" in answer.stderr
