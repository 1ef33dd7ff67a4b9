"""Logs that no trainer should write: an answer or a refusal of one line, never a traceback."""

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from repro.audit import Audit, AuditError, audit, audits, report
from repro.cli import main
from tests.audit import logs

Write = Callable[[Path], Path]


def changed(change: Callable[[pd.DataFrame], pd.DataFrame], write=logs.write_csv) -> Write:
    """A made-up run with something done to it."""
    return lambda path: write(path, change(logs.run()))


def text(content: str | bytes, name: str = "log.csv") -> Write:
    """A file with this content."""

    def write(path: Path) -> Path:
        (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return path / name

    return write


def damaged(write: Write, keep: float) -> Write:
    """The first part of a good log."""

    def cut(path: Path) -> Path:
        target = write(path)
        content = target.read_bytes()
        target.write_bytes(content[: int(len(content) * keep)])
        return target

    return cut


def folder(path: Path) -> Path:
    (path / "things").mkdir()
    (path / "things" / "notes.txt").write_text("nothing here")
    return path / "things"


def loop(path: Path) -> Path:
    (path / "a").symlink_to(path / "b")
    (path / "b").symlink_to(path / "a")
    return path / "a"


def nested(path: Path) -> Path:
    (path / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    return path / "deep.json"


def other_database(path: Path) -> Path:
    connection = sqlite3.connect(path / "other.db")
    connection.execute("CREATE TABLE people (name TEXT)")
    connection.commit()
    connection.close()
    return path / "other.db"


def broken_rows(path: Path) -> Path:
    target = logs.write_trackio(path, logs.run())
    connection = sqlite3.connect(target)
    connection.execute("UPDATE metrics SET metrics = '{\"train/entropy\": ' WHERE step = 3")
    connection.commit()
    connection.close()
    return target


def half_percent(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(reward=table["reward"].where(table["step"] < 200, table["reward"] * 100))


def restarted(table: pd.DataFrame) -> pd.DataFrame:
    """Goes back by 100 steps once; what was logged before that was wrong."""
    before = table[table["step"] <= 300].assign(reward=lambda t: t["reward"].where(t["step"] < 200, 9.0))
    return pd.concat([before, table[table["step"] >= 200]])


def eval_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Two validations only, in rows of their own."""
    extra = pd.DataFrame({"step": [0.0, 400.0], "eval_reward": [0.2, 0.4]})
    return pd.concat([table, extra])


REFUSED = {
    "empty": (text(""), "is empty"),
    "blank": (text("\n\n  \n"), "is empty"),
    "header only": (text("step,entropy,reward\n"), "has no number with a step"),
    "prose": (text("It went well.\nWe are happy.\n"), "no known column of entropy"),
    "no entropy": (changed(lambda t: t.drop(columns="entropy")), "name it with --entropy: `step`, `reward`"),
    "two entropies": (
        changed(lambda t: t.assign(my_entropy=1.0, old_entropy=1.0).drop(columns="entropy")),
        "could each be",
    ),
    "two validations": (
        changed(lambda t: t.assign(**{"val-core/a/acc/mean@8": 0.5, "val-core/b/acc/mean@8": 0.5})),
        "could each be the score; choose with --score",
    ),
    "text for entropy": (changed(lambda t: t.assign(entropy="high")), "has no number with a step"),
    "all NaN": (changed(lambda t: t.assign(entropy=np.nan)), "has no number with a step"),
    "a loss for entropy": (changed(lambda t: t.assign(entropy=-t["entropy"])), "is it a loss"),
    "a sum for entropy": (changed(lambda t: t.assign(entropy=500 * t["entropy"])), "a sum over tokens"),
    "negative steps": (changed(lambda t: t.assign(step=t["step"] - 1000)), "steps start at -1000"),
    "binary": (text(bytes(range(256)) * 40, "log.bin"), "is binary"),
    "binary named csv": (text(os.urandom(4096)), "is binary"),
    "truncated JSON": (damaged(lambda path: logs.write_json(path, logs.run()), 0.6), "breaks off or is no JSON"),
    "truncated state": (
        damaged(lambda p: logs.write_state(p, logs.run()) / "checkpoint-400" / "trainer_state.json", 0.6),
        "breaks off or is no JSON",
    ),
    "broken line": (text('{"step": 1}\n{"step": 2,\n{"step": 3}\n', "log.jsonl"), "line 2 is not JSON"),
    "deep JSON": (nested, "nested too deeply"),
    "JSON number": (text("[1, 2, 3]", "log.json"), "has no numbers"),
    "no history": (text('{"global_step": 3}', "trainer_state.json"), "has no log_history"),
    "truncated SQLite": (
        damaged(lambda path: logs.write_trackio(path, logs.run()), 0.5),
        "not a readable trackio database",
    ),
    "other SQLite": (other_database, "not a readable trackio database"),
    "broken SQLite rows": (broken_rows, "a row at step 3 that is not JSON"),
    "truncated Parquet": (damaged(lambda path: logs.write_parquet(path, logs.run()), 0.5), "is a broken Parquet file"),
    "broken events": (text(b"\x18" * 4096, "events.out.tfevents.1"), "no numbers"),
    "folder": (folder, "has no log that is known"),
    "empty folder": (lambda path: path, "has no log that is known"),
    "symlink loop": (loop, "neither a file nor a folder"),
    "missing": (lambda path: path / "nowhere.csv", "is not there"),
    "device": (lambda path: Path("/dev/zero"), "neither a file nor a folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(tmp_path, name, capsys):
    write, message = REFUSED[name]
    path = write(tmp_path)
    assert main(["audit", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err


def law(found: Audit) -> str:
    return found.answer("law").verdict


ANSWERED = {
    "one row": (changed(lambda t: t.head(1)), lambda a: "there are 1, and 8 are needed" in a.answer("law").missing),
    "seven rows": (changed(lambda t: t.head(7)), lambda a: "there are 7" in a.answer("state").missing),
    "constant entropy": (changed(lambda t: t.assign(entropy=0.5)), lambda a: "constant" in a.answer("law").missing),
    "constant score": (
        changed(lambda t: t.assign(reward=0.5)),
        lambda a: "a score that changes" in a.answer("law").missing,
    ),
    "zero entropy": (changed(lambda t: t.assign(entropy=0.0)), lambda a: "first one is 0" in a.answer("state").missing),
    "no score": (changed(lambda t: t.drop(columns="reward")), lambda a: a.state == "collapsed" and not law(a)),
    "no step": (changed(lambda t: t.drop(columns="step")), lambda a: "rows are counted" in a.notes[0]),
    "NaN inside": (changed(lambda t: t.mask(t["step"] == 50)), lambda a: law(a) == "lawful" and len(a.curve) == 40),
    "NaN to the end": (
        changed(lambda t: t.assign(entropy=t["entropy"].where(t["step"] < 300))),
        lambda a: "no number after step 290, while the log goes on to 400" in a.notes[0],
    ),
    "inf": (
        changed(lambda t: t.replace({"reward": {t["reward"][3]: np.inf}})),
        lambda a: law(a) == "lawful" and "1 infinite values are left out" in a.notes[0],
    ),
    "inf in trackio's words": (
        lambda path: text((logs.write_jsonl(path, logs.run())).read_text() + '{"step": 410, "entropy": "NaN"}\n')(path),
        lambda a: law(a) == "lawful",
    ),
    "unsorted": (
        changed(lambda t: t.sample(frac=1, random_state=0)),
        lambda a: law(a) == "lawful" and "steps go back" in a.notes[0],
    ),
    "all rows twice": (changed(lambda t: pd.concat([t, t])), lambda a: law(a) == "lawful" and len(a.curve) == 41),
    "restarted": (changed(restarted), lambda a: law(a) == "lawful" and a.points.reward.max() < 1),
    "percent and fraction": (
        changed(half_percent),
        lambda a: "20 of its values look like fractions" in a.answer("law").missing and a.state == "collapsed",
    ),
    "percent": (changed(lambda t: t.assign(reward=100 * t["reward"])), lambda a: law(a) == "lawful"),
    "sum of bits": (
        changed(lambda t: t.assign(entropy=8 * t["entropy"])),
        lambda a: "entropy starts at 4.88, and policies start from 0.05 to 3" in a.notes[0],
    ),
    "collapsed before": (
        changed(lambda t: t.assign(entropy=t["entropy"] / 50)),
        lambda a: "has it collapsed before?" in a.notes[0],
    ),
    "two validations only": (
        changed(eval_rows),
        lambda a: law(a) == "lawful" and "`eval_reward` has 2 values, too few; `reward` is" in a.notes[-1],
    ),
    "last line breaks off": (
        damaged(lambda path: logs.write_jsonl(path, logs.run()), 0.97),
        lambda a: law(a) == "lawful" and len(a.curve) == 39,
    ),
    "events break off": (
        damaged(lambda path: next(logs.write_events(path, logs.run()).iterdir()), 0.7),
        lambda a: len(a.curve) > 20,
    ),
    "ragged CSV": (
        lambda path: text(logs.write_csv(path, logs.run()).read_text() + "410,0.01,0.44,9,9\n420\n")(path),
        lambda a: law(a) == "lawful",
    ),
    "bad UTF-8": (
        lambda path: text(logs.write_csv(path, logs.run().assign(note="#")).read_bytes().replace(b",#", b",\xe9"))(
            path
        ),
        lambda a: law(a) == "lawful",
    ),
    "rows that are no objects": (
        lambda path: text(json.dumps([None, 3, *logs.rows(logs.run())]), "log.json")(path),
        lambda a: law(a) == "lawful",
    ),
    "random numbers": (
        changed(
            lambda t: t.assign(entropy=np.random.default_rng(0).random(41), reward=np.random.default_rng(1).random(41))
        ),
        lambda a: law(a) == "does not hold" and a.answer("ceiling").missing,
    ),
    "huge score": (
        changed(lambda t: t.assign(reward=1e300 * t["reward"])),
        lambda a: "41 infinite values are left out" in a.notes[0] and "there are none" in a.answer("law").missing,
    ),
}


@pytest.mark.parametrize("name", ANSWERED)
def test_answered_with_doubts(tmp_path, name, capsys):
    write, expected = ANSWERED[name]
    path = write(tmp_path)
    assert expected(audit(path))
    assert main(["audit", str(path), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and json.loads(captured.out)["version"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", logs.WRITERS)
def test_damaged_bytes_are_answered_or_refused(tmp_path, name):
    """Bytes changed, cut off, cut out or repeated at random places."""
    rng = np.random.default_rng(len(name))
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = logs.WRITERS[name](folder, logs.run())
        file = path if path.is_file() else max(one for one in path.rglob("*") if one.is_file())
        content = bytearray(file.read_bytes())
        first, last = sorted(rng.integers(len(content), size=2))
        match number % 4:
            case 0:
                content[first] = rng.integers(256)
            case 1:
                del content[first:]
            case 2:
                del content[first:last]
            case 3:
                content[first:first] = content[:last]
        file.write_bytes(bytes(content))
        try:
            report.as_json(audits(path))
        except AuditError as error:
            assert "\n" not in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = logs.write_csv(tmp_path, logs.run())
    path.chmod(0)
    with pytest.raises(AuditError, match="Permission denied; name a readable log"):
        audit(path)


def test_a_read_that_the_system_denies(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = logs.write_csv(tmp_path, logs.run())
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(AuditError, match="Permission denied; name a readable log"):
        audit(path)
