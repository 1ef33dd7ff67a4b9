"""Prompts, exact verifiers and rewards, and the strategies that a base policy learns."""

from repro.tasks.arithmetic import TASKS, ArithmeticTask, Problem, RandomReward, accuracy_reward, get_task, verify
from repro.tasks.strategies import MIXTURES, Mixture, Strategy

__all__ = [
    "MIXTURES",
    "TASKS",
    "ArithmeticTask",
    "Mixture",
    "Problem",
    "RandomReward",
    "Strategy",
    "accuracy_reward",
    "get_task",
    "verify",
]
