"""Tasks: problems, what counts as solving one, and the demonstrations that a base policy learns from.

A task is an object that has what :class:`repro.tasks.task.Task` lists. Its own module makes it; a line in ``TASKS``
gives it a name. Importing this package is light: a task's module is imported when the task is asked for.
"""

import pkgutil

from repro.errors import ConfigError
from repro.tasks.rewards import AccuracyReward, RandomReward
from repro.tasks.task import Task

__all__ = ["TASKS", "AccuracyReward", "RandomReward", "Task", "get_task"]

TASKS = {
    "arithmetic": "repro.tasks.arithmetic:ARITHMETIC",
    "arithmetic_easy": "repro.tasks.arithmetic:EASY",
    "arithmetic_hard": "repro.tasks.arithmetic:HARD",
    "countdown": "repro.tasks.countdown:COUNTDOWN",
    "countdown_long": "repro.tasks.countdown:LONG",
}
"""Name -> module and object."""


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ConfigError: when there is none, naming those there are.
    """
    if name not in TASKS:
        raise ConfigError(f"task={name!r} is unknown; the tasks are {', '.join(sorted(TASKS))}")
    return pkgutil.resolve_name(TASKS[name])
