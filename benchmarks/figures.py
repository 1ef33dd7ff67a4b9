"""Figures and tables of the book's benchmark page, from the CSVs of record: `python -m benchmarks.figures`."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness import RESULTS, ROOT

PAGE_PARTS = ROOT / "book" / "_benchmarks"
NOT_RUN = "not yet run on a GPU"
# The same method has the same colour in every panel.
METHODS = (
    *("ours", "published way", "plain torch", "torch.topk, quota known", "verl", "naive [N, V]"),
    *("two products alone", "TRL, one policy's entropy", "TRL, two policies' divergence", "ours, torch"),
    "ours, CUDA graph",
)
COLOURS = dict(zip(METHODS, sns.color_palette("colorblind", len(METHODS)), strict=True))

Row = dict[str, str]


def latest(path: Path) -> list[Row]:
    """The rows of the last run in a CSV of record; none where it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    last = max((row["time"] for row in rows), default="")
    return [row for row in rows if row["time"] == last]


def median(rows: Iterable[Row], benchmark: str, size: str, method: str, column: str = "p50_ms") -> float | None:
    """One cell of the record, or None."""
    for row in rows:
        if (row["benchmark"], row["size"], row["method"]) == (benchmark, size, method):
            return float(row[column])
    return None


def _points(axes: Axes, rows: Sequence[Row], benchmark: str) -> None:
    """Median time of each method at each size, with the range from the 20th to the 80th percentile."""
    chosen = [row for row in rows if row["benchmark"] == benchmark]
    sizes = list(dict.fromkeys(row["size"] for row in chosen))
    methods = [name for name in METHODS if any(row["method"] == name for row in chosen)]
    for offset, method in enumerate(methods):
        own = [row for row in chosen if row["method"] == method]
        places = [sizes.index(row["size"]) + (offset - (len(methods) - 1) / 2) * 0.12 for row in own]
        middle = [float(row["p50_ms"]) for row in own]
        spread = [
            [m - float(row["p20_ms"]) for m, row in zip(middle, own, strict=True)],
            [float(row["p80_ms"]) - m for m, row in zip(middle, own, strict=True)],
        ]
        axes.errorbar(places, middle, spread, fmt="o", color=COLOURS[method], label=method, markersize=5, capsize=2)
    axes.set_xticks(range(len(sizes)), [size.replace(" V=", "\nV=") for size in sizes])
    axes.set_yscale("log")
    axes.set_ylabel("ms (p50; bar p20 to p80)")
    axes.set_title(benchmark)
    axes.legend(fontsize="small", frameon=False)


def draw(rows: Sequence[Row]) -> Figure:
    """Time of the main operators beside their peers."""
    sns.set_theme(style="whitegrid", context="paper")
    panels = ("covariance + select_top", "select_top", "covariance + select_band", "linear_vocab_covariance")
    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    for panel, benchmark in zip(axes.flat, panels, strict=True):
        _points(panel, rows, benchmark)
    return figure


def source(rows: Sequence[Row]) -> str:
    """Where the rows were measured, in a sentence."""
    row = rows[0]
    cuda = f", CUDA {row['cuda']}" if row["cuda"] else f", {row['threads']} threads"
    return (
        f"{row['device']}{cuda}, torch {row['torch']}, Triton {row['triton']}, TRL {row['trl']}; "
        f"commit `{row['commit']}`, {row['time']}."
    )


