"""The trainer as runs use it."""

from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from repro.policies.sampling import sample_tokens
from repro.runs.bucketed import BucketedForward
from repro.runs.stopwatch import Stopwatch
from repro.trainer import CovGRPOTrainer


class Rows(list):
    """Rows of a data set, with nothing in them that belongs on a device."""

    def to(self, *args: Any, **kwargs: Any) -> "Rows":
        return self


class ReadOnce(Dataset):
    """A data set that keeps the rows it was asked for last.

    TRL's loader asks for a rollout's rows again at each of its updates, which do not look at them.
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows
        self._asked, self._last = [], Rows()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> Rows:
        if indices != self._asked:
            self._asked, self._last = indices, Rows(self.rows.__getitems__(indices))
        return self._last


class StudyTrainer(CovGRPOTrainer, BucketedForward):
    """The trainer, with a choice of samplers, forward passes in buckets and a stopwatch.

    Args:
        sampler: ``own``, the faster one for small policies, or ``trl``.
        stopwatch: times generation, scoring and updates.
    """

    def __init__(self, *args: Any, sampler: str, stopwatch: Stopwatch, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sampler, self.stopwatch = sampler, stopwatch
        self.generated_tokens = 0
        self.micro_batch: dict[str, Any] = {}
        """What the latest loss was taken over."""

    def _get_dataloader(self, dataset: Any, *args: Any, **kwargs: Any) -> DataLoader:
        return super()._get_dataloader(ReadOnce(dataset), *args, **kwargs)

    def state_dict(self) -> dict[str, int]:
        """What the trainer's own checkpoint does not have."""
        return {"generated_tokens": self.generated_tokens}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.generated_tokens = state["generated_tokens"]

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any):
        with self.stopwatch("generation"):
            if self.sampler == "own":
                completions, log_probs = self._sample(prompt_ids), None
            else:
                completions, log_probs = super()._generate_single_turn(prompt_ids, *args, **kwargs)
        self.generated_tokens += sum(map(len, completions))
        return completions, log_probs

    def _sample(self, prompt_ids: list[list[int]]) -> list[list[int]]:
        return sample_tokens(
            self.model,
            prompt_ids[:: self.num_generations],
            self.num_generations,
            temperature=self.temperature,
            max_new_tokens=self.max_completion_length,
            eos=self.processing_class.eos_token_id,
            pad=self.processing_class.pad_token_id,
        )

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        with self.stopwatch("scoring"):
            return super()._generate_and_score_completions(inputs)

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        self.micro_batch = inputs
        return super()._compute_loss(model, inputs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self.stopwatch("update"):
            return super().training_step(*args, **kwargs)
