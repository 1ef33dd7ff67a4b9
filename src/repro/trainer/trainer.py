r"""``CovGRPOTrainer``: Clip-Cov and KL-Cov for TRL's GRPO (Cui et al. 2025, arXiv:2505.22617, section 4.2).

Over the tokens of a pool, cov_i = (log pi(y_i) - mean log pi)(A_i - mean A) (Eq. 10). Of the tokens with the largest
covariance (KL-Cov, Eqs. 13-14) or of a draw from a band of it (Clip-Cov, Eqs. 11-12), the loss becomes

    Clip-Cov: 0                                KL-Cov: -ratio A + coef |log pi - log pi_old|

and everything else is TRL's ``GRPOTrainer``, of which three hooks are used: the forward pass of the loss, after which
TRL reads the advantages, so that a selected token's can be set to 0; the loss, to which the penalty is added with the
normalisation of its ``loss_type``; and the scored rollout, which is where rollouts are selected from and other
advantage estimators put theirs. Where we differ from the authors' code:

1. The pool is the whole rollout on all ranks by default, not one micro-batch of one rank (``entropy_control_scope``).
2. What would do nothing is refused: KL-Cov when every update is on-policy.
3. The penalty joins where TRL adds its reference KL, after the high-entropy mask and the off-policy corrections.
"""

import inspect
import os
from collections import deque
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from accelerate.utils import gather
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import get_config_model_id

from repro.errors import ConfigError
from repro.losses import policy_gradient_coefficients
from repro.ops import token_covariance, token_gradient_norm
from repro.ops.common import broadcast_advantages
from repro.seeds import derive_seed
from repro.trainer import advantages as estimators
from repro.trainer.aggregate import aggregate, loss_mask
from repro.trainer.alarms import Alarms
from repro.trainer.config import CovGRPOConfig
from repro.trainer.filter_groups import GroupFilteringTrainer
from repro.trainer.methods.pool import Pool
from repro.trainer.moments import Moments, add_moments, take_moments
from repro.trainer.monitor import Selection, StepMonitor, all_ranks
from repro.trainer.prime import ImplicitRewardModel

__all__ = ["CovGRPOTrainer"]

FORWARD_INPUTS = frozenset(inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters)


