"""Audits as text, as JSON and as an exit status."""

import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

from repro.audit.advice import advise
from repro.audit.core import Audit

VERSION = 1
WIDTH = 92
# What `--fail-on` names, as states.
FAILURES = {"collapse": ("collapsing", "collapsed"), "explosion": ("exploding",)}


def as_text(audits: Sequence[Audit]) -> str:
    """A block per run; several runs get a table of all, and one run what could be changed."""
    blocks = [_block(found) for found in audits]
    rest = _table(comparison(audits)) if len(audits) > 1 else _changes(audits[0])
    return "\n\n".join(filter(None, [*blocks, rest]))


def _block(found: Audit) -> str:
    steps = found.curve["step"]
    lines = [f"{found.name} ({found.format}, {len(steps)} entropies, steps {steps.min():g} to {steps.max():g})"]
    lines += [_entry(column.role, f"`{column.name}`: {column.means}") for column in found.columns]
    lines += [_entry("note", note) for note in found.notes]
    for answer in found.answers:
        verdict = f"{answer.verdict.upper()}. " if answer.verdict else ""
        lines.append(_entry(answer.question, verdict + answer.sentence, mark=">"))
    return "\n".join(lines)


def _changes(found: Audit) -> str:
    lines = []
    for one in advise(found):
        lines.append(_entry("change", f"{one.do} ({one.source})", mark="*"))
        lines += [_entry("", f"ours: {evidence}") for evidence in one.evidence or ("not tested",)]
    return "\n".join(lines)


def _entry(what: str, text: str, mark: str = " ") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=f"{mark} {what:11}", subsequent_indent=" " * 13)


def comparison(audits: Sequence[Audit]) -> list[tuple[str, ...]]:
    """A header and a row per run: state, share of the starting entropy, law, ceiling, forecast and score now."""
    rows = [("run", "state", "entropy left", "law", "r2", "ceiling", "score now", "forecast")]
    for found in audits:
        state, law, ceiling, forecast = map(found.answer, ("state", "law", "ceiling", "forecast"))
        rows.append(
            (
                found.name,
                state.verdict or "-",
                f"{100 * state.values['share']:.0f} %" if state.values else "-",
                law.verdict or "-",
                f"{law.values['r2']:.2f}" if law.values else "-",
                _interval(ceiling.intervals.get("ceiling")),
                f"{ceiling.values['score_now']:.3g}" if ceiling.values else "-",
                _interval(forecast.intervals.get("score")),
            )
        )
    return rows


def _interval(interval) -> str:
    return f"{interval.estimate:.3g} [{interval.low:.3g}, {interval.high:.3g}]" if interval else "-"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def as_json(audits: Sequence[Audit]) -> str:
    """The audits by the schema in schema.json; numbers that are not finite are null."""
    return json.dumps({"version": VERSION, "audits": [_finite(_values(found)) for found in audits]}, indent=2)


def schema() -> dict[str, Any]:
    """The JSON schema of `as_json`."""
    return json.loads(resources.files("repro.audit").joinpath("schema.json").read_text(encoding="utf-8"))


def _values(found: Audit) -> dict[str, Any]:
    answers = {}
    for answer in found.answers:
        intervals = {name: interval._asdict() for name, interval in answer.intervals.items()}
        rest = {key: getattr(answer, key) for key in ("verdict", "sentence", "missing")}
        answers[answer.question] = {**rest, "values": dict(answer.values), "intervals": intervals}
    return {
        "name": found.name,
        "format": found.format,
        "state": found.state,
        "until": found.until,
        "columns": {column.role: {"name": column.name, "means": column.means} for column in found.columns},
        "notes": list(found.notes),
        "answers": answers,
        "advice": [asdict(one) for one in advise(found)],
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def fails(audits: Sequence[Audit], causes: Sequence[str]) -> bool:
    """Whether a run is in a state that one of the causes (`FAILURES`) names."""
    return any(found.state in FAILURES[cause] for found in audits for cause in causes)
