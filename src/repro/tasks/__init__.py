"""Tasks: problems, what counts as solving one, and the demonstrations that a base policy learns from.

A task is an object that has what :class:`repro.tasks.task.Task` lists. Its own module makes it; a line in ``TASKS``
gives it a name. Names with a prefix are of tasks that somebody else has the problems of: a line in ``SOURCES`` says who
makes a task of the rest of the name. Importing this package is light: a task's module is imported when the task is
asked for.
"""

import pkgutil

from repro.errors import ConfigError
from repro.tasks.rewards import AccuracyReward, RandomReward
from repro.tasks.task import PublishedTask, Task, TaughtTask

__all__ = [
    "SOURCES",
    "TASKS",
    "AccuracyReward",
    "PublishedTask",
    "RandomReward",
    "Task",
    "TaughtTask",
    "get_task",
    "identity",
]

TASKS = {
    "arithmetic": "repro.tasks.arithmetic:ARITHMETIC",
    "arithmetic_easy": "repro.tasks.arithmetic:EASY",
    "arithmetic_hard": "repro.tasks.arithmetic:HARD",
    "countdown": "repro.tasks.countdown:COUNTDOWN",
    "dapo_math": "repro.tasks.published:DAPO_MATH",
    "gsm8k": "repro.tasks.published:GSM8K",
    "math": "repro.tasks.published:MATH",
}
"""Name -> module and object."""
SOURCES = {
    "": "repro.tasks:named",
    "gym": "repro.tasks.gym:gym_task",
    "hub": "repro.tasks.own:on_the_hub",
    "local": "repro.tasks.own:on_this_machine",
}
"""Prefix -> module and function, which makes a task of the rest of the name."""


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ConfigError: when there is none, naming those there are; where a package that it needs is not installed.
        PinError: when it is one of files that are not pinned.
    """
    prefix, colon, rest = name.partition(":")
    if not colon:
        prefix, rest = "", name
    if prefix not in SOURCES or not rest or name.startswith(":"):
        known = ", ".join(f"{one}:" for one in SOURCES if one)
        raise ConfigError(f"task={name!r} is from an unknown source; the prefixes are {known}, and our tasks have none")
    return pkgutil.resolve_name(SOURCES[prefix])(rest)


def named(name: str) -> Task:
    """The task of a name in ``TASKS``."""
    if name not in TASKS:
        raise ConfigError(f"task={name!r} is unknown; the tasks are {', '.join(sorted(TASKS))}")
    return pkgutil.resolve_name(TASKS[name])


def identity(name: str) -> str:
    """Hexadecimal digits that differ whenever a task's published problems do; nothing for one that makes its own.

    Raises:
        PinError: when its problems are not pinned.
    """
    published = name.startswith(("hub:", "local:")) or TASKS.get(name, "").startswith("repro.tasks.published:")
    return get_task(name).identity() if published else ""
