"""Smaller computed parts of the book: what the paper prints, what the study and a method cost, the landing figure."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from repro import paths
from repro.book import again, fragments, looks, regime
from repro.book.figures import fixes, search, style
from repro.claims import Finding, Ledger
from repro.claims.curves import curves
from repro.claims.measures.search import primary_arms
from repro.runs import Run
from repro.runs.profiles import Profile

OVERHEAD = Path("benchmarks") / "results" / "trainer.csv"
ESTIMATES = Path("benchmarks") / "results" / "estimate.csv"
_BENCHMARKED = {
    "none": "no method, all metrics",
    "clip_cov": "Clip-Cov",
    "kl_cov": "KL-Cov",
    "kl_cov step": "KL-Cov, over the optimizer step",
}


def printed(ledger: Ledger) -> str:
    """What the paper prints for each sub-claim, and where, as MyST."""
    rows = [
        (f"{{doc}}`{part.title} </{claim.page}>`", part.printed_as, part.source)
        for claim in ledger.claims
        for part in claim.subclaims
        if part.printed is not None
    ]
    return fragments.list_table(("What", "The paper", "Where"), rows, "printed")


def both(ledger: Ledger, findings: Sequence[Finding]) -> str:
    """What two testbeds gave for the same sub-claims, as MyST; nothing where this copy has but one."""
    found = {f"{one.claim}.{one.subclaim}": one for one in findings}
    rows = []
    for claim in ledger.claims:
        for part in claim.subclaims:
            first, again = found.get(part.again), found.get(f"{claim.id}.{part.id}")
            if first and again:
                cells = (f"{one.ours} {fragments.badge(one.verdict, one.kind)}" for one in (first, again))
                rows.append((first.title, first.printed_as, *cells))
    return fragments.list_table(("Sub-claim", "Paper", *regime.WORLDS), rows) if rows else ""


def spent(profile: Profile, runs: Sequence[Run]) -> str:
    """Minutes of training by group of arms, as MyST."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(profile.arms[run.config.arm].group, []).append(run)
    rows = []
    for group, members in groups.items():
        minutes = [run.provenance["seconds"] / 60 for run in members]
        arms = len({run.config.arm for run in members})
        rows.append(
            (
                f"{{doc}}`{group} </records/{group}>`",
                str(arms),
                str(len(members)),
                f"{sum(minutes) / len(minutes):.1f}",
                f"{sum(minutes):.0f}",
            )
        )
    # Two arms may share a run.
    trained_by: dict[str, dict[str, Run]] = {}
    for run in runs:
        trained_by.setdefault(profile.arms[run.config.arm].shown or profile.name, {})[run.config.folder] = run
    sums = [
        f"{len(members)} runs of the profile `{name}`, {_hours(members.values()):.1f} hours of one core in all."
        for name, members in trained_by.items()
    ]
    header = ("Group", "Arms", "Runs", "Minutes a run", "Minutes in all")
    return " ".join(sums) + "\n\n" + fragments.list_table(header, rows, "spent")


def _hours(runs: Iterable[Run]) -> float:
    return sum(run.provenance["seconds"] for run in runs) / 3600


def primary_tests(runs: Sequence[Run]) -> str:
    """The primary comparisons of the second testbed with their p-values, as MyST; nothing without their runs."""
    arms = {arm: [run for run in runs if run.config.arm == arm] for arm in primary_arms()}
    if not all(arms.values()):
        return ""
    table = search.tests_table(arms)
    return fragments.list_table(tuple(table.columns), table.itertuples(index=False))


def overhead() -> str:
    """What each method adds to an optimizer step of TRL's trainer, from the benchmark's last run, as MyST."""
    with (paths.root() / OVERHEAD).open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    last = [row for row in found if row["utc"] == found[-1]["utc"] and row["arm"] in _BENCHMARKED]
    rows = [
        (
            _BENCHMARKED[row["arm"]],
            _percent(row, "overhead"),
            _percent(row, "cpu_overhead"),
        )
        for row in last
    ]
    first = last[0]
    where = (
        f"{first['device']}, {first['threads']} threads, {first['utc'][:10]}; {int(first['parameters']):,} parameters, "
        f"{first['sequences']} sequences of {first['length']} tokens, {first['updates']} updates a rollout; medians "
        f"over {first['rounds']} rounds with 95 % intervals."
    )
    header = ("Method", "Time of a step", "Processor time of a step")
    return f"{fragments.list_table(header, rows)}\n{where}\n"


def estimates() -> str:
    """What was measured of memory and time beside what was estimated, from the benchmark's last rows, as MyST."""
    with (paths.root() / ESTIMATES).open(encoding="utf-8") as file:
        last = list({row["case"]: row for row in csv.DictReader(file)}.values())
    rows = [
        (
            row["case"],
            f"{int(row['parameters']) / 1e6:.1f}",
            row["tokens"],
            *(row["memory_mib"], row["estimated_mib"], f"{100 * float(row['memory_error']):+.0f} %"),
            *(row["cpu_s"], row["estimated_s"], f"{100 * float(row['time_error']):+.0f} %"),
        )
        for row in last
    ]
    header = ("Model", "Million parameters", "Tokens of a micro-batch", "Peak growth (MiB)", "Estimated", "Off by")
    header += ("Processor time (s)", "Estimated", "Off by")
    return f"{fragments.list_table(header, rows)}\n{last[0]['device']}, torch {last[0]['torch']}.\n"


def _percent(row: dict[str, str], name: str) -> str:
    estimate, low, high = (100 * float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return f"{estimate:+.1f} % ({low:+.1f} to {high:+.1f} %)"


def notebooks(profile: Profile, runs: dict[str, Sequence[Run]], remote: str | None) -> str:
    """A row per notebook: what it needs, and the ways to it. `runs` has those that each reads, by its name."""
    rows = [
        (again.ways(name, remote), str(len(members)), f"{sum(run.provenance['seconds'] for run in members) / 60:.0f}")
        for name, members in runs.items()
    ]
    return fragments.list_table(("Notebook", "Runs", "Minutes of one core to train them"), rows, "notebooks")


@style.styled("y")
def landing(runs: Sequence[Run]) -> Figure:
    """Entropy and accuracy of the methods side by side, mean over seeds with its interval."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    both = figure.subplots(1, 2)
    for axes, quantity, title, factor in zip(
        both, ("entropy", "accuracy"), ("Entropy (nat per token)", "Accuracy (%)"), (1, 100), strict=True
    ):
        for arm, look in drawn(runs).items():
            table = curves([run for run in runs if run.config.arm == arm], quantity)
            mean = factor * table.groupby("step")[quantity].mean()
            axes.plot(mean.index, mean, color=look.colour, linestyle=look.line, linewidth=2, label=look.title)
        axes.set_title(title)
        axes.set_xlabel("Optimizer step")
    both[0].set_ylim(bottom=0)
    style.legend_below(figure, both[0], 3)
    return figure


def drawn(runs: Sequence[Run]) -> dict[str, looks.Look]:
    """The methods of the landing figure that this copy has runs of."""
    present = {run.config.arm for run in runs}
    return {arm: look for arm, look in fixes.METHODS.items() if arm in present and arm != "unclipped"}


def landing_caption(runs: Sequence[Run]) -> str:
    """Caption of `landing`, with n."""
    counts = pd.Series([run.config.arm for run in runs if run.config.arm in drawn(runs)]).value_counts()
    return (
        f"The same small policy, trained in {len(counts)} ways on one schedule: its entropy, and its accuracy on "
        f"validation problems. Means over {style.seeds(*counts)} an arm; the figures of the claims have the intervals."
    )
