r"""The entropy change of one optimizer step, exactly, beside what the paper predicts it to be (section 3).

On a fixed set of states (a prompt and the completion so far), before and after a step from policy pi to pi':

    entropy change = mean_s [H(pi'|s) - H(pi|s)]                             exact, over the whole vocabulary
    Lemma 1:       ~ -mean_s Cov_{a ~ pi}(log pi(a|s), z'(a|s) - z(a|s))     exact; z are logits

The theorems replace the change of logits by eta pi A (Theorem 1, policy gradient) and eta A (Theorem 2, natural
gradient). A language model's state has an advantage for the one token y that was sampled. With
E_{a ~ pi}[log pi(a)] = -H known exactly, one sample is an unbiased estimate of a state's covariance:

    Theorem 1, state:    mean A pi(y) (log pi(y) + H)       Theorem 2, state:    mean A (log pi(y) + H)

and without H the paper's sampled covariances are over a population: all tokens (Eq. 10), or the responses of a prompt,
with log pi(response) divided by its length (Eqs. 8-9), then averaged over prompts. Population covariances divide by n.
Every predictor is a covariance: the entropy change it predicts is minus the learning rate times it, in nats, except for
Lemma 1's, where it is minus it. What the paper leaves open: pi(response) in Eq. 8 is taken as exp of the
length-normalised log-probability.

Two rivals are measured at the same states. Both readings are ours, of what the abstracts say:

1. arXiv:2602.03392: S = pi(y) (log pi(y) + H) minus its mean predicts the entropy change. In a table of logits, the
   policy gradient at one sample moves the state's logits by eta A (onehot(y) - pi), and the entropy to first order by
   -eta A (S(y) - E_{a ~ pi} S(a)). So the mean is one over the vocabulary in `centred_state`; `centred_token` has the
   cheap mean over the tokens of the batch in its place.
2. arXiv:2605.11775: the sign of a token's entropy polarity predicts the direction of the change. The polarity is taken
   as -A (log pi(y) + H), and `polarity` is the share of states whose entropy moves its way, among those with an
   advantage and a change. `polarity_chance` is that share if the two signs were independent.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from repro.errors import ConfigError
from repro.ops import linear_vocab_covariance, token_covariance, vocab_covariance
from repro.ops.common import accumulator_dtype, broadcast_advantages

ROWS = 512
"""States whose logits are in memory at a time, where log-probabilities are taken."""
ACCURACIES = (0.125, 0.5, 0.875)
"""The accuracies of a prompt's responses by which Fig. 8 (right) groups the prompts."""
SCALED_HEADS = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


@dataclass(frozen=True)
class States:
    """Fixed states: sampled completions and their advantages.

    Args:
        prompt_ids, prompt_mask: ``[B, P]``, padded left.
        completion_ids, completion_mask: ``[B, T]``; each unmasked token's place is a state.
        advantages: ``[B]`` or ``[B, T]``.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    advantages: Tensor

    @classmethod
    def of(cls, batch: dict[str, Any]) -> "States":
        """The states of a batch as TRL's trainer makes it."""
        return cls(*(batch[name].clone() for name in cls.__dataclass_fields__))

    def groups(self) -> Tensor:
        """The number of each completion's prompt, ``[B]``: equal prompts are one."""
        rows = torch.cat([self.prompt_ids * self.prompt_mask, self.prompt_mask], dim=1)
        return torch.unique(rows, dim=0, return_inverse=True)[1]


