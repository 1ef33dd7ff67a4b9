"""How long runs will take, by how long recorded ones took: measured rates, and nothing where none was measured.

A rate is seconds a completion, of training and of evaluation apart: the median over the records of one base policy,
task and kind of device, and of one pace where some have it. A median, because other work on a machine made some records
take several times as long as others of the same kind.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from repro.paths import results_dir, runs_dir
from repro.runs.config import RunConfig

NOT_TRAINING = ("evaluation", "generated_tokens")


class Work(NamedTuple):
    """What a run does, in completions: those that its optimizer steps learn from, and those of its evaluations."""

    trained: int
    evaluated: int


def work(config: RunConfig) -> Work:
    """The completions of a run; splits that its task holds out and further samples of evaluations are not counted."""
    trained = config.max_steps * config.prompts_per_rollout * config.num_generations // config.updates_per_rollout
    evaluations = len({*range(0, config.max_steps, config.eval_steps), config.max_steps})
    # One greedy completion a problem, beside the samples.
    samples = (evaluations - 1) * (config.eval_samples + 1) + config.eval_samples_last + 1
    return Work(trained, samples * config.eval_prompts)


class Pace(NamedTuple):
    """What else a completion's cost depends on: in how small parts it is learned from, and what is measured beside."""

    steps_per_generation: int
    gradient_accumulation_steps: int
    probe_every: int


def pace(config: RunConfig) -> Pace:
    """The pace of a run."""
    return Pace(*(getattr(config, name) for name in Pace._fields))


class Record(NamedTuple):
    """What a record says of its speed: its work, and the seconds that each part took."""

    base: str
    task: str
    pace: Pace
    device: str
    device_name: str
    work: Work
    training: float
    evaluation: float


@dataclass(frozen=True)
class Estimate:
    """Seconds that a run takes, on which device, by how many records."""

    seconds: float
    device_name: str
    records: int


def records(folders: Iterable[Path] | None = None) -> list[Record]:
    """The speed of every readable record that has it, of this machine and of the repository."""
    found = []
    for folder in folders or (runs_dir(), results_dir()):
        for path in sorted(folder.glob("*/provenance.json")):
            try:
                made = json.loads(path.read_bytes())
                config = RunConfig.from_dict(json.loads((path.parent / "config.json").read_bytes()))
                timing = made["timing"]
                training = sum(seconds for part, seconds in timing.items() if part not in NOT_TRAINING)
                speed = (made["device"], made["device_name"], work(config), training, timing["evaluation"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            found.append(Record(config.base, config.task, pace(config), *speed))
    return found


def estimate(config: RunConfig, device: str, known: Iterable[Record]) -> Estimate | None:
    """How long a run takes on ``cpu`` or ``cuda``; None where no record is of its base policy and task there."""
    kind = (config.base, config.task, device)
    alike = [one for one in known if (one.base, one.task, one.device) == kind]
    alike = [one for one in alike if one.pace == pace(config)] or alike
    if not alike:
        return None
    mine = work(config)
    rates = (
        median(one.training / one.work.trained for one in alike),
        median(one.evaluation / one.work.evaluated for one in alike),
    )
    names = sorted({one.device_name for one in alike})
    return Estimate(mine.trained * rates[0] + mine.evaluated * rates[1], ", ".join(names), len(alike))
