"""How often an audit of part of a run is right about the rest: `python -m benchmarks.audit_calibration [FOLDER ...]`.

Every recorded run in the folders (by default those of the repository and of this machine) is audited after 10, 20 and
40 % of its training, as if the rest had not happened, and compared with the rest. A row per run and part goes into
`benchmarks/results/audit_calibration.csv`; `book/_benchmarks/audit.md` has the odd seeds, for the thresholds of
`repro.audit.core` were tuned on the even ones.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.harness import RESULTS, ROOT
from repro import paths
from repro.audit import Audit, audit, core, open_logs

PARTS = (0.1, 0.2, 0.4)
COLUMNS = ("step", "entropy/response_mean", "accuracy/mean", "reward")
# A run's end, in shares of its training.
END = 1 / 8
# A rule that needs no fit, and a threshold that knows no run.
HALVED, FIXED = 0.5, 1.0
RULES = ("Audit", "Half is gone", "Under 1.0 nat")
TABLE = ROOT / "book" / "_benchmarks" / "audit.md"
# Tasks by the beginning of their names.
TESTBEDS = {"arithmetic": "Chained arithmetic", "countdown": "Countdown"}


def records(folders: Iterable[Path]) -> list[Path]:
    """The run records in some folders, once each."""
    found = [path.parent for folder in folders for path in sorted(folder.glob("*/evaluations.parquet"))]
    return list({path.name: path for path in found}.values())


def rows(path: Path) -> Iterator[dict]:
    """A row per part of a run: what the audit said, and what came."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    (log,) = open_logs(path)
    table = log.read([name for name in COLUMNS if name in log.columns])
    last = table["step"].max()
    known = {"run": path.name, "task": config["task"], "arm": config["arm"], "seed": config["seed"], "steps": int(last)}
    ending = table[table["step"] >= (1 - END) * last].mean()
    whole = cache(lambda score: audit(table, until=last, score=score))
    for part in PARTS:
        seen = table[table["step"] <= part * last].reset_index(drop=True)
        found = audit(seen, until=last)
        yield known | {"part": part} | answers(found) | truth(whole(scored(found)), ending, scored(found))


def scored(found: Audit) -> str:
    """The column that an audit took for the score."""
    return next(column.name for column in found.columns if column.role == "score")


def answers(found: Audit) -> dict:
    """What an audit of part of a run says, by column of the record."""
    values = {"score": scored(found), "law": found.answer("law").verdict, "state": found.state}
    state = found.answer("state").values
    values |= {"share": state.get("share"), "entropy": state.get("now")}
    for question, name in (("ceiling", "ceiling"), ("forecast", "score")):
        interval = found.answer(question).intervals.get(name)
        for end in ("estimate", "low", "high"):
            values[f"{question}_{end}"] = getattr(interval, end) if interval else None
    for name in ("last_value", "sigmoid"):
        values[name] = found.answer("forecast").values.get(name)
    return values


def truth(whole: Audit, ending: pd.Series, score: str) -> dict:
    """What the whole run says of the same: its own ceiling, and score and share of the entropy at its end."""
    ceiling = whole.answer("ceiling").intervals.get("ceiling")
    start = whole.answer("state").values["start"]
    return {
        "true_ceiling": ceiling.estimate if ceiling else None,
        "true_law": whole.answer("law").verdict,
        "true_score": ending[score],
        "true_share": ending["entropy/response_mean"] / start,
    }


def summary(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """A header and a row per part of training, over all runs of a table."""
    header = ("Seen of training", "Runs", "Ceilings given", "Ceilings covered", "Forecasts covered")
    header += ("Error of the law, points", "Error of the last value", "Error of the sigmoid")
    header += tuple(f"{rule}: {what}" for rule in RULES for what in ("collapses missed", "false alarms"))
    lines = [header]
    for part, seen in table.groupby("part"):
        given, told = seen.dropna(subset=["ceiling_low", "true_ceiling"]), seen.dropna(subset=["forecast_low"])
        inside = (given["ceiling_low"] <= given["true_ceiling"]) & (given["true_ceiling"] <= given["ceiling_high"])
        hit = (told["forecast_low"] <= told["true_score"]) & (told["true_score"] <= told["forecast_high"])
        errors = [np.abs(told[name] - told["true_score"]) for name in ("forecast_estimate", "last_value", "sigmoid")]
        rules = (seen["state"].isin(["collapsing", "collapsed"]), seen["share"] < HALVED, seen["entropy"] < FIXED)
        lines.append(
            (
                f"{100 * part:.0f} %",
                str(len(seen)),
                f"{len(given)}",
                _share(inside),
                _share(hit),
                *(f"{100 * error.median():.1f}" if len(error) else "none" for error in errors),
                *(cell for rule in rules for cell in _mistakes(rule, seen["true_share"] <= core.COLLAPSED)),
            )
        )
    return lines


def _mistakes(alarm: pd.Series, collapse: pd.Series) -> tuple[str, str]:
    """Collapses that were missed, and alarms without one, as 'k of n'."""
    return f"{(collapse & ~alarm).sum()} of {collapse.sum()}", f"{(alarm & ~collapse).sum()} of {(~collapse).sum()}"


def _share(hits: pd.Series) -> str:
    return f"{hits.sum()} of {len(hits)}" if len(hits) else "none"


def markdown(table: pd.DataFrame) -> str:
    """The tables of the odd seeds as MyST, one for each testbed."""
    testbed = table["task"].map(lambda task: TESTBEDS[task.partition("_")[0]])
    return "\n".join(_testbed(name, table[testbed == name]) for name in TESTBEDS.values() if (testbed == name).any())


def _testbed(name: str, table: pd.DataFrame) -> str:
    odd = table[table["seed"] % 2 == 1]
    lines = [
        f"**{name}**: of {table['run'].nunique()} recorded runs the {odd['run'].nunique()} with odd seeds.\n",
        "```{list-table}",
        ":header-rows: 1",
        ":class: audit",
    ]
    columns = zip(*summary(odd), strict=True)
    for what, *cells in columns:
        lines += ["", f"* - {what}", *(f"  - {cell}" for cell in cells)]
    return "\n".join([*lines, "```", ""])


def main(arguments: Sequence[str]) -> None:
    """Audit all records, write the record and the table, print both halves."""
    folders = [Path(argument) for argument in arguments] or [paths.results_dir(), paths.runs_dir()]
    table = pd.DataFrame([row for path in records(folders) for row in rows(path)])
    table.to_csv(RESULTS / "audit_calibration.csv", index=False, float_format="%.6g")
    TABLE.write_text(markdown(table), encoding="utf-8")
    for name, half in (("even seeds", table[table["seed"] % 2 == 0]), ("odd seeds", table[table["seed"] % 2 == 1])):
        print(f"{name}:", *("  ".join(line) for line in summary(half)), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
