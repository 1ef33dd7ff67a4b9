"""Audits as one HTML file that opens without a network: text, tables and plots inside it."""

import html
import io
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.audit.advice import advise
from repro.audit.core import COLLAPSED, Audit
from repro.audit.report import comparison

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0 }
th { font-weight: 600 } tr + tr > * { border-top: 1px solid #ddd } svg { max-width: 100%; height: auto }
.verdict { font-weight: 700 } .missing { color: #777 } small { color: #555 }
"""
BLUE, ORANGE, GREY = "#0173b2", "#de8f05", "#888888"


def as_html(audits: Sequence[Audit]) -> str:
    """The report of all runs as one page."""
    parts = [_table(comparison(audits))] if len(audits) > 1 else []
    parts += [_section(found) for found in audits]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Entropy audit</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>Entropy audit</h1>\n{''.join(parts)}\n</body></html>\n"
    )


def _section(found: Audit) -> str:
    text = html.escape
    answers = [
        (
            f"<b>{text(answer.question)}</b>",
            f'<span class="verdict">{text(answer.verdict)}</span>',
            f'<span class="missing">{text(answer.sentence)}</span>' if answer.missing else text(answer.sentence),
        )
        for answer in found.answers
    ]
    columns = [(text(one.role), f"<code>{text(one.name)}</code>", text(one.means)) for one in found.columns]
    changes = "".join(
        f"<li>{text(one.do)} <small>{text(one.source)}. Ours: {text('; '.join(one.evidence) or 'not tested')}</small>\n"
        for one in advise(found)
    )
    notes = "".join(f"<li>{text(note)}" for note in found.notes)
    return (
        f"<h2>{text(found.name)}</h2>\n<p>{text(found.format)}</p>\n{_svg(found)}\n<table>{_rows(answers)}</table>"
        f"<h3>Columns</h3><table>{_rows(columns)}</table>" + (f"<h3>Notes</h3><ul>{notes}</ul>" if notes else "")
    ) + (f"<h3>What could be changed</h3><ul>{changes}</ul>" if changes else "")


def _rows(rows: Sequence[Sequence[str]], tag: str = "td") -> str:
    cells = ("".join(f"<{tag}>{cell}</{tag}>" for cell in row) for row in rows)
    return "".join(f"<tr>{row}</tr>\n" for row in cells)


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = [[html.escape(cell) for cell in row] for row in rows]
    return f"<table>{_rows([header], 'th')}{_rows(body)}</table>"


def _svg(found: Audit) -> str:
    """Entropy and score by step, and score over entropy with the law."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": found.name, "font.size": 9, "axes.spines.top": False}):
        figure = Figure(figsize=(10, 3.1), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        _entropy(left, found)
        _score(middle, found)
        _law(right, found)
        sink = io.StringIO()
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = sink.getvalue()
    return svg[svg.index("<svg") :]


def _entropy(axes: Axes, found: Audit) -> None:
    curve = found.curve.iloc[:: max(len(found.curve) // 1000, 1)]
    axes.plot(curve["step"], curve["entropy"], color=BLUE)
    axes.axhline(COLLAPSED * curve["entropy"].iloc[0], color=GREY, linestyle=":")
    axes.set(xlabel="step", ylabel="entropy (nats)", title="Entropy; dotted: a tenth of the start", ylim=(0, None))


def _score(axes: Axes, found: Audit) -> None:
    axes.set(xlabel="step", ylabel="score", title="Score and forecast (95 %)")
    if found.points is None:
        return
    axes.plot(found.points.step, found.points.reward, ".-", color=BLUE)
    if forecast := found.answer("forecast").intervals.get("score"):
        ends = [[forecast.estimate - forecast.low], [forecast.high - forecast.estimate]]
        axes.errorbar([found.until], [forecast.estimate], ends, fmt="o", color=ORANGE, capsize=3)


def _law(axes: Axes, found: Audit) -> None:
    axes.set(xlabel="entropy (nats)", ylabel="score", title="The law; bar: its ceiling (95 %)")
    if found.points is None:
        return
    axes.plot(found.points.entropy, found.points.reward, ".", color=BLUE)
    if found.fit:
        grid = np.linspace(0, found.points.entropy.max(), 100)
        axes.plot(grid, found.fit.predict(grid), color=ORANGE)
    if ceiling := found.answer("ceiling").intervals.get("ceiling"):
        axes.plot([0, 0], [ceiling.low, ceiling.high], color=ORANGE, linewidth=4, alpha=0.5)