def table(rows: Sequence[Row]) -> str:
    """Every row of a run as a MyST table: time, the ratio of the medians to ours, and peak memory."""
    lines = [
        source(rows),
        "",
        "| benchmark | size | method | ms: p50 [p20, p80] | times ours | peak MiB | of ceiling |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        ours = median(rows, row["benchmark"], row["size"], "ours")
        ratio = f"{float(row['p50_ms']) / ours:.2f}" if ours else ""
        times = f"{_short(row['p50_ms'])} [{_short(row['p20_ms'])}, {_short(row['p80_ms'])}]"
        cells = (
            *(row["benchmark"], row["size"].replace("tokens=", ""), row["method"], times, ratio),
            *(f"{float(row['peak_mib']):,.1f}", _share(row["of_copy"] or row["of_matmul"])),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _short(milliseconds: str) -> str:
    value = float(milliseconds)
    return f"{value:.3f}" if value < 1 else f"{value:,.1f}"


def _share(text: str) -> str:
    return f"{100 * float(text):.0f} %" if text else ""


def aims(cpu: Sequence[Row], gpu: Sequence[Row]) -> str:
    """What the operators were built to reach, beside what was measured, as a MyST table."""
    top, heads = "covariance + select_top", "linear_vocab_covariance"
    # name, rows, (benchmark, size), (method, its column), (the method it is divided by, or None), limit, unit
    small, large, largest = "tokens=2^20", "tokens=2^24", "N=8192 H=3584 V=152064"
    cases = [
        ("CPU, published way / ours", cpu, top, small, "published way", "ours", "p50_ms", ">=", 2.5, "times"),
        *(
            ("CPU, ours / naive", cpu, heads, size, "ours", "naive [N, V]", column, "<=", limit, f"of {of}")
            for size in dict.fromkeys(row["size"] for row in cpu if row["benchmark"] == heads)
            for column, limit, of in (("p50_ms", 1.0, "the time"), ("peak_mib", 0.125, "the peak memory"))
        ),
        ("CUDA, ours", gpu, top, large, "ours", None, "p50_ms", "<=", 0.5, "ms"),
        ("CUDA, published way / ours", gpu, top, large, "published way", "ours", "p50_ms", ">=", 50.0, "times"),
        ("CUDA, ours / torch.topk", gpu, "select_top", large, "ours", METHODS[3], "p50_ms", "<=", 1.0, "of the time"),
        ("CUDA, ours / products alone", gpu, heads, largest, "ours", METHODS[6], "p50_ms", "<=", 1.3, "of the time"),
        ("CUDA, ours", gpu, heads, largest, "ours", None, "peak_mib", "<=", 1024.0, "MiB beyond the inputs"),
    ]
    lines = ["| what | operator | size | aim | measured | reached |", "| --- | --- | --- | --- | ---: | --- |"]
    for name, rows, benchmark, size, method, base, column, sign, limit, unit in cases:
        value = median(rows, benchmark, size, method, column)
        divisor = 1.0 if base is None else median(rows, benchmark, size, base, column)
        if value is None or divisor is None:
            measured, reached = "", NOT_RUN
        else:
            ratio = value / divisor
            measured = f"{ratio:.4g}"
            reached = "yes" if (ratio >= limit if sign == ">=" else ratio <= limit) else "no"
        lines.append(f"| {name} | {benchmark} | {size} | {sign} {limit:g} {unit} | {measured} | {reached} |")
    return "\n".join(lines) + "\n"


def parts(cpu: Sequence[Row], gpu: Sequence[Row], generation: Sequence[Row]) -> dict[str, str]:
    """The page's MyST fragments by file name."""
    not_timed = "**Not yet timed.** `python -m benchmarks.generation` does, in two minutes.\n"
    run_it = f"**Nothing of this has been timed on CUDA: {NOT_RUN}.** `make gpu` tests and times it in one command.\n"
    return {
        "aims.md": aims(cpu, gpu),
        "cpu.md": table(cpu),
        "gpu.md": table(gpu) if gpu else run_it,
        "generation.md": table(generation) if generation else not_timed,
    }


def main() -> None:
    cpu, gpu, generation = (latest(RESULTS / f"{name}.csv") for name in ("cpu", "gpu", "generation"))
    PAGE_PARTS.mkdir(parents=True, exist_ok=True)
    for name, text in parts(cpu, gpu, generation).items():
        (PAGE_PARTS / name).write_text(text)
    # The same record gives the same file.
    matplotlib.rcParams["svg.hashsalt"] = "benchmarks"
    for name, rows in (("cpu", cpu), ("gpu", gpu)):
        if rows:
            draw(rows).savefig(PAGE_PARTS / f"{name}.svg", metadata={"Date": None})
    print(f"wrote {PAGE_PARTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
