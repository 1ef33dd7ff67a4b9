"""What the trainer relies on in TRL and transformers beyond their documented interface, in one table.

Tests read it against the installed versions: names and signatures exist, the lines that are built on still stand in
the source, and nothing private is used that is not listed. No code imports it.
"""

from typing import NamedTuple

TRL = "1.16"
"""The release whose source was read."""


class Hook(NamedTuple):
    """A name of ``GRPOTrainer``, or an import by its dotted path.

    Args:
        name: overridden, called, read or set.
        assumed: what of it.
        takes: its first parameters, without ``self``; None for an attribute.
        lines: text that must stand in the source of a method, ``{method: lines}``.
    """

    name: str
    assumed: str
    takes: tuple[str, ...] | None = None
    lines: dict[str, tuple[str, ...]] = {}  # noqa: RUF012, a default that nothing changes


HOOKS = (
    Hook(
        "_get_per_token_logps_and_entropies",
        "the forward pass; that of the loss alone has compute_entropy=True; returns log-probabilities and entropies",
        ("model", "input_ids", "attention_mask", "logits_to_keep"),
        {"_get_per_token_logps_and_entropies": ("all_entropies.append(outputs.entropy[:, -logits_to_keep:])",)},
    ),
    Hook(
        "_compute_loss",
        "every loss goes through it; it reads the advantages, which may be per token, after its forward pass",
        ("model", "inputs"),
        {
            "_compute_loss": (
                "if advantages.dim() == 1:",
                "torch.clamp(coef_1, 1 - self.epsilon_low, 1 + self.epsilon_high)",
                'inputs.get("old_per_token_logps")',
                'inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes',
                "normalizer * self.current_gradient_accumulation_steps / self.args.steps_per_generation",
            )
        },
    ),
    Hook(
        "_generate_and_score_completions",
        "makes a whole rollout, with old log-probabilities where some update is off-policy",
        ("inputs",),
        {
            "_generate_and_score_completions": (
                'output["old_per_token_logps"] = old_per_token_logps',
                "self.args.gradient_accumulation_steps % generate_every != 0",
                '"num_items_in_batch": num_items_in_batch',
            )
        },
    ),
    Hook("_generate", "samples and decodes; its result has eight parts", ("prompts",)),
    Hook("_generate_single_turn", "samples", ("prompt_ids",)),
    Hook(
        "_calculate_rewards",
        "rewards of all ranks, a column per function, NaN where it does not score",
        ("inputs", "prompts", "completions", "completion_ids_list"),
    ),
    Hook("_remove_unused_columns", "what TRL's dataloader does to the training set", ("dataset", "description")),
    Hook(
        "_get_dataloader",
        "makes the loader, which gives a rollout's rows at each of its micro-batches; only the first are looked at",
        ("dataset", "description", "batch_size"),
        {
            "get_train_dataloader": ("batch_size=self._train_batch_size * self.args.steps_per_generation",),
            "_prepare_inputs": ("if self._step % generate_every == 0 or self._buffered_inputs is None:",),
        },
    ),
    Hook("_get_train_sampler", "draws the order of prompts anew for each epoch", ("dataset",)),
    Hook(
        "_buffered_inputs",
        "the micro-batches of the rollout in use",
        lines={
            "_prepare_inputs": (
                "self._buffered_inputs[self._step % self.args.steps_per_generation]",
                "split_tensor_dict(generation_batch, self.args.steps_per_generation)",
            )
        },
    ),
    Hook("_step", "counts micro-batches", lines={"training_step": ("self._step += 1",)}),
    Hook("training_step", "one micro-batch", ("model", "inputs", "num_items_in_batch")),
    Hook("_metrics", "lists by mode and name, averaged and cleared by log", lines={"log": ("self._metrics[mode]",)}),
    Hook("_logs", "the table of completions, whose advantages are those of the latest rollout"),
    Hook("_pending_extra_logs", "columns that reward functions log, emptied with a rollout"),
    Hook("_is_vlm", "whether the policy reads images"),
    Hook("log", "turns NaN into None and averages over the steps of a log", ("logs", "start_time")),
    Hook("_save_rng_state", "called for each rank at a checkpoint that is not of weights alone", ("output_dir",)),
    Hook("_load_optimizer_and_scheduler", "called on resuming, after the weights are loaded", ("checkpoint",)),
    Hook("_tag_names", "of the model card"),
    Hook("_name", "of the model card"),
    Hook("_paper", "title, arXiv number and citation of the model card"),
    Hook(
        "trl.trainer.utils.add_fused_lm_head",
        "patches a model's forward, again where it is patched, and can return log_sum_sq_probs",
        ("model", "temperature", "cast_lm_head_to_fp32", "outputs"),
    ),
    Hook("trl.models.utils.disable_gradient_checkpointing", "for a forward pass without gradient", ("model",)),
    Hook("trl.trainer.utils.get_config_model_id", "the name that TRL gives its default output folder", ("config",)),
)
