"""Accuracy of a policy on a fixed set of validation problems."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from scipy.special import comb
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from repro.tasks.arithmetic import verify


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Run a block under its own random seed and leave torch's generators as they were."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    *,
    temperature: float,
    max_completion_length: int,
) -> list[str]:
    """One completion a prompt, as text without special tokens; greedy where ``temperature`` is 0."""
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False).to(model.device)
    training = model.training
    model.eval()
    output = model.generate(
        **inputs,
        max_new_tokens=max_completion_length,
        do_sample=temperature > 0,
        temperature=temperature if temperature > 0 else None,
        top_k=0 if temperature > 0 else None,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        disable_compile=True,
    )
    model.train(training)
    return tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def pass_at_k(correct: np.ndarray, samples: int, k: int) -> float:
    """Unbiased estimate of the probability that one of ``k`` samples is right (Chen et al. 2021, section 2.1).

    Args:
        correct: [problems] correct samples of each problem.
        samples: samples drawn for each problem; at least ``k``.
    """
    return float(np.mean(1 - comb(samples - correct, k) / comb(samples, k)))


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Dataset,
    *,
    samples: int,
    temperature: float,
    max_completion_length: int,
    seed: int,
) -> dict[str, float]:
    """Accuracy on ``problems`` from ``samples`` completions each and from one greedy completion each.

    The random draws depend on ``seed`` alone, and the caller's generators are left untouched, so that evaluating more
    or less often does not change a training run.

    Returns:
        ``accuracy/mean`` (mean@k at ``temperature``), ``accuracy/greedy``, ``accuracy/pass@k`` for powers of two up to
        ``samples``, ``accuracy/level_<n>`` (mean@k of one difficulty), ``completion_length/mean`` in characters, and
        ``k``, the number of samples.
    """
    prompts, answers = list(problems["prompt"]), list(problems["answer"])
    with fixed_seed(seed):
        completions = sample(
            model,
            tokenizer,
            [prompt for prompt in prompts for _ in range(samples)],
            temperature=temperature,
            max_completion_length=max_completion_length,
        )
        greedy = sample(model, tokenizer, prompts, temperature=0, max_completion_length=max_completion_length)
    right = np.array(
        [verify(completion, answers[index // samples]) for index, completion in enumerate(completions)]
    ).reshape(len(prompts), samples)
    levels = pd.Series(right.mean(axis=1)).groupby(np.array(problems["level"])).mean()
    powers = [k for k in (2**power for power in range(1, 11)) if k <= samples]
    return {
        "accuracy/mean": float(right.mean()),
        "accuracy/greedy": float(np.mean([verify(text, answer) for text, answer in zip(greedy, answers, strict=True)])),
        **{f"accuracy/pass@{k}": pass_at_k(right.sum(axis=1), samples, k) for k in powers},
        **{f"accuracy/level_{level}": float(value) for level, value in levels.items()},
        "completion_length/mean": float(np.mean([len(completion) for completion in completions])),
        "k": samples,
    }
