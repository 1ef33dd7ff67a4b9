"""Train one run: a config in, its measurements out, nothing written but a scratch folder."""

import difflib
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd
import torch
from transformers import PrinterCallback, TrainerCallback

from repro.errors import ConfigError
from repro.policies.base import load_base
from repro.policies.sampling import sample_tokens
from repro.runs.config import RunConfig
from repro.runs.evaluation import evaluate
from repro.seeds import derive_seed
from repro.tasks import get_task
from repro.tasks.arithmetic import RandomReward, accuracy_reward
from repro.trainer import CovGRPOConfig, CovGRPOTrainer
from repro.trainer.probe import ProbeCallback, States

OnStep = Callable[[int, int, float, float | None], None]
"""Called after each optimizer step with step, steps, entropy (nats per token) and the latest accuracy."""

TOKEN_SAMPLES = 12
"""How often in a run a sample of tokens is kept, at even distances from the first step on."""

# Trainer log name -> column of the record.
COLUMNS = {
    "reward": "reward/mean",
    "frac_reward_zero_std": "reward/groups_without_spread",
    "completions/mean_length": "completion_length/mean",
    "completions/clipped_ratio": "completion_length/truncated",
}

# Of TRL's sampler, in whose place ours draws from the policy's own distribution.
SAMPLER_FIELDS = (
    *("top_p", "top_k", "min_p", "repetition_penalty", "generation_kwargs", "cache_implementation"),
    *("use_vllm", "use_transformers_paged"),
)

# Named twice by the trainer, the same in every row, or not the same in a repeated run.
UNRECORDED = ("rewards/", "reward_std", "completions/", "epoch", "num_tokens", "learning_rate", "step_time")


@dataclass(frozen=True)
class Trained:
    """Measurements of a run: one row per optimizer step, per evaluation, per sampled token, per probed step.

    ``timing`` is where the time went, in seconds: ``generation``, ``scoring`` (of a rollout: log-probabilities of the
    sampling policy, rewards, advantages, selection), ``update`` (forward and backward passes),
    ``evaluation``, ``probe`` and ``other`` (the optimizer too); and ``generated_tokens``, how many the rollouts have.
    """

    metrics: pd.DataFrame
    evaluations: pd.DataFrame
    tokens: pd.DataFrame
    probe: pd.DataFrame
    timing: Mapping[str, float]