@dataclass(frozen=True)
class Snapshot:
    """A policy at some states: what its distributions there follow from.

    Args:
        hidden: ``[B, T, H]``, the head's inputs.
        weight, bias: ``[V, H]`` and ``[V]`` or None, the head.
        softcap: of the logits; None for none.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    softcap: float | None

    def _logits(self, temperature: float) -> Iterator[Tensor]:
        """Logits over the temperature, ``[ROWS, V]`` at a time."""
        for rows in self.hidden.flatten(0, 1).split(ROWS):
            logits = torch.nn.functional.linear(rows, self.weight, self.bias).float()
            if self.softcap is not None:
                logits = self.softcap * torch.tanh(logits / self.softcap)
            yield logits / temperature

    def log_probs(self, token_ids: Tensor, temperature: float) -> Tensor:
        """Log-probabilities of tokens, ``[B, T]`` in nats."""
        parts = [
            torch.log_softmax(logits, -1).gather(1, ids.unsqueeze(1))
            for logits, ids in zip(self._logits(temperature), token_ids.flatten().split(ROWS), strict=True)
        ]
        return torch.cat(parts).view(token_ids.shape)

    def prob_covariance(self, temperature: float) -> Tensor:
        """Cov_{a ~ pi}(log pi(a), pi(a)), which is E_{a ~ pi} pi(a) (log pi(a) + H), ``[B, T]``."""
        parts = [vocab_covariance(logits, torch.softmax(logits, -1)) for logits in self._logits(temperature)]
        return torch.cat(parts).view(self.hidden.shape[:2])


@dataclass(frozen=True)
class StepEffect:
    """An optimizer step at fixed states. Entropies are means over states in nats; the others are covariances.

    The module says what each covariance is; ``*_token`` and ``*_response`` are the paper's sampled ones.
    ``theorem1_response_at`` is ``theorem1_response`` over the prompts with that share of responses of positive
    advantage, NaN where there is none. ``polarity`` and ``polarity_chance`` are shares of states, NaN without any.
    """

    entropy_before: float
    entropy_after: float
    lemma1: float
    theorem1_state: float
    theorem2_state: float
    theorem1_token: float
    theorem2_token: float
    theorem1_response: float
    theorem2_response: float
    theorem1_response_at: dict[float, float]
    centred_state: float
    centred_token: float
    polarity: float
    polarity_chance: float

    @property
    def entropy_change(self) -> float:
        return self.entropy_after - self.entropy_before

    def row(self) -> dict[str, float]:
        """Every number under a name of its own, such as ``theorem1_response_at_0.125``."""
        row = {"entropy_change": self.entropy_change, **asdict(self)}
        by_accuracy = row.pop("theorem1_response_at")
        return row | {f"theorem1_response_at_{accuracy}": value for accuracy, value in by_accuracy.items()}


@torch.no_grad()
def snapshot(model: torch.nn.Module, states: States) -> Snapshot:
    """A policy at the states, in eval mode; independent of what happens to the model afterwards.

    Raises:
        ConfigError: for a policy whose head is sharded, carries an adapter or scales its logits.
    """
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    scaled = [name for name in SCALED_HEADS if getattr(config, name, None) not in (None, 1, 1.0)]
    if scaled:
        raise ConfigError(f"the model's config has {scaled[0]}={getattr(config, scaled[0])}: such heads are not probed")
    if type(head) is not torch.nn.Linear or isinstance(head.weight, DTensor) or head.weight.numel() == 0:
        raise ConfigError("the probe needs the whole head as one nn.Linear: no adapter on it, no FSDP2, no ZeRO-3")
    input_ids = torch.cat([states.prompt_ids, states.completion_ids], dim=1)
    attention_mask = torch.cat([states.prompt_mask, states.completion_mask], dim=1)
    training = model.training
    model.eval()
    try:
        hidden = model.base_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
    finally:
        model.train(training)
    length = states.completion_ids.size(1)
    return Snapshot(
        hidden[:, -length - 1 : -1].clone(),
        head.weight.clone(),
        None if head.bias is None else head.bias.clone(),
        getattr(config, "final_logit_softcapping", None),
    )


@torch.no_grad()
def step_effect(states: States, before: Snapshot, after: Snapshot, *, temperature: float = 1.0) -> StepEffect:
    """The entropy change between two snapshots at the same states, and every predictor of it."""
    mask = states.completion_mask != 0
    lemma1, entropy, next_entropy = linear_vocab_covariance(
        before.hidden,
        before.weight,
        after.hidden,
        after.weight,
        bias=before.bias,
        next_bias=after.bias,
        temperature=temperature,
        softcap=before.softcap,
        mask=mask,
    )
    log_probs = before.log_probs(states.completion_ids, temperature)
    advantages = broadcast_advantages(log_probs, states.advantages)
    excess = log_probs + entropy
    probs = log_probs.exp()
    weighted = probs * advantages

    def mean(values: Tensor) -> float:
        kept = torch.where(mask, values, 0.0).sum(dtype=accumulator_dtype(values.device))
        return (kept / mask.sum().clamp(min=1)).item()

    lengths = mask.sum(1).clamp(min=1)
    response = torch.where(mask, log_probs, 0.0).sum(1) / lengths  # [B]
    advantage = torch.where(mask, advantages, 0.0).sum(1) / lengths  # [B]
    groups = states.groups()
    theorem1_response = _group_covariances(response, response.exp() * advantage, groups)
    accuracy = _group_means(advantage > 0, groups)
    surprise = probs * excess
    moved = (next_entropy - entropy)[mask].sign()
    polarity, polarity_chance = _agreement(-(advantages * excess)[mask].sign(), moved)
    return StepEffect(
        entropy_before=mean(entropy),
        entropy_after=mean(next_entropy),
        lemma1=mean(lemma1),
        theorem1_state=mean(weighted * excess),
        theorem2_state=mean(advantages * excess),
        theorem1_token=mean(token_covariance(log_probs, weighted, mask)),
        theorem2_token=mean(token_covariance(log_probs, advantages, mask)),
        theorem1_response=theorem1_response.mean().item(),
        theorem2_response=_group_covariances(response, advantage, groups).mean().item(),
        theorem1_response_at={
            share: theorem1_response[accuracy == share].mean().item() if (accuracy == share).any() else math.nan
            for share in ACCURACIES
        },
        centred_state=mean(advantages * (surprise - before.prob_covariance(temperature))),
        centred_token=mean(advantages * (surprise - mean(surprise))),
        polarity=polarity,
        polarity_chance=polarity_chance,
    )


def _group_means(x: Tensor, groups: Tensor) -> Tensor:
    """Mean of ``x`` ``[B]`` in each group, ``[groups]``."""
    members = torch.nn.functional.one_hot(groups).to(accumulator_dtype(x.device))  # [B, groups]
    return x.to(members.dtype) @ members / members.sum(0)


def _group_covariances(x: Tensor, y: Tensor, groups: Tensor) -> Tensor:
    """Population covariance within each group, ``[groups]``."""
    x, y = x.to(accumulator_dtype(x.device)), y.to(accumulator_dtype(y.device))
    return _group_means(x * y, groups) - _group_means(x, groups) * _group_means(y, groups)


def _agreement(predicted: Tensor, found: Tensor) -> tuple[float, float]:
    """Share of equal signs where neither is zero, and what it would be if the two were independent; NaN if none is."""
    kept = (predicted != 0) & (found != 0)
    if not kept.any():
        return math.nan, math.nan
    predicted, found = predicted[kept], found[kept]
    agree, up, rises = ((x.sum() / len(found)).item() for x in (predicted == found, predicted > 0, found > 0))
    return agree, up * rises + (1 - up) * (1 - rises)


class ProbeCallback(TrainerCallback):
    """Measures the effect of optimizer steps at fixed states, for any of TRL's online trainers.

    Args:
        states: on the device of the policy; or a function that returns them, called before each measured step, so that
            a run can be probed at the very batch of its update.
        every: measure every n-th optimizer step, the first included.
        temperature: of sampling.
    """

    def __init__(self, states: States | Callable[[], States], *, every: int = 1, temperature: float = 1.0) -> None:
        if every < 1:
            raise ConfigError(f"every={every}: pass a number of optimizer steps, 1 or more")
        self.states, self.every, self.temperature = states, every, temperature
        self._before: tuple[States, Snapshot] | None = None
        self._rows: list[dict[str, float]] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        # All ranks hold the same policy: one measures.
        if state.is_world_process_zero and state.global_step % self.every == 0:
            states = self.states() if callable(self.states) else self.states
            self._before = states, snapshot(model, states)

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self._before is not None:
            states, before = self._before
            effect = step_effect(states, before, snapshot(model, states), temperature=self.temperature)
            learning_rate = kwargs["optimizer"].param_groups[0]["lr"]
            self._rows.append({"step": state.global_step + 1, "learning_rate": learning_rate, **effect.row()})
            self._before = None

    def state_dict(self) -> dict[str, Any]:
        """What is measured so far."""
        return {"rows": self._rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rows = state["rows"]

    def frame(self) -> pd.DataFrame:
        """A row per measured step: step (from 1), learning_rate, and the numbers of ``StepEffect.row``."""
        return pd.DataFrame(self._rows)
