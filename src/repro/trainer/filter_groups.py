r"""Rollouts of groups that teach something: DAPO's dynamic sampling (arXiv:2503.14476, section 3.2), which TRL lacks.

Where all completions of a prompt have the same reward every group-relative advantage is 0. With
``filter_groups=True`` such a group is dropped, and the rollout is refilled with the groups of further prompts, as the
paper does (arXiv:2505.22617, section 4.3). It works on the rewards alone, so with every method and advantage estimator.

*Where prompts come from.* The training set is one stream: pass after pass, each in the order that TRL's sampler has
for that epoch. A rollout takes the stream's next prompts until it is full, and the next rollout goes on behind the last
one used; prompts that were sampled beyond it go back into the stream. So in each pass every prompt is trained on or
dropped, none is skipped and none comes twice, and a checkpoint holds the place. Where nothing is dropped, and the
training set is a whole number of rollouts, training is that with ``filter_groups=False`` bit for bit. The price: TRL's
sampler only paces the steps, so ``num_train_epochs`` counts the steps of unfiltered epochs, in which more than that
many passes are made (``filter_groups/passes``).

*How often.* The first attempt samples as many prompts as the rollout has groups. Each further one samples those that
are missing over the share kept so far, at most a rollout. After ``filter_groups_max_attempts`` the rest is filled with
the earliest dropped groups: the batch keeps its shape, and the loss is TRL's own for such a rollout, in which these
groups have advantage 0 and count in the normalisation. A warning says so once, ``filter_groups/filled`` always.

*Over ranks.* Rewards are gathered, so every rank decides alike; completions move to the ranks that train on them, in
the order of the stream. Two ranks make the rollouts of one.

The curve to watch is ``filter_groups/reward``, since TRL's ``reward`` and ``frac_reward_zero_std`` are of the groups
trained on. TRL's ``completions/*`` and ``num_tokens`` are of all that was sampled.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from trl import GRPOTrainer

from repro.errors import ConfigError

METRICS = {
    ("filter_groups/kept",): "share of the sampled groups whose rewards differ",
    ("filter_groups/attempts", "filter_groups/prompts"): "rounds of sampling, and prompts that the rollout took out of "
    "the stream",
    ("filter_groups/filled",): "share of the rollout's groups that stayed without spread, the attempts being spent",
    ("filter_groups/reward",): "mean reward of all that was sampled, dropped groups included; TRL's `reward` is of the "
    "kept groups",
    ("filter_groups/passes",): "passes over the training set so far",
}
"""Metrics of each rollout and their meaning."""


def have_spread(rewards: Tensor, weights: Tensor, num_generations: int, *, summed: bool = True) -> Tensor:
    """Which groups have completions of different reward, bool ``[groups]``.

    Args:
        rewards: ``[N, functions]``, groups of ``num_generations`` neighbours; NaN where a function does not score.
        weights: ``[functions]``.
        num_generations: completions per prompt.
        summed: compare weighted sums; otherwise the rewards of each function that has a weight.
    """
    if summed:
        unscored = rewards.isnan().all(1)
        values = (rewards * weights).nansum(1).masked_fill(unscored, torch.nan).unsqueeze(1)
    else:
        values = rewards[:, weights != 0]
    groups = values.view(len(rewards) // num_generations, num_generations, -1)
    highest = groups.masked_fill(groups.isnan(), -math.inf).amax(1)
    lowest = groups.masked_fill(groups.isnan(), math.inf).amin(1)
    return (highest > lowest).any(1)


@lru_cache(maxsize=4)
def _order(size: int, seed: int | None, number: int) -> list[int]:
    """The order of pass ``number``, from 0, over ``size`` rows; with a seed, as TRL's ``RepeatSampler`` draws it."""
    if seed is None:
        return list(range(size))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        torch.randperm(size, generator=generator)
    return torch.randperm(size, generator=generator).tolist()


