r"""PRIME's implicit process reward model, trained online on outcomes (arXiv:2502.01456).

A causal language model phi, started as a copy of the policy, gives every token the reward

    r_t = beta * (log pi_phi(y_t | y_<t) - log pi_ref(y_t | y_<t)),                                       (Eq. 3)

where ref is the policy at the start, frozen, and is trained on each rollout so that sigmoid(sum_t r_t) predicts whether
the completion was right: binary cross-entropy, one optimizer step per rollout. Where we differ from the authors' code:

1. A rollout is scored before the model is trained on it (the order of the paper's Algorithm 1, which saves a forward).
2. Log-probabilities are at the sampling temperature, as everywhere in TRL; the paper samples at 1.
3. The leave-one-out baseline is that of Eq. 5; the released code also scales each token's reward by n / (n - 1).
4. Process and outcome rewards have equal weight (the released code: 5 and 5, a factor that the whitening cancels).
5. Prompts whose completions are all right or all wrong are kept, unless ``filter_groups`` drops them.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from repro.errors import ConfigError

LogProbs = Callable[[nn.Module, dict[str, Any]], Tensor]
"""Log-probabilities of a batch's completions under a model: ``[B, T]`` in nats."""


class ImplicitRewardModel:
    """The reward model, its frozen reference and its optimizer.

    Args:
        policy: the policy at the start of training; copied twice.
        log_probs: how completions are scored; called with and without gradient.
        beta: scale of the reward.
        learning_rate: of AdamW, constant, without weight decay.
        batch_size: sequences per forward pass.
    """

    def __init__(
        self, policy: nn.Module, log_probs: LogProbs, *, beta: float, learning_rate: float, batch_size: int
    ) -> None:
        # A deep copy keeps requires_grad, so of a policy with adapters only the adapters are trained.
        self.model = copy.deepcopy(policy).eval()
        self.reference = copy.deepcopy(policy).eval().requires_grad_(False)
        self.log_probs, self.beta, self.batch_size = log_probs, beta, batch_size
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=learning_rate, weight_decay=0.0)

    def to(self, device: torch.device) -> None:
        """Move both models; cheap where they are there already."""
        self.model.to(device)
        self.reference.to(device)

    def score_and_learn(self, batch: dict[str, Any], mask: Tensor, outcomes: Tensor, total: Tensor) -> Tensor:
        """Token rewards of this rank's part of a rollout, and one training step on its outcomes.

        Args:
            batch: a rollout, as ``log_probs`` takes it.
            mask: ``[B, T]``, 0/1: the tokens that are scored.
            outcomes: ``[B]`` between 0 (wrong) and 1 (right); NaN where unscored, which is not learned from.
            total: 0-d: scored sequences on all ranks.

        Returns:
            ``[B, T]``, 0 where masked, from the model as it was before the step.

        Raises:
            ConfigError: for an outcome outside [0, 1].
        """
        outside = (outcomes < 0) | (outcomes > 1)
        if outside.any():
            raise ConfigError(
                f"advantage_estimator='prime' learns from outcomes between 0 and 1, but a reward is "
                f"{outcomes[outside][0].item()}: use a reward function that gives 1 for right and 0 for wrong"
            )
        rewards = []
        for start in range(0, len(mask), self.batch_size):
            rows = slice(start, start + self.batch_size)
            part = {name: value[rows] if _has_rows(value, len(mask)) else value for name, value in batch.items()}
            with torch.no_grad():
                reference = self.log_probs(self.reference, part)
            reward = self.beta * (self.log_probs(self.model, part) - reference) * mask[rows]
            scored = ~outcomes[rows].isnan()
            losses = F.binary_cross_entropy_with_logits(
                reward.sum(1), outcomes[rows].nan_to_num(nan=0.0), reduction="none"
            )
            (torch.where(scored, losses, 0.0).sum() / total.clamp(min=1)).backward()
            rewards.append(reward.detach())
        if dist.is_initialized():
            for parameter in self.parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return torch.cat(rewards)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs; the reference is the initial policy and is made again from that."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def _has_rows(value: Any, rows: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == rows