class CovGRPOTrainer(GroupFilteringTrainer):
    """TRL's ``GRPOTrainer`` with Clip-Cov or KL-Cov, and metrics of entropy and covariance at every optimizer step.

    With ``entropy_control="none"`` losses and gradients are TRL's, bit for bit. Arguments are those of
    ``GRPOTrainer``; ``args`` is a :class:`CovGRPOConfig`, and :mod:`repro.trainer.monitor` says what the metrics mean.

    Raises:
        ConfigError: for another kind of ``args``, or a way of training that an option does not support.
    """

    _tag_names = ("trl", "cov-grpo")
    _batch: dict[str, Any] | None = None
    _scored: list[Moments] | None = None
    _sampler: Sampler | None = None

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: CovGRPOConfig | None = None,
        *more: Any,
        **kwargs: Any,
    ) -> None:
        if args is None:
            name = model if isinstance(model, str) else get_config_model_id(model.config)
            args = CovGRPOConfig(f"{name.split('/')[-1]}-CovGRPO")
        if not isinstance(args, CovGRPOConfig):
            raise ConfigError(f"args is a {type(args).__name__}: pass a CovGRPOConfig, which has all of its fields")
        args._served = True
        super().__init__(model, reward_funcs, args, *more, **kwargs)
        self._begin_filtering()
        config, device = self.args, self.accelerator.device
        self.epsilon_low, self.epsilon_high = config.clip_range
        if config.needs_moments:
            add_moments(self.model, temperature=self.temperature, cast_lm_head_to_fp32=config.cast_lm_head_to_fp32)
        self.generator = torch.Generator(device=device)
        self.generator.manual_seed(derive_seed("clip-cov draw", config.seed, self.accelerator.process_index))
        self.control = config.method(config, device)
        if self.control.paper is not None:
            self._name = f"GRPO with {self.control.title}"
            self._paper = self.control.paper | {"citation": self.control.paper["citation"] + self._paper["citation"]}
        self.reward_model: ImplicitRewardModel | None = None
        if config.advantage_estimator == "prime":
            if self.is_deepspeed_enabled or self.is_fsdp_enabled:
                raise ConfigError("advantage_estimator='prime' copies the policy and cannot shard it: use DDP")
            self.reward_model = ImplicitRewardModel(
                self.model,
                self._completion_log_probs,
                beta=config.prime_beta,
                learning_rate=config.prime_learning_rate,
                batch_size=config.per_device_train_batch_size,
            )
        self.monitor = StepMonitor(
            self.accelerator,
            sample_every=config.token_sample_every,
            sample_size=config.token_sample_size,
        )
        self.alarms = Alarms(config, self.control)
        self._window: deque[Selection] = deque()
        self._rewards_per_func: Tensor | None = None

    def _completion_log_probs(self, model: torch.nn.Module, batch: dict[str, Any]) -> Tensor:
        """Log-probabilities of a batch's completions, ``[B, T]``."""
        return self._forward(model, batch)[0]

    def _forward(self, model: torch.nn.Module, batch: dict[str, Any], **asked: bool) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of a batch's completions, and entropies where they are asked for."""
        input_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        attention_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        extra = {name: value for name, value in batch.items() if name in FORWARD_INPUTS}  # of images
        length = batch["completion_ids"].size(1)
        outputs = super()._get_per_token_logps_and_entropies(model, input_ids, attention_mask, length, **extra, **asked)
        return outputs[:2]

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler:
        self._sampler = super()._get_train_sampler(dataset)
        return self._sampler

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        self._rewards_per_func = super()._calculate_rewards(*args, **kwargs)
        return self._rewards_per_func

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        by_rollout = self.model.training and self.control.selects and self.args.effective_scope == "rollout"
        self._scored = [] if by_rollout and self.args.needs_moments else None
        batch = super()._generate_and_score_completions(inputs)
        # The first pass of those that score a rollout is of the policy that sampled it.
        moments, self._scored = self._scored[0] if self._scored else None, None
        if not self.model.training:
            return batch
        if self.args.advantage_estimator != "grpo":
            batch["advantages"] = self._advantages(batch)
        if by_rollout:
            old, size = batch["old_per_token_logps"], batch["num_items_in_batch"]
            chosen = self._select(old, old, batch["advantages"], loss_mask(batch), size, moments)
            batch |= {"cov_selected": chosen.selected, "cov_covariance": chosen.covariance}
        return batch

    @torch.no_grad()
    def _advantages(self, batch: dict[str, Any]) -> Tensor:
        """This rank's advantages by an estimator that TRL's trainer does not have, ``[B]`` or ``[B, T]``."""
        weights = self.reward_weights.to(self._rewards_per_func.device)
        unscored = self._rewards_per_func.isnan().all(1)
        rewards = (self._rewards_per_func * weights).nansum(1).masked_fill(unscored, torch.nan)
        mask = loss_mask(batch)
        rows = slice(self.accelerator.process_index * len(mask), (self.accelerator.process_index + 1) * len(mask))
        if self.args.advantage_estimator == "rloo":
            advantages = estimators.rloo(rewards, self.num_generations)
        elif self.args.advantage_estimator == "reinforce++":
            advantages = estimators.reinforce_plus_plus(rewards, gather(mask.sum(1)))
        else:
            self.reward_model.to(mask.device)
            with torch.enable_grad():
                process = self.reward_model.score_and_learn(batch, mask, rewards[rows], (~unscored).sum())
            across = self.accelerator.pad_across_processes
            process, everywhere = gather(across(process, dim=1)), gather(across(mask, dim=1))
            advantages = estimators.prime(process, rewards, everywhere, self.num_generations)[:, : mask.size(1)]
        # TRL logged the group-relative advantages; the table keeps one rollout, so these push those out.
        table = advantages if advantages.ndim == 1 else advantages.mean(1)
        self._logs["advantages"].extend(table.tolist())
        return advantages[rows]

    @torch.no_grad()
    def _select(
        self,
        log_probs: Tensor,
        old: Tensor,
        advantages: Tensor,
        mask: Tensor,
        size: Tensor,
        moments: Moments | None = None,
    ) -> Selection:
        """The tokens that the method restricts, of a pool that this rank has all or a part of, ``[B, T]``."""
        group = None if self.args.effective_scope == "micro" else all_ranks(self.accelerator)
        advantages = broadcast_advantages(log_probs, advantages)
        covariance = token_covariance(log_probs, advantages, mask, group=group)
        fraction, minimum = self.args.entropy_control_fraction, self.args.entropy_control_minimum
        pool = Pool(log_probs, old, advantages, mask, covariance, fraction, minimum, self.generator, group)
        if moments is not None:
            pool = replace(
                pool,
                entropies=moments.entropies,
                coefficients=self._coefficients(log_probs, old, advantages),
                gradient=self._gradient_norms(log_probs, old, advantages, moments),
            )
        self.alarms.seen = covariance, mask
        return Selection(self.control.select(pool), covariance, log_probs, size)

    def _coefficients(self, log_probs: Tensor, old: Tensor, advantages: Tensor) -> Tensor:
        """What the gradient of each token's log-probability is multiplied by in the policy gradient, ``[B, T]``."""
        low, high = self.args.clip_range
        return policy_gradient_coefficients(
            log_probs, old, advantages, epsilon_low=low, epsilon_high=high, delta=self.args.delta
        )

    def _gradient_norms(self, log_probs: Tensor, old: Tensor, advantages: Tensor, moments: Moments) -> Tensor | None:
        """Norm of each token's policy gradient with respect to its logits, ``[B, T]``, where the budget is of it."""
        if self.args.entropy_control_budget != "gradient":
            return None
        coefficients = self._coefficients(log_probs, old, advantages)
        return token_gradient_norm(log_probs, moments.log_sum_sq_probs, coefficients)

    def _pool_size(self, mask: Tensor) -> Tensor:
        tokens = mask.sum()
        return tokens if self.args.effective_scope == "micro" else self.accelerator.reduce(tokens, reduction="sum")

    @torch.no_grad()
    def _look_ahead(self, model: torch.nn.Module) -> None:
        """Select over all micro-batches of the optimizer step that now begins, by a forward pass over each of them."""
        accumulation = self.current_gradient_accumulation_steps
        slices = len(self._buffered_inputs)
        batches = [self._buffered_inputs[(self._step + ahead) % slices] for ahead in range(accumulation)]
        asked = {"compute_entropy": True} if self.args.needs_moments else {}
        with disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            passes = [self._forward(model, batch, **asked) for batch in batches]
        log_probs = torch.cat([outputs[0] for outputs in passes])
        moments = take_moments(torch.cat([outputs[1] for outputs in passes])) if asked else None
        olds = [batch.get("old_per_token_logps") for batch in batches]
        old = log_probs if olds[0] is None else torch.cat(olds)
        mask = torch.cat([loss_mask(batch) for batch in batches])
        advantages = torch.cat([batch["advantages"] for batch in batches])
        chosen = self._select(log_probs, old, advantages, mask, self._pool_size(mask), moments)
        parts = [values.chunk(accumulation) for values in (chosen.selected, chosen.covariance, chosen.log_probs)]
        self._window.extend(Selection(*part, chosen.pool) for part in zip(*parts, strict=True))

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any):
        outputs, moments = self._with_moments(*args, **kwargs)
        if self._scored is not None and moments is not None:
            self._scored.append(moments)
        # The loss's own forward pass is the only one that asks for entropies; TRL reads the advantages after it.
        if kwargs.get("compute_entropy") and self._batch is not None:
            self._batch["cov_forward"] = (*outputs[:2], moments)
            if self.control.selects:
                self._control(self._batch, outputs[0].detach(), moments)
        return outputs

    def _with_moments(self, *args: Any, **kwargs: Any) -> tuple[tuple, Moments | None]:
        """TRL's outputs of a forward pass, and the moments of one that asks for entropies or scores a rollout."""
        policy_scores = self._scored is not None and args[0] is self.model
        asked = kwargs.get("compute_entropy", False)
        if not self.args.needs_moments or not (asked or policy_scores):
            return super()._get_per_token_logps_and_entropies(*args, **kwargs), None
        log_probs, entropies, *rest = super()._get_per_token_logps_and_entropies(
            *args, **(kwargs | {"compute_entropy": True})
        )
        moments = take_moments(entropies)
        detached = Moments(*(values.detach() for values in moments))
        return (log_probs, moments.entropies if asked else None, *rest), detached

    def _control(self, batch: dict[str, Any], log_probs: Tensor, moments: Moments | None) -> None:
        """Put a micro-batch's selection into it, and the advantages that the method leaves."""
        advantages, mask, old = batch["advantages"], loss_mask(batch), batch.get("old_per_token_logps")
        if self.args.effective_scope == "rollout":
            pool = batch["num_items_in_batch"]
            selection = Selection(batch["cov_selected"], batch["cov_covariance"], old, pool)
        elif self._window:
            selection = self._window.popleft()
        else:
            pool = self._pool_size(mask)
            selection = self._select(log_probs, log_probs if old is None else old, advantages, mask, pool, moments)
        batch["cov_selection"] = selection
        batch["advantages"] = self.control.advantages(advantages, selection.selected)

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> Tensor:
        if not self.model.training:
            return super()._compute_loss(model, inputs)
        steps = self.current_gradient_accumulation_steps
        if self.control.selects and self.args.effective_scope == "step" and steps > 1 and not self._window:
            self._look_ahead(model)
        batch = self._batch = dict(inputs)
        try:
            loss = super()._compute_loss(model, batch)
        finally:
            self._batch = None
        (log_probs, entropies, moments), mask = batch["cov_forward"], loss_mask(inputs)
        old, selection = inputs.get("old_per_token_logps"), batch.get("cov_selection")
        if selection is not None:
            selection.penalty = self.control.penalty(log_probs, old, selection.selected)
            selection.metrics = self.control.metrics()
            if moments is not None:
                now = log_probs.detach()
                before = now if old is None else old
                selection.gradient = self._gradient_norms(now, before, inputs["advantages"], moments)
        if selection is not None and selection.penalty is not None:
            loss = loss + aggregate(
                selection.penalty,
                mask,
                self.loss_type,
                tokens_per_rollout=inputs["num_items_in_batch"],
                accumulation=steps,
                steps_per_generation=self.args.steps_per_generation,
                processes=self.accelerator.num_processes,
                max_completion_length=self.max_completion_length,
            )
        metrics = self.monitor.observe(
            self.state.global_step + 1,
            log_probs,
            entropies,
            inputs["advantages"],
            mask,
            inputs["completion_ids"],
            old_log_probs=old,
            selection=selection,
        )
        if metrics is not None:
            self.control.after_step(metrics)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.model.training:
            for metrics in self.monitor.collect():
                self.alarms.hear(metrics)
                for name, value in metrics.items():
                    self._metrics["train"][name].append(value)
        super().log(logs, start_time)

    def sampled_tokens(self) -> pd.DataFrame:
        """The kept tokens, a row each, see :meth:`repro.trainer.monitor.StepMonitor.sampled_tokens`."""
        return self.monitor.sampled_tokens(self.processing_class)

    def _state_paths(self, checkpoint: str) -> tuple[str, str]:
        """This rank's state in a checkpoint folder, and the reward model's, which all ranks share."""
        rank = self.accelerator.process_index
        return os.path.join(checkpoint, f"cov_grpo_{rank}.pt"), os.path.join(checkpoint, "cov_grpo_reward_model.pt")

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        own, shared = self._state_paths(output_dir)
        state = {
            "step": self._step,
            "buffered_inputs": self._buffered_inputs,
            "generator": self.generator.get_state(),
            "monitor": self.monitor.state_dict(),
            "control": self.control.state_dict(),
            "prompts": None if self.prompt_stream is None else self.prompt_stream.position,
        }
        torch.save(state, own)
        if self.reward_model is not None and self.args.should_save:
            torch.save(self.reward_model.state_dict(), shared)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        own, shared = self._state_paths(checkpoint)
        if not os.path.isfile(own):
            files = os.listdir(checkpoint)
            if not any(name.startswith("rng_state") for name in files):
                return  # of weights alone (save_only_model), from which everything else begins anew, as in TRL
            ours = any(name.startswith("cov_grpo_") for name in files)
            made_by = "CovGRPOTrainer on another number of ranks" if ours else "another trainer"
            raise ConfigError(
                f"{checkpoint} has no {os.path.basename(own)}: it was made by {made_by}, and training would not go on "
                "as it began; load its weights as the model instead"
            )
        # A sampler draws the order of prompts anew for each epoch: begin those that are over, as the stopped run did.
        epochs = TrainerState.load_from_json(os.path.join(checkpoint, TRAINER_STATE_NAME)).epoch
        for _ in range(int(epochs) if self._sampler is not None else 0):
            next(iter(self._sampler))
        device = self.accelerator.device
        state = torch.load(own, map_location=device, weights_only=True)
        self._resume_filtering(checkpoint, state.get("prompts"))
        self._step, self._buffered_inputs = state["step"], state["buffered_inputs"]
        self.generator.set_state(state["generator"].cpu())
        self.monitor.load_state_dict(state["monitor"])
        self.control.load_state_dict(state["control"])
        if self.reward_model is not None:
            self.reward_model.to(device)
            self.reward_model.load_state_dict(torch.load(shared, map_location=device, weights_only=True))
