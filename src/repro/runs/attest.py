"""Replay the first steps of stale records: where all numbers agree, none would change, and the record is current.

Bits agree between processors of one kind only. On another machine a disagreement may be the machine's; what is
attested is right on any, because it says of the code that it computed these bits once. Where a record is another
machine's, a checkout of its code, or of code attested for it, can take its place: both codes then replay it here.
"""

import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pandas as pd

from repro.errors import RecordError
from repro.paths import results_dir
from repro.runs import attestations
from repro.runs.config import RunConfig
from repro.runs.profiles import Profile
from repro.runs.provenance import environment
from repro.runs.record import Run, find

TABLES = ("metrics", "evaluations", "probe")


Replay = Callable[[RunConfig, int], Mapping[str, pd.DataFrame]]

# What a checkout of other code is asked to do: replay a config, and name the code that did.
ELSEWHERE = """
import json, sys
from pathlib import Path
from repro.runs.attest import first_steps
from repro.runs.config import RunConfig
from repro.runs.fingerprint import code_fingerprint
config, device, steps, folder = json.loads(sys.stdin.read())
config = RunConfig.from_dict(config)
tables = first_steps(config, steps)
for name, table in tables.items():
    table.to_pickle(Path(folder) / name)
(Path(folder) / "code").write_text(code_fingerprint(config, device))
"""


class Replayed(NamedTuple):
    """An arm whose record was replayed: the columns that agree, or the first difference."""

    arm: str
    columns: tuple[str, ...]
    difference: str


def attest(
    profile: Profile, steps: int, *, cores: int = 1, replay: Replay | None = None, against: Path | None = None
) -> Iterator[Replayed]:
    """Replay a record of every arm of a profile whose records are stale, and write down those that agree.

    Every arm is written down when it is done, so that a call that was cut short goes on where it was.

    Args:
        profile: whose records.
        steps: optimizer steps to replay, or all of a shorter run.
        cores: processes, of which each replays several arms.
        replay: in place of :func:`first_steps`.
        against: a checkout of the code that the records are of, whose numbers here stand for the records'.

    Raises:
        RecordError: the checkout cannot replay a run.
    """
    waiting = list(_to_replay(profile, alike=against is not None))
    replay = replay or first_steps
    if cores == 1 or len(waiting) < 2:
        for runs in waiting:
            yield from _settled(runs, replay(runs[0].config, steps), steps, against)
        return
    # Spawned, because torch does not survive a fork; the import of torch is what a process costs.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(cores, len(waiting)), mp_context=context) as pool:
        jobs = {pool.submit(replay, runs[0].config, steps): runs for runs in waiting}
        try:
            for job in as_completed(jobs):
                yield from _settled(jobs[job], job.result(), steps, against)
        finally:
            pool.shutdown(cancel_futures=True)


def first_steps(config: RunConfig, steps: int) -> dict[str, pd.DataFrame]:
    """What the first steps of a run measure under today's code; the run ends there, and nothing is recorded."""
    from repro.runs import memory
    from repro.runs.training import train

    memory.settle()
    trained = train(config, on_step=lambda step, *_: step >= steps)
    return {table: getattr(trained, table) for table in TABLES}


def _to_replay(profile: Profile, *, alike: bool) -> Iterator[list[Run]]:
    """A stale record for each arm and each code that it was recorded with; those of one arm together where `alike`."""
    device = "cuda" if _has_cuda() else "cpu"
    found: dict[tuple[str, str], Run] = {}
    for config in profile.own.all_configs():
        looked = find(config)
        if looked.status == "stale":
            run = Run(config, looked.path)
            if run.provenance["device"] == device:
                found.setdefault((config.kind, run.provenance["code"]), run)
    groups: dict[tuple[str, ...], list[Run]] = {}
    for (kind, code), run in found.items():
        groups.setdefault((kind,) if alike else (kind, code), []).append(run)
    yield from groups.values()


def _settled(
    runs: Sequence[Run], replayed: Mapping[str, pd.DataFrame], steps: int, against: Path | None
) -> Iterator[Replayed]:
    """Compare a replay of the first run with its record, or with another code's replay, and write an agreement down.

    Two codes that agree on a run agree for every record of its arm, by whatever code, that the other one speaks for.
    """
    run = runs[0]
    then = run if against is None else _elsewhere(run, steps, against)
    columns, difference = compare(then, replayed, steps)
    for code in (one.provenance["code"] for one in runs):
        other = code if against is None else then.code
        if other != code and not attestations.is_attested(results_dir(), run.config, code, other):
            reason = (
                f"{against} has code {other}, which neither computed the record, as {code} did, nor is attested for it"
            )
            yield Replayed(run.config.arm, (), reason)
            continue
        if not difference:
            how = {"replayed": "new" if against is None else "both"} | ({} if other == code else {"through": other})
            agreed = {"old": code, "steps": min(steps, run.config.max_steps), "columns": list(columns), **how}
            attestations.add(results_dir(), agreed | _made(run.config))
        yield Replayed(run.config.arm, columns, difference)


def _made(config: RunConfig) -> dict[str, Any]:
    """Which run was replayed just now, by what code, when and on which machine."""
    made = environment(config)
    made |= {"arm": config.arm, "kind": config.kind, "record": config.folder, "new": made.pop("code")}
    return made | {"date": datetime.now(UTC).isoformat(timespec="seconds")}


def _elsewhere(run: Run, steps: int, checkout: Path) -> SimpleNamespace:
    """The tables that the code of another checkout measures here, and its fingerprint, ``code``."""
    with tempfile.TemporaryDirectory(prefix="repro-") as folder:
        question = [run.config.to_dict(), run.provenance["device"], steps, folder]
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE],
            input=json.dumps(question),
            env=os.environ | {"PYTHONPATH": str(checkout.resolve() / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
            raise RecordError(f"the code in {checkout} cannot replay {run.name}: {last}")
        tables = {name: pd.read_pickle(Path(folder) / name) for name in TABLES}
        return SimpleNamespace(code=(Path(folder) / "code").read_text(), **tables)


def compare(
    run: Run | SimpleNamespace, replayed: Mapping[str, pd.DataFrame], steps: int
) -> tuple[tuple[str, ...], str]:
    """Columns of a record whose first steps a replay has bit for bit, and the first difference: empty for none.

    Columns that the record does not have are no difference: what it holds is what is attested. Nor are columns that it
    has no number of yet, for pass@k of many k is measured at the end only.
    """
    agreed = []
    for table in TABLES:
        then, now = (_until(steps, frame) for frame in (getattr(run, table), replayed[table]))
        if len(then) != len(now):
            return (), f"{table}: {len(then)} rows up to step {steps} are recorded, and {len(now)} now"
        for column in then if len(then) else ():
            if column not in now and then[column].isna().all():
                continue  # as pass@64, which is measured at the end
            if column not in now:
                return (), f"{table}: column {column!r} is recorded, and not measured now"
            for step, old, new in zip(then["step"], then[column], now[column], strict=True):
                if old != new and not (_is_nan(old) and _is_nan(new)):
                    return (), f"step {step}, column {column!r} of {table}: recorded {old!r}, now {new!r}"
            agreed.append(f"{table}/{column}")
    return tuple(agreed), ""


def _until(steps: int, table: pd.DataFrame) -> pd.DataFrame:
    return table[table["step"] <= steps] if len(table) else table


def _is_nan(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
