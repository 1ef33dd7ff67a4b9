"""What `make reproduce` would do: what is trained, where and for how long, and what is made again."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from repro.runs import executors, throughput
from repro.runs.config import RunConfig
from repro.runs.profiles import Profile
from repro.runs.record import Found
from repro.runs.workflow import would_make

Row = tuple[str, ...]
HEAD: Row = ("arm", "base", "task", "current", "to train", "device", "hours")
NOT_PAGES = ("site", "verdicts")


def plan(profile: Profile, *, executor: str = executors.LOCAL, gpus: int = 0) -> tuple[list[Row], list[str]]:
    """A table with a row per arm and base, and the lines to print below it. Nothing is trained.

    Raises:
        As :func:`repro.runs.workflow.would_make`.
    """
    runs, rules = would_make(profile, executor=executor, gpus=gpus)
    device = device_of(executor, gpus)
    rows, below = table(runs, device, throughput.records())
    below.append(f"executor: {executor}")
    notebooks = sorted(rule for rule in rules if not rule.startswith("train_") and rule not in NOT_PAGES)
    below.append(f"notebooks to execute: {', '.join(notebooks) or 'none'}")
    below.append(f"verdicts: {'computed again' if 'verdicts' in rules else 'as they are'}")
    below.append(f"pages: {'built again, all of them' if 'site' in rules else 'as they are'}")
    return rows, below


def device_of(executor: str, gpus: int) -> str:
    """``cuda`` or ``cpu``: what the jobs of an executor train on, which for ``local`` this machine decides."""
    if executor != executors.LOCAL:
        return "cuda" if gpus else "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def table(
    runs: Sequence[tuple[RunConfig, Found]], device: str, known: Sequence[throughput.Record]
) -> tuple[list[Row], list[str]]:
    """The rows, head first, and the sums: hours of what has a measured rate, and what has none."""
    groups: dict[tuple[str, str, str], list[tuple[RunConfig, Found]]] = defaultdict(list)
    for config, found in runs:
        groups[config.arm, config.base, config.task].append((config, found))
    rows, seconds, unknown, measured = [HEAD], 0.0, 0, Counter()
    # Arms that are the same run share a record: it is trained once.
    seen: set[str] = set()
    for (arm, base, task), members in groups.items():
        lacking = [config for config, found in members if found.status != "current" and config.folder not in seen]
        shared = sum(found.status != "current" for _, found in members) - len(lacking)
        seen.update(config.folder for config in lacking)
        found = [throughput.estimate(config, device, known) for config in lacking]
        hours = "no record of this kind on this device"
        if None not in found:
            hours = _hours(sum(one.seconds for one in found)) if found else ""
            seconds += sum(one.seconds for one in found)
            measured.update(one.device_name for one in found)
        else:
            unknown += len(lacking)
        missing = f"{len(lacking)}" + (f" (+{shared} of another arm)" if shared else "")
        rows.append((arm, base, task, str(len(members) - len(lacking) - shared), missing, device, hours))
    kind = "GPU hours" if device == "cuda" else "core hours"
    below = [f"{len(seen)} of {len(runs)} runs to train"]
    if measured:
        names = "; ".join(sorted(measured))
        below.append(f"about {_hours(seconds)} {kind}, by the rates of records made on {names}")
    if unknown:
        below.append(f"{unknown} runs are of a kind that no record on {device} has, and are not in the hours")
    return rows, below


def _hours(seconds: float) -> str:
    """Two digits that count: '3.3', '0.055'."""
    hours = seconds / 3600
    return f"{hours:.2g}" if hours < 99.5 else f"{hours:.0f}"
