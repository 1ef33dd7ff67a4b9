"""What is measured while a run trains."""

import math
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from repro.policies.templates import in_template
from repro.runs import ranks
from repro.runs.config import RunConfig
from repro.runs.evaluation import evaluate
from repro.runs.stopwatch import Stopwatch
from repro.seeds import derive_seed
from repro.tasks import PublishedTask, get_task
from repro.tasks.task import Decoding
from repro.trainer.probe import ProbeCallback

OnStep = Callable[[int, int, float, float | None], bool | None]
"""Called after each optimizer step with step, steps, entropy (nats per token) and the latest accuracy; ends at True."""

VALIDATION = "validation"
"""The split whose columns have no prefix."""

# Named twice by the trainer, the same in every row, or not the same in a repeated run.
UNRECORDED = ("rewards/", "reward_std", "completions/", "epoch", "num_tokens", "learning_rate", "step_time")
RECORDED = ("completions/mean_length", "completions/clipped_ratio")
"""Of these all the same."""


class Recorder(TrainerCallback):
    """Collects the log of every optimizer step and evaluates at fixed steps.

    Splits that a task holds out are evaluated before the first step and after the last, with their name as a prefix;
    published benchmarks with their own temperature and number of samples, but for no more samples or problems than the
    run's config has.
    """

    def __init__(self, config: RunConfig, stopwatch: Stopwatch, on_step: OnStep | None) -> None:
        self.config, self.stopwatch, self.on_step = config, stopwatch, on_step
        self.metrics: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.task = get_task(config.task)
        self.problems = {
            split: self.task.dataset(split, derive_seed(split, self.task.family), config.eval_prompts)
            for split in (VALIDATION, *self.task.held_out)
        }

    def _evaluate(self, step: int, model: Any, processing_class: Any) -> None:
        config = self.config
        last = step == config.max_steps
        row: dict[str, Any] = {"step": step}
        if ranks.several():
            model = ranks.whole(model)
        for split, problems in self.problems.items():
            if split != VALIDATION and not (last or step == 0):
                continue
            temperature, samples = self._decoding(split, last)
            with self.stopwatch("evaluation"):
                result = evaluate(
                    model,
                    processing_class,
                    self.task,
                    in_template(problems, config.policy.template, processing_class),
                    samples=samples,
                    temperature=temperature,
                    max_completion_length=config.max_completion_length,
                    seed=derive_seed("evaluation", config.seed, step),
                    rollout_samples=config.eval_rollout_samples,
                    rollout_temperature=config.temperature,
                    keep=config.eval_answers,
                )
            row |= {name if split == VALIDATION else f"{split}/{name}": value for name, value in result.row.items()}
            self.answers += [{"step": step, "split": split, **answer} for answer in result.answers]
        self.evaluations.append(row)

    def _decoding(self, split: str, last: bool) -> Decoding:
        samples = self.config.eval_samples_last if last else self.config.eval_samples
        known = self.task.decodings.get(split) if isinstance(self.task, PublishedTask) else None
        if known is None:
            return Decoding(self.config.eval_temperature, samples)
        return Decoding(known.temperature, min(known.samples, samples))

    def state_dict(self) -> dict[str, Any]:
        """What is measured so far."""
        return {"metrics": self.metrics, "evaluations": self.evaluations, "answers": self.answers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.metrics, self.evaluations, self.answers = (state[name] for name in ("metrics", "evaluations", "answers"))

    def on_train_begin(self, args, state, control, model=None, processing_class=None, **_):
        if not self.evaluations:
            self._evaluate(0, model, processing_class)

    def on_step_end(self, args, state, control, model=None, processing_class=None, **_):
        if state.global_step % self.config.eval_steps == 0 or state.global_step == self.config.max_steps:
            self._evaluate(state.global_step, model, processing_class)

    def on_log(self, args, state, control, logs=None, **_):
        if "entropy/response_mean" not in logs:
            return
        row = {
            name: math.nan if value is None else value
            for name, value in logs.items()
            if name in RECORDED or not name.startswith(UNRECORDED)
        }
        self.metrics.append({"step": state.global_step, **row})
        if self.on_step is not None:
            accuracy = self.evaluations[-1]["accuracy/mean"]
            if self.on_step(state.global_step, self.config.max_steps, row["entropy/response_mean"], accuracy):
                control.should_training_stop = True


class TimedProbe(ProbeCallback):
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
