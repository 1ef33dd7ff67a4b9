"""Train one run: a config in, its measurements out, nothing written but checkpoints."""

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase, PrinterCallback

from repro import policies
from repro.errors import BaseError
from repro.policies.templates import in_template
from repro.runs import ranks, reporting, samplers, saving
from repro.runs.checkpointer import Checkpointer
from repro.runs.config import RunConfig
from repro.runs.options import Options
from repro.runs.recorder import OnStep, Recorder, TimedProbe
from repro.runs.stopwatch import Stopwatch
from repro.runs.study_trainer import StudyTrainer
from repro.runs.trainer_config import trainer_config
from repro.seeds import derive_seed
from repro.tasks import AccuracyReward, RandomReward, get_task
from repro.trainer.probe import States


@dataclass(frozen=True)
class Trained:
    """Measurements of a run: a row per optimizer step, evaluation, sampled token, probed step, kept answer.

    ``timing`` is where the time went, in seconds: ``generation``, ``scoring`` (of a rollout: log-probabilities of the
    sampling policy, rewards, advantages, selection), ``update`` (forward and backward passes),
    ``evaluation``, ``probe`` and ``other`` (the optimizer too); and ``generated_tokens``, how many the rollouts have.
    ``threads`` is how many computed.
    """

    metrics: pd.DataFrame
    evaluations: pd.DataFrame
    tokens: pd.DataFrame
    probe: pd.DataFrame
    answers: pd.DataFrame
    timing: Mapping[str, float]
    threads: int


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread, so that the bits of a result do not depend on how many cores a machine has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def train(
    config: RunConfig,
    *,
    on_step: OnStep | None = None,
    options: Options | None = None,
    checkpoints: Path | None = None,
) -> Trained:
    """Train one run from its base policy, or on from a checkpoint.

    Args:
        config: the run.
        on_step: called after each optimizer step.
        options: how it is carried out.
        checkpoints: a folder for them; the run goes on from the newest that is there. Without one there are none.

    Raises:
        BaseError: when the base policy is missing or damaged, or does not know the task's tokens.
        ConfigError: for settings that do not go together, or need a package that is not there.
    """
    stopwatch = Stopwatch()
    with stopwatch("other"):
        return _train(config, stopwatch, on_step, options or Options(), checkpoints)


def _check_vocabulary(config: RunConfig, tokenizer: PreTrainedTokenizerBase, prompt: str) -> None:
    """Refuse a policy that cannot read the task."""
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in tokenizer(prompt)["input_ids"]:
        raise BaseError(
            f"base policy {config.base!r} has no tokens for the prompt {prompt!r} of task {config.task!r}: choose a "
            "base that was trained on the task"
        )


def _train(
    config: RunConfig, stopwatch: Stopwatch, on_step: OnStep | None, options: Options, checkpoints: Path | None
) -> Trained:
    if ranks.several():
        ranks.check(config)
    samplers.check(config)
    reporting.check(options.report_to)
    if options.save_policy is not None:
        saving.check(saving.folder_of(options.save_policy, config))
    model, tokenizer = policies.load(config.base, config.policy, seed=derive_seed("adapters", config.seed))
    task = get_task(config.task)
    recorder = Recorder(config, stopwatch, on_step)
    rewards = {"accuracy": AccuracyReward(task), "random": RandomReward(derive_seed("random reward", config.seed))}
    if ranks.several():
        # Each process tosses a coin of its own.
        rewards["random"] = RandomReward(derive_seed("random reward", config.seed, ranks.index()))
    reward = rewards[config.reward]
    with ExitStack() as stack, warnings.catch_warnings():
        output = checkpoints or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="repro-")))
        # TRL 1.16 asks the model by names that transformers 5.23 has deprecated; nobody but TRL can mend that.
        warnings.filterwarnings("ignore", r"`(is_)?gradient_checkpointing\w*` is deprecated", FutureWarning)
        args = trainer_config(config, str(output))
        # Enough for every rollout to have prompts of its own, with filtering too.
        prompts = -(-config.max_steps // config.updates_per_rollout) * config.prompts_per_rollout
        prompts *= args.filter_groups_max_attempts if args.filter_groups else 1
        problems = task.dataset("train", derive_seed("rollouts", config.seed), prompts)
        problems = in_template(problems, config.policy.template, tokenizer)
        _check_vocabulary(config, tokenizer, problems["prompt"][0])
        trainer = StudyTrainer(
            model=model,
            reward_funcs=reward,
            args=args,
            train_dataset=problems,
            processing_class=tokenizer,
            callbacks=[recorder, *reporting.callbacks(options.report_to, config, args)],
            sampler=config.sampler,
            stopwatch=stopwatch,
        )
        trainer.remove_callback(PrinterCallback)
        probe = TimedProbe(
            lambda: States.of(trainer.micro_batch),
            every=max(1, config.probe_every),
            temperature=config.temperature,
            stopwatch=stopwatch,
        )
        if config.probe_every:
            trainer.add_callback(probe)
        start = None
        if checkpoints is not None:
            parts = {"recorder": recorder, "probe": probe, "stopwatch": stopwatch, "trainer": trainer}
            if isinstance(reward, RandomReward):
                parts["reward"] = reward
            checkpointer = Checkpointer(checkpoints, 60 * options.checkpoint_minutes, parts)
            start = checkpointer.resume()
            trainer.add_callback(checkpointer)
        trainer.train(resume_from_checkpoint=None if start is None else str(start))
        if options.save_policy is not None:
            policy = trainer.accelerator.unwrap_model(trainer.model)
            saving.save(policy, tokenizer, saving.folder_of(options.save_policy, config))
    return Trained(
        pd.DataFrame(recorder.metrics),
        pd.DataFrame(recorder.evaluations),
        trainer.sampled_tokens(),
        probe.frame(),
        pd.DataFrame(recorder.answers),
        {**stopwatch.seconds, "generated_tokens": trainer.generated_tokens},
        torch.get_num_threads(),
    )