@dataclass
class PromptStream:
    """The rows of a training set, pass after pass.

    Args:
        size: rows.
        seed: of the order; None for the order of the rows.
        position: rows that were taken already, over all passes.
    """

    size: int
    seed: int | None
    position: int = 0

    def peek(self, count: int, *, skip: int = 0) -> list[int]:
        """The next ``count`` rows behind ``skip`` others, none taken."""
        start = self.position + skip
        return [_order(self.size, self.seed, i // self.size)[i % self.size] for i in range(start, start + count)]


@dataclass(frozen=True)
class Choice:
    """The groups of a rollout.

    Args:
        groups: their places among those sampled; first those with spread, in the order sampled.
        filled: how many at the end are without.
        used: sampled groups up to the last one that was needed.
        attempts: rounds of sampling.
    """

    groups: list[int]
    filled: int
    used: int
    attempts: int


def choose_groups(sample: Callable[[int], list[bool]], wanted: int, *, max_attempts: int, multiple: int = 1) -> Choice:
    """Sample until enough groups have spread, or the attempts are spent.

    Args:
        sample: samples so many further groups and says which of them have spread.
        wanted: groups of a rollout, a multiple of ``multiple``.
        max_attempts: calls of ``sample``, at least 1.
        multiple: ``sample`` takes multiples of this.
    """
    spread: list[bool] = []
    attempts = 0
    while attempts < max_attempts and sum(spread) < wanted:
        attempts, kept = attempts + 1, sum(spread)
        expected = math.ceil((wanted - kept) * len(spread) / max(kept, 1)) if spread else wanted
        spread += sample(math.ceil(min(expected, wanted) / multiple) * multiple)
    groups = [place for place, kept in enumerate(spread) if kept][:wanted]
    missing = wanted - len(groups)
    fillers = [place for place, kept in enumerate(spread) if not kept][:missing]
    return Choice(groups + fillers, missing, len(spread) if missing else groups[-1] + 1, attempts)


@dataclass
class Row:
    """A sampled completion, as TRL's ``_generate`` returns it, its example, and what reward functions log of it."""

    example: dict[str, Any]
    prompt_ids: list[int]
    completion_ids: list[int]
    completion: Any
    log_probs: list[float] | None
    logged: dict[str, Any]


@dataclass
class Rollout:
    """What is trained on: this rank's rows, and all ranks' rewards ``[N, functions]``."""

    rows: list[Row]
    rewards: Tensor


class GroupFilteringTrainer(GRPOTrainer):
    """TRL's ``GRPOTrainer`` with ``filter_groups``: chooses a rollout's groups and leaves the rest to TRL.

    The chosen completions and rewards are handed to TRL's own method where it would generate and score, so that
    log-probabilities, advantages and logs are those of the kept groups.
    """

    prompt_stream: PromptStream | None = None
    _chosen: Rollout | None = None
    _filling_warned = False

    def _begin_filtering(self) -> None:
        """Set ``prompt_stream`` where ``filter_groups`` is on.

        Raises:
            ConfigError: for a way of training that it does not support.
        """
        if not self.args.filter_groups:
            return
        unsupported = {
            "tools or environments": self.tools or self.environment_factories,
            "rollout_func": self.rollout_func,
            "images": self._is_vlm,
        }
        for what, present in unsupported.items():
            if present:
                raise ConfigError(f"filter_groups=True does not support {what}: train without them or leave it off")
        if not isinstance(self.train_dataset, Dataset):
            raise ConfigError(
                f"filter_groups=True draws further prompts from the training set, and a "
                f"{type(self.train_dataset).__name__} cannot be indexed: pass a datasets.Dataset"
            )
        self.prompt_stream = PromptStream(len(self.train_dataset), self.args.seed if self.shuffle_dataset else None)

    def _resume_filtering(self, checkpoint: str, position: int | None) -> None:
        """Go on behind the prompts that a checkpoint's run has taken; None where it did not filter."""
        if (position is None) != (self.prompt_stream is None):
            made, now = position is not None, self.prompt_stream is not None
            raise ConfigError(
                f"{checkpoint} was made with filter_groups={made} and this trainer has filter_groups={now}, which "
                f"takes its prompts in another order: resume with filter_groups={made}"
            )
        if position is not None:
            self.prompt_stream.position = position

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self.prompt_stream is None or not self.model.training:
            return super()._generate_and_score_completions(inputs)
        self._chosen = self._fill_rollout(len(inputs))
        for column in {column for row in self._chosen.rows for column in row.logged}:
            self._pending_extra_logs[column] = [row.logged.get(column) for row in self._chosen.rows]
        try:
            return super()._generate_and_score_completions([row.example for row in self._chosen.rows])
        finally:
            self._chosen = None

    def _generate(self, prompts: list[Any]) -> tuple:
        if self._chosen is None:
            return super()._generate(prompts)
        rows = self._chosen.rows
        log_probs = None if rows[0].log_probs is None else [row.log_probs for row in rows]
        return (
            [row.prompt_ids for row in rows],
            [row.completion_ids for row in rows],
            None,  # masks of tools
            [row.completion for row in rows],
            log_probs,
            {},  # fields of a rollout_func
            None,  # images
            [],
        )

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        return super()._calculate_rewards(*args, **kwargs) if self._chosen is None else self._chosen.rewards

    def _fill_rollout(self, local: int) -> Rollout:
        """Sample and choose the groups of a rollout of ``local`` rows on each rank."""
        size, ranks, rank = self.num_generations, self.accelerator.num_processes, self.accelerator.process_index
        wanted = local * ranks // size
        weights = self.reward_weights.to(self.accelerator.device)
        summed = self.args.multi_objective_aggregation == "sum_then_normalize"
        mine: dict[int, Row] = {}  # by place among the rows sampled on all ranks
        rewards: list[Tensor] = []

        def sample(count: int) -> list[bool]:
            done = sum(len(part) for part in rewards)
            share = count * size // ranks
            places = range(rank * share, (rank + 1) * share)
            groups = self.prompt_stream.peek(count, skip=done // size)
            rows, scored = self._sample_rows([groups[place // size] for place in places])
            mine.update(zip([done + place for place in places], rows, strict=True))
            rewards.append(scored)
            return have_spread(scored, weights, size, summed=summed).tolist()

        multiple = ranks // math.gcd(ranks, size)
        choice = choose_groups(sample, wanted, max_attempts=self.args.filter_groups_max_attempts, multiple=multiple)
        everything = torch.cat(rewards)
        self._log_filtering(choice, wanted, everything, weights, summed)
        self.prompt_stream.position += choice.used
        places = [group * size + index for group in choice.groups for index in range(size)]
        moved = dict(gather_object([(place, mine[place]) for place in places if place in mine]))
        rows = [moved[place] for place in places[rank * local : (rank + 1) * local]]
        return Rollout(rows, everything[places])

    def _sample_rows(self, indices: list[int]) -> tuple[list[Row], Tensor]:
        """Sample and score a completion for each of these rows of the training set; rewards are of all ranks."""
        dataset = self._remove_unused_columns(self.train_dataset, description="training")
        examples = [dataset[index] for index in indices]
        prompts = [example["prompt"] for example in examples]
        prompt_ids, completion_ids, _, completions, log_probs, *_ = self._generate(prompts)
        rewards = self._calculate_rewards(examples, prompts, completions, completion_ids)
        logged = dict(self._pending_extra_logs)
        self._pending_extra_logs.clear()
        rows = [
            Row(
                example,
                prompt_ids[place],
                completion_ids[place],
                completions[place],
                None if log_probs is None else log_probs[place],
                {column: values[place] for column, values in logged.items()},
            )
            for place, example in enumerate(examples)
        ]
        return rows, rewards

    def _log_filtering(self, choice: Choice, wanted: int, rewards: Tensor, weights: Tensor, summed: bool) -> None:
        spread = have_spread(rewards, weights, self.num_generations, summed=summed).float()
        scored = ~rewards.isnan().all(1)
        values = {
            "kept": spread.mean().item(),
            "attempts": choice.attempts,
            "prompts": choice.used,
            "filled": choice.filled / wanted,
            "reward": (rewards * weights).nansum(1)[scored].mean().item(),
            "passes": (self.prompt_stream.position + choice.used) / self.prompt_stream.size,
        }
        for name, value in values.items():
            self._metrics["train"][f"filter_groups/{name}"].append(value)
        if choice.filled and not self._filling_warned:
            self._filling_warned = True
            warnings.warn(
                f"filter_groups: after {choice.attempts} attempts, {choice.filled} of a rollout's {wanted} groups are "
                "still without different rewards and are trained on as they are, with advantage 0: raise "
                "filter_groups_max_attempts, or take prompts that the policy solves sometimes",
                stacklevel=2,
            )
