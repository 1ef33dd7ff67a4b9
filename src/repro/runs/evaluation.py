"""Accuracy of a policy on a fixed set of validation problems."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from scipy.special import comb
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from repro.policies.sampling import sample_tokens
from repro.tasks import Task, TaughtTask
from repro.tasks.task import GradedTask

ROWS = 2048
"""Completions sampled side by side."""

KEPT_SAMPLES = 3
"""Sampled answers that are kept of a problem."""


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Run a block under its own random seed and leave torch's generators as they were."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


class Completions(NamedTuple):
    """Texts without special tokens, and how many tokens each was sampled as, without these."""

    texts: list[str]
    lengths: list[int]


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    samples: int = 1,
    *,
    temperature: float,
    max_completion_length: int,
) -> Completions:
    """``samples`` completions of each prompt in a row; greedy at temperature 0."""
    encoded = tokenizer(prompts, return_attention_mask=False, return_token_type_ids=False)["input_ids"]
    chunk = max(1, ROWS // samples)
    tokens = [
        completion
        for start in range(0, len(encoded), chunk)
        for completion in sample_tokens(
            model,
            encoded[start : start + chunk],
            samples,
            temperature=temperature,
            max_new_tokens=max_completion_length,
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
        )
    ]
    special = set(tokenizer.all_special_ids)
    lengths = [sum(token not in special for token in completion) for completion in tokens]
    return Completions(tokenizer.batch_decode(tokens, skip_special_tokens=True), lengths)


def _lengths(completions: Completions, task: Task) -> list[int]:
    """In tokens of the task where it has some, else of the policy."""
    if not isinstance(task, TaughtTask):
        return completions.lengths
    return [len(text.split(task.separator)) if task.separator else len(text) for text in completions.texts]


def _lenient(task: Task, completions: list[str], answers: list[str]) -> dict[str, float]:
    """What a task that grades says beside right and wrong: shares of all completions."""
    if not isinstance(task, GradedTask):
        return {}
    grades = [task.grade(*pair) for pair in zip(completions, answers, strict=True)]
    return {
        "accuracy/lenient": float(np.mean([one.lenient_right for one in grades])),
        "accuracy/undecided": float(np.mean([one.undecided for one in grades])),
    }


def pass_at_k(correct: np.ndarray, samples: int, k: int) -> float:
    """Unbiased estimate of the probability that one of ``k`` samples is right (Chen et al. 2021, section 2.1).

    Args:
        correct: [problems] correct samples of each problem.
        samples: samples drawn for each problem; at least ``k``.
    """
    return float(np.mean(1 - comb(samples - correct, k) / comb(samples, k)))


class Evaluation(NamedTuple):
    """``row`` has the accuracies; ``answers`` has a row per answer that is kept, in words."""

    row: dict[str, float]
    answers: list[dict[str, Any]]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    problems: Dataset,
    *,
    samples: int,
    temperature: float,
    max_completion_length: int,
    seed: int,
    rollout_samples: int = 0,
    rollout_temperature: float = 1.0,
    keep: int = 0,
) -> Evaluation:
    """Accuracy on ``problems`` of a task from ``samples`` completions each and from one greedy completion each.

    The random draws depend on ``seed`` alone, and the caller's generators are left untouched, so that evaluating more
    or less often does not change a training run.

    Args:
        samples, temperature: the k of mean@k and pass@k, and how they are decoded.
        rollout_samples, rollout_temperature: further completions of each problem, sampled as rollouts are; 0 for none.
        keep: of how many problems, the first ones, the greedy answer and the first `KEPT_SAMPLES` samples are kept.

    Returns:
        The row: ``accuracy/mean`` (mean@k at ``temperature``; of a task that grades, by the strict score),
        ``accuracy/greedy``, ``accuracy/pass@k`` for powers of two up to ``samples``, ``accuracy/rollout``
        (mean@``rollout_samples`` at ``rollout_temperature``), ``accuracy/level_<n>`` (mean@k of one difficulty, where
        it is known), ``completion_length/mean`` in tokens of the task or, where it has none, of the policy, and ``k``,
        the number of samples. Of a task that grades also ``accuracy/lenient`` (mean@k) and ``accuracy/undecided``, the
        share of completions whose answer was not decided in time. The kept answers: ``problem`` (its number),
        ``decoding`` (``greedy`` or ``sampled``), ``prompt``, ``completion`` and ``correct``.
    """
    prompts, answers = list(problems["prompt"]), list(problems["answer"])

    def decode(count: int, temperature: float) -> Completions:
        return sample(
            model, tokenizer, prompts, count, temperature=temperature, max_completion_length=max_completion_length
        )

    def verified(completions: Completions) -> np.ndarray:
        count = len(completions.texts) // len(prompts)
        right = [task.verify(text, answers[index // count]) for index, text in enumerate(completions.texts)]
        return np.array(right).reshape(len(prompts), count)

    with fixed_seed(seed):
        completions = decode(samples, temperature)
        greedy = decode(1, 0) if temperature or samples > 1 else completions
        as_rollouts = decode(rollout_samples, rollout_temperature) if rollout_samples else None
    right, right_greedy = verified(completions), verified(greedy)
    levels = pd.Series(right.mean(axis=1)).groupby(np.array(problems["level"])).mean()
    powers = [k for k in (2**power for power in range(1, 11)) if k <= samples]
    row = {
        "accuracy/mean": float(right.mean()),
        "accuracy/greedy": float(right_greedy.mean()),
        **({"accuracy/rollout": float(verified(as_rollouts).mean())} if as_rollouts is not None else {}),
        **{f"accuracy/pass@{k}": pass_at_k(right.sum(axis=1), samples, k) for k in powers},
        **{f"accuracy/level_{level}": float(value) for level, value in levels.items()},
        **_lenient(task, completions.texts, [answer for answer in answers for _ in range(samples)]),
        "completion_length/mean": float(np.mean(_lengths(completions, task))),
        "k": samples,
    }
    kept = [
        {
            "problem": problem,
            "decoding": decoding,
            "prompt": prompts[problem],
            "completion": text,
            "correct": bool(good),
        }
        for problem in range(min(keep, len(prompts)))
        for decoding, texts, marks in (
            ("greedy", greedy.texts[problem : problem + 1], right_greedy[problem]),
            ("sampled", completions.texts[problem * samples : problem * samples + KEPT_SAMPLES], right[problem]),
        )
        for text, good in zip(texts, marks[:KEPT_SAMPLES], strict=False)
    ]
    return Evaluation(row, kept)
