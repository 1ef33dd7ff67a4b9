"""What notebooks show from inside: figures, values that the book's prose uses, and where the runs came from.

This needs IPython only, so that a notebook opened alone needs neither papermill nor Sphinx; `repro.book.notebook`
handles notebooks from outside.
"""

import math
from collections.abc import Sequence

import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from repro.book.drawing import numbers, svg
from repro.runs import Run

# Where an output of a notebook keeps the caption of its figure and the numbers drawn, as CSV.
DRAWN = "repro.drawn"


def glue(**values: float | int | str) -> None:
    """Store values in the running notebook under their names, for the book's prose to show.

    They are stored as `myst_nb.glue` does with `display=False`, without needing Sphinx where the notebook runs.

    Raises:
        TypeError: a value that is not a plain, finite Python float, int or str. Others would show as their `repr`.
    """
    for name, value in values.items():
        if type(value) not in (float, int, str) or (type(value) is float and not math.isfinite(value)):
            raise TypeError(f"{name} must be a finite float, an int or a str of plain Python, got {value!r}")
        prefix = "application/papermill.record/"
        note = {"scrapbook": {"name": name, "mime_prefix": prefix}}
        display({f"{prefix}text/plain": repr(value)}, raw=True, metadata=note)


def show(figure: Figure, **caption: str) -> None:
    """Show a Matplotlib figure as SVG, with the numbers drawn, and glue its caption under the one name given."""
    glue(**caption)
    text = " ".join(caption.values())
    drawn = {"caption": text, "csv": numbers(figure).to_csv(index=False, float_format="%.4g")}
    display({"image/svg+xml": svg(figure), "text/plain": text}, raw=True, metadata={DRAWN: drawn})


def table(frame: pd.DataFrame, css: str = "") -> None:
    """Show a table without its index and with every value in full, which pandas by itself cuts at 50 characters.

    Args:
        frame: what to show.
        css: classes for the book's style sheet.
    """
    with pd.option_context("display.max_colwidth", None):
        html = frame.to_html(index=False, border=0, justify="left", classes=css)
    display({"text/html": html, "text/plain": frame.to_string(index=False)}, raw=True)


def origin(runs: Sequence[Run]) -> str:
    """How many of these runs come with the repository, and how many were made for this copy, in a sentence."""
    distinct = {run.config.folder: run for run in runs}.values()  # two arms may share one
    recorded, total = sum(run.recorded for run in distinct), len(distinct)
    if recorded == total:
        return f"Runs: {total}, all recorded in the repository; nothing was trained for this copy."
    if not recorded:
        return f"Runs: {total}, all trained for this copy on the machine that made it."
    return (
        f"Runs: {total}, of which {recorded} are recorded in the repository and {total - recorded} were trained for "
        "this copy on the machine that made it."
    )


def provenance(runs: Sequence[Run]) -> pd.DataFrame:
    """What made these runs: a row per field, with every value that occurs among them once."""
    arms: dict[str, list[Run]] = {}
    for run in runs:
        arms.setdefault(run.config.arm, []).append(run)
    rows: dict[str, list[str]] = {
        "Runs": [_spelled(arm, members) for arm, members in arms.items()],
        "Where from": [origin(runs)],
    }
    for run in runs:
        made = run.provenance
        fields = {
            "Commit": f"{made['commit'] or 'none'}{' with uncommitted changes' if made['dirty'] else ''}",
            "Code fingerprint": made["code"],
            "Device": f"{made['device_name']} ({made['device']}, threads: {made['threads']})",
            "Platform": made["platform"],
            "Versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
        }
        for name, value in fields.items():
            rows.setdefault(name, []).append(value)
    values = ["; ".join(dict.fromkeys(found)) for found in rows.values()]
    return pd.DataFrame({"What": list(rows), "Value": values})


def _spelled(arm: str, runs: Sequence[Run]) -> str:
    """An arm's runs: 'grpo, seed 0 (2bf8282dd822, recorded), seed 1 (..., made here): 430 s'; the hash ends a name."""
    seeds = ", ".join(
        f"seed {run.config.seed} ({run.name.rpartition('-')[2]}, {'recorded' if run.recorded else 'made here'})"
        for run in runs
    )
    return f"{arm}, {seeds}: {sum(run.provenance['seconds'] for run in runs):.0f} s"
