"""The records behind the book: a page per group of arms, a section per arm, and its data to take away.

What a page links to is made from the records themselves, a ZIP per arm: `runs.json` has each run's config and
provenance, the tables have the evaluations, and the metrics averaged over each rollout's updates, which is how the
claims read them. Every optimizer step is in the record's own folder.
"""

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from repro.book import fragments, looks, panels
from repro.book.zipped import zipped
from repro.runs import Run
from repro.runs.profiles import Profile

FOLDER = "records"
GROUPS = {
    "collapse": "Plain GRPO, long",
    "law": "Algorithms and training data",
    "size": "Sizes of policy",
    "probe": "On-policy, every step probed",
    "rate": "Learning rates, probed",
    "fixes": "The fixes and their baselines",
    "coefficients": "Coefficients and fractions",
    "controls": "Clips, tokens, pools and random rewards",
    "targets": "Entropy held at a target",
    "updates": "Updates per rollout",
    "explore": "Something to explore",
    "single": "A single strategy",
    "search_plain": "Countdown: plain GRPO",
    "search": "Countdown: the methods and their baselines",
    "search_slow": "Countdown: GRPO at half the learning rate",
    "search_higher": "Countdown: clip-higher",
    "search_more": "Countdown: narrow doses",
    "search_long": "Countdown: four times as long",
    "search_warm": "Countdown: evaluated at a higher temperature",
    "search_hot_plain": "Countdown: plain GRPO, rollouts at a higher temperature",
    "search_hot": "Countdown: KL-Cov and its baseline, rollouts at a higher temperature",
    "search_probe": "Countdown: on-policy, every step probed",
    "selection": "Countdown: which tokens, a hundredth of the gradient",
    "selection_more": "Countdown: other criteria, a hundredth of the gradient",
    "selection_fresh": "Countdown: covariance, chance and Clip-Cov's draw again, on fresh seeds",
    "selection_fiftieth": "Countdown: the largest covariances, a fiftieth of the gradient",
    "selection_tenth": "Countdown: two criteria, a tenth of the gradient",
}
# What a first look at a run needs; the Parquet file has the other metrics too.
CORE = (
    "entropy/response_mean",
    "entropy/token_mean",
    "covariance/mean",
    "reward",
    "completions/mean_length",
)
DIGITS = "%.4g"
BITS = 14
"""Of a number's binary digits, as many as its four decimal ones; they weigh on the site."""


def pages(profile: Profile, runs: Sequence[Run]) -> dict[str, bytes]:
    """The pages in MyST and the files that they offer, by their path in the book's source."""
    groups: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        arm = run.config.arm
        groups.setdefault(profile.arms[arm].group, {}).setdefault(arm, []).append(run)
    found: dict[str, bytes] = {}
    for group, arms in groups.items():
        plain = fragments.flat(runs[0])
        sections = [_section(arm, members, plain) for arm, members in arms.items()]
        title = f"# Records: {GROUPS.get(group, group)}\n"
        name = f"{group}-metrics.parquet"
        whole = f"All metrics of all arms: {{download}}`{name} </_generated/{FOLDER}/{name}>`.\n"
        found[f"{FOLDER}/{group}.md"] = "\n".join([title, _INTRODUCTION, whole, *sections]).encode()
        tables = [_metrics(members).assign(arm=arm) for arm, members in arms.items()]
        found[f"_generated/{FOLDER}/{name}"] = _parquet(pd.concat(tables, ignore_index=True))
        for arm, members in arms.items():
            found[f"_generated/{FOLDER}/{arm}.zip"] = zipped(_files(members))
    return found


_INTRODUCTION = """\
Each run below is in the repository's `results/` if it is marked as recorded, and else was made by this build, in
`build/runs/`, under the folder named. An arm's ZIP has three files. `runs.json` is every run's config and provenance:
commit, fingerprint of the code, versions, device, threads, seconds, checksums. The tables have every seed:
`evaluations.csv` a row per evaluation, `metrics.csv` a row per rollout, averaged over its updates, in nats and
fractions. Every optimizer step is in the folder's `metrics.parquet`.
"""


def _section(arm: str, runs: Sequence[Run], plain: dict[str, str]) -> str:
    changes = fragments.changes(plain, fragments.flat(runs[0])) or "nothing"
    files = f"{{download}}`configs, provenance, evaluations and metrics (ZIP) </_generated/{FOLDER}/{arm}.zip>`"
    header = ("Seed", "Folder", "Origin", "Commit", "Device", "Seconds", "Entropy", "Accuracy")
    table = fragments.list_table(header, map(_row, runs), "records")
    return f"(arm-{arm})=\n## {looks.name(arm)}\n\nArm `{arm}`. Changes: {changes}.\n\n{files}\n\n{table}"


def _row(run: Run) -> tuple[str, ...]:
    made = run.provenance
    return (
        str(run.config.seed),
        f"`{run.path.name}`",
        panels.mark([run]),
        f"`{(made['commit'] or 'none')[:9]}`{' and uncommitted changes' if made['dirty'] else ''}",
        f"{made['device_name']} ({made['device']}), {made['started'][:10]}",
        f"{made['seconds']:.0f}",
        f"{run.metrics['entropy/response_mean'].iloc[-1]:.3f}",
        f"{100 * run.evaluations['accuracy/mean'].iloc[-1]:.1f} %",
    )


def _files(runs: Sequence[Run]) -> dict[str, bytes]:
    told = [{"name": run.name, "config": run.config.to_dict(), "provenance": run.provenance} for run in runs]
    evaluations = _seeds(runs, [run.evaluations for run in runs])
    metrics = _metrics(runs)
    core = [name for name in ("seed", "step", *CORE) if name in metrics]
    return {
        "runs.json": (json.dumps(told, separators=(",", ":")) + "\n").encode(),
        "evaluations.csv": _csv(evaluations),
        "metrics.csv": _csv(metrics[core]),
    }


def _metrics(runs: Sequence[Run]) -> pd.DataFrame:
    return _seeds(runs, [by_rollout(run) for run in runs])


def by_rollout(run: Run) -> pd.DataFrame:
    """A run's metrics, a row per rollout: means over its updates; `step` is its first optimizer step."""
    updates = run.config.updates_per_rollout
    rollout = (run.metrics["step"] - 1) // updates
    means = run.metrics.groupby(rollout.to_numpy()).mean(numeric_only=True)
    return means.assign(step=means.index * updates + 1)


def _seeds(runs: Sequence[Run], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    parts = [table.assign(seed=run.config.seed) for run, table in zip(runs, tables, strict=True)]
    whole = pd.concat(parts, ignore_index=True)
    return whole[["seed", "step", *(name for name in whole if name not in ("seed", "step"))]]


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, float_format=DIGITS).encode()


def _rounded(numbers: pd.Series) -> np.ndarray:
    fractions, exponents = np.frexp(numbers.to_numpy())
    return np.ldexp(np.rint(np.ldexp(fractions, BITS)), exponents - BITS).astype(np.float32)


def _parquet(table: pd.DataFrame) -> bytes:
    """A table as Parquet, its numbers in single precision and rounded to `BITS`, as the last digits are what weighs.

    Without pandas' and Arrow's copies of the schema, and without statistics, which a file so small does not need.
    """
    floats = table.select_dtypes("floating").columns
    sink: Any = io.BytesIO()
    content = pa.Table.from_pandas(
        table.assign(**{name: _rounded(table[name]) for name in floats}), preserve_index=False
    )
    pq.write_table(
        content,
        sink,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        use_byte_stream_split=list(floats) or False,
        write_statistics=False,
        store_schema=False,
    )
    return sink.getvalue()