class Stopwatch:
    """Seconds by phase. Phases nest; the time of an inner one is not counted in the outer one."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running: list[str] = []
        self._since = 0.0

    def _lap(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self._lap()
        self._running.append(phase)
        try:
            yield
        finally:
            self._lap()
            self._running.pop()


class _StudyTrainer(CovGRPOTrainer):
    """The trainer, with a faster sampler for small policies and a stopwatch."""

    def __init__(self, *args: Any, stopwatch: Stopwatch, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stopwatch = stopwatch
        self.generated_tokens = 0
        self.micro_batch: dict[str, Any] = {}
        """What the latest loss was taken over."""

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any):
        with self.stopwatch("generation"):
            completions = sample_tokens(
                self.model,
                prompt_ids[:: self.num_generations],
                self.num_generations,
                temperature=self.temperature,
                max_new_tokens=self.max_completion_length,
                eos=self.processing_class.eos_token_id,
                pad=self.processing_class.pad_token_id,
            )
        self.generated_tokens += sum(map(len, completions))
        return completions, None

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        with self.stopwatch("scoring"):
            return super()._generate_and_score_completions(inputs)

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        self.micro_batch = inputs
        return super()._compute_loss(model, inputs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self.stopwatch("update"):
            return super().training_step(*args, **kwargs)


class _Recorder(TrainerCallback):
    """Collects the log of every optimizer step and evaluates at fixed steps."""

    def __init__(self, config: RunConfig, stopwatch: Stopwatch, on_step: OnStep | None) -> None:
        self.config, self.stopwatch, self.on_step = config, stopwatch, on_step
        self.metrics: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []
        task = get_task(config.task)
        self.problems = task.dataset("validation", derive_seed("validation", "arithmetic"), config.eval_prompts)

    def _evaluate(self, step: int, model: Any, processing_class: Any) -> None:
        config = self.config
        with self.stopwatch("evaluation"):
            result = evaluate(
                model,
                processing_class,
                self.problems,
                samples=config.eval_samples_last if step == config.max_steps else config.eval_samples,
                temperature=config.eval_temperature,
                max_completion_length=config.max_completion_length,
                seed=derive_seed("evaluation", config.seed, step),
            )
        self.evaluations.append({"step": step, **result})

    def on_train_begin(self, args, state, control, model=None, processing_class=None, **_):
        self._evaluate(0, model, processing_class)

    def on_step_end(self, args, state, control, model=None, processing_class=None, **_):
        if state.global_step % self.config.eval_steps == 0 or state.global_step == self.config.max_steps:
            self._evaluate(state.global_step, model, processing_class)

    def on_log(self, args, state, control, logs=None, **_):
        if "entropy/response_mean" not in logs:
            return
        row = {
            COLUMNS.get(name, name): value
            for name, value in logs.items()
            if name in COLUMNS or not name.startswith(UNRECORDED)
        }
        self.metrics.append({"step": state.global_step, **row})
        if self.on_step is not None:
            accuracy = self.evaluations[-1]["accuracy/mean"]
            self.on_step(state.global_step, self.config.max_steps, row["entropy/response_mean"], accuracy)


class _TimedProbe(ProbeCallback):
    """A probe whose time is not counted as training."""

    def __init__(self, *args: Any, stopwatch: Stopwatch, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stopwatch = stopwatch

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any):
        with self.stopwatch("probe"):
            super().on_pre_optimizer_step(*args, **kwargs)

    def on_optimizer_step(self, *args: Any, **kwargs: Any):
        with self.stopwatch("probe"):
            super().on_optimizer_step(*args, **kwargs)


def trainer_config(config: RunConfig, output_dir: str) -> CovGRPOConfig:
    """The trainer's configuration for a run: constant learning rate and no weight decay, as the authors' scripts.

    Raises:
        ConfigError: when ``config.trainer`` names a field that is unknown, one that the run's own fields decide, or one
            of TRL's sampler, which is not used.
    """
    sequences = config.prompts_per_rollout * config.num_generations
    decided = {
        "output_dir": output_dir,
        "seed": derive_seed("training", config.seed),
        "data_seed": derive_seed("data order", config.seed),
        "max_steps": config.max_steps,
        "per_device_train_batch_size": sequences // config.steps_per_generation,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "steps_per_generation": config.steps_per_generation,
        "num_generations": config.num_generations,
        "max_completion_length": config.max_completion_length,
        "temperature": config.temperature,
        "learning_rate": config.learning_rate,
        "epsilon": config.epsilon,
        "epsilon_high": config.epsilon_high,
        "scale_rewards": config.scale_rewards,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "token_sample_every": max(1, config.max_steps // TOKEN_SAMPLES),
        "token_sample_size": sequences // config.updates_per_rollout,
    }
    defaults = {
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "beta": 0.0,
        "loss_type": "dapo",
        "activation_checkpointing": False,
        "bf16": False,
    }
    known = {field.name for field in fields(CovGRPOConfig) if field.init}
    for name in config.trainer:
        if name in decided:
            raise ConfigError(f"trainer field {name!r} is decided by the run's own fields; remove it from `trainer`")
        if name in SAMPLER_FIELDS:
            raise ConfigError(
                f"trainer field {name!r} would do nothing, because runs do not use TRL's sampler; remove it"
            )
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ", which has TRL's GRPOConfig's fields and its own"
            raise ConfigError(f"trainer field {name!r} is not one of CovGRPOConfig{hint}")
    return CovGRPOConfig(**(defaults | dict(config.trainer) | decided))


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
def train(config: RunConfig, *, on_step: OnStep | None = None) -> Trained:
    """Train one run from its base policy.

    Raises:
        BaseError: when the base policy is missing or damaged.
    """
    stopwatch = Stopwatch()
    with stopwatch("other"):
        return _train(config, stopwatch, on_step)


def _train(config: RunConfig, stopwatch: Stopwatch, on_step: OnStep | None) -> Trained:
    model, tokenizer = load_base(config.base)
    rollouts = -(-config.max_steps // config.updates_per_rollout)
    problems = get_task(config.task).dataset(
        "train", derive_seed("rollouts", config.seed), rollouts * config.prompts_per_rollout
    )
    recorder = _Recorder(config, stopwatch, on_step)
    rewards = {"accuracy": accuracy_reward, "random": RandomReward(derive_seed("random reward", config.seed))}
    with tempfile.TemporaryDirectory(prefix="repro-") as scratch, warnings.catch_warnings():
        # TRL 1.16 asks the model by the name that transformers 5.23 has deprecated; nobody but TRL can mend that.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        trainer = _StudyTrainer(
            model=model,
            reward_funcs=rewards[config.reward],
            args=trainer_config(config, scratch),
            train_dataset=problems,
            processing_class=tokenizer,
            callbacks=[recorder],
            stopwatch=stopwatch,
        )
        trainer.remove_callback(PrinterCallback)
        probe = _TimedProbe(
            lambda: States.of(trainer.micro_batch),
            every=max(1, config.probe_every),
            temperature=config.temperature,
            stopwatch=stopwatch,
        )
        if config.probe_every:
            trainer.add_callback(probe)
        trainer.train()
    return Trained(
        pd.DataFrame(recorder.metrics),
        pd.DataFrame(recorder.evaluations),
        trainer.sampled_tokens(),
        probe.frame(),
        {**stopwatch.seconds, "generated_tokens": trainer.generated_tokens},
    )
