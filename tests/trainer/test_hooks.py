"""What ``CovGRPOTrainer`` relies on in TRL. When a release changes one of these, the message says what to look at."""

import ast
import importlib.metadata
import inspect
import textwrap

import pytest
from trl import GRPOConfig, GRPOTrainer

from repro.ops import common
from repro.trainer.trainer import FORWARD_INPUTS

from .test_methods import CLIP_COV, KL_COV

TESTED = "1.16"


def source(method: str) -> str:
    return textwrap.dedent(inspect.getsource(inspect.unwrap(getattr(GRPOTrainer, method))))


def changed(what: str) -> str:
    return (
        f"TRL {importlib.metadata.version('trl')} (tested: {TESTED}) changed a hook of CovGRPOTrainer: {what}. "
        "Read its GRPOTrainer before trusting the trainer with this release."
    )


def test_version_is_the_tested_one():
    version = importlib.metadata.version("trl")
    assert version.startswith(f"{TESTED}."), changed(f"the version is {version}")


def test_loss_reads_advantages_after_its_forward_pass():
    tree = ast.parse(source("_compute_loss"))
    forward = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "_get_per_token_logps_and_entropies"
        and any(k.arg == "compute_entropy" and getattr(k.value, "value", None) is True for k in node.keywords)
    ]
    reads = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and getattr(node.value, "id", "") == "inputs"
        and getattr(node.slice, "value", "") == "advantages"
    ]
    assert len(forward) == 1, changed("_compute_loss has not exactly one forward pass with compute_entropy=True")
    assert reads and min(reads) > forward[0], changed(
        "_compute_loss reads inputs['advantages'] before its forward pass"
    )
    assert "if advantages.dim() == 1:" in source("_compute_loss"), changed("advantages per token, (B, T), are gone")


def test_nothing_else_asks_for_entropies():
    callers = [name for name in vars(GRPOTrainer) if callable(getattr(GRPOTrainer, name)) and name[0] != "_"]
    callers += ["_generate_and_score_completions", "_prepare_inputs", "_calculate_rewards"]
    for name in callers:
        assert "compute_entropy=True" not in source(name), changed(f"{name} computes entropies too")


def test_every_loss_goes_through_compute_loss():
    body = ast.unparse(ast.parse(source("compute_loss")).body[0].body[-1])
    assert body == "return self._compute_loss(model, inputs)", changed(
        "compute_loss has another path than _compute_loss"
    )
    assert "use_liger_loss" not in GRPOConfig.__dataclass_fields__, changed("use_liger_loss is back")


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("_compute_loss", "torch.clamp(coef_1, 1 - self.epsilon_low, 1 + self.epsilon_high)"),
        ("_compute_loss", 'inputs.get("old_per_token_logps")'),
        ("_compute_loss", 'inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes'),
        ("_compute_loss", "normalizer * self.current_gradient_accumulation_steps / self.args.steps_per_generation"),
        ("_generate_and_score_completions", 'output["old_per_token_logps"] = old_per_token_logps'),
        ("_generate_and_score_completions", "self.args.gradient_accumulation_steps % generate_every != 0"),
        ("_generate_and_score_completions", '"num_items_in_batch": num_items_in_batch'),
        ("_prepare_inputs", "self._buffered_inputs[self._step % self.args.steps_per_generation]"),
        ("_prepare_inputs", "split_tensor_dict(generation_batch, self.args.steps_per_generation)"),
        ("training_step", "self._step += 1"),
        ("log", "self._metrics[mode]"),
    ],
)
def test_lines_that_the_trainer_builds_on(method, text):
    assert text in source(method), changed(f"{method} no longer has `{text}`")


def test_forward_takes_the_images_of_a_batch():
    assert {"pixel_values", "image_grid_thw", "num_images"} <= FORWARD_INPUTS, changed("the forward's image inputs")
    assert not {"prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages"} & FORWARD_INPUTS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_get_per_token_logps_and_entropies", ["self", "model", "input_ids", "attention_mask", "logits_to_keep"]),
        ("_compute_loss", ["self", "model", "inputs"]),
        ("_generate_and_score_completions", ["self", "inputs"]),
        ("_calculate_rewards", ["self", "inputs", "prompts", "completions", "completion_ids_list"]),
        ("_load_optimizer_and_scheduler", ["self", "checkpoint"]),
        ("_save_rng_state", ["self", "output_dir"]),
        ("log", ["self", "logs", "start_time"]),
    ],
)
def test_signatures(name, expected):
    found = list(inspect.signature(getattr(GRPOTrainer, name)).parameters)[: len(expected)]
    assert found == expected, changed(f"{name}{tuple(found)} was {tuple(expected)}")


@pytest.mark.parametrize(
    "method",
    [
        {},
        KL_COV,
        CLIP_COV,
        KL_COV | {"entropy_control_tokens": "random", "kl_cov_adaptive": True},
        KL_COV | {"entropy_control_tokens": "rare_failing"},
    ],
    ids=["none", "kl_cov", "clip_cov", "kl_cov, random, adaptive", "kl_cov, rare failing"],
)
@pytest.mark.parametrize("scope", ["rollout", "step", "micro"])
def test_no_host_synchronisation_beyond_trls(batch, monkeypatch, method, scope):
    """Reads of a value by the host (``item``, ``nonzero``, a copy) in a loss: as many as TRL makes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from repro import ops

    # Where values are on the host already the operators read them; a device takes the other branch.
    for module in (common, ops.torch_ops):
        monkeypatch.setattr(module, "may_read_values", lambda *tensors: False)

    class Reads(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.overloadpacket.__name__ in (
                "_local_scalar_dense",
                "nonzero",
                "masked_select",
                "unique",
                "_unique2",
            ):
                self.count += 1
            return func(*args, **(kwargs or {}))

    trainer, rollout = batch(**method, **({"entropy_control_scope": scope} if method else {}))
    with Reads() as parent:
        GRPOTrainer._compute_loss(trainer, trainer.model, rollout)
    with Reads() as ours:
        trainer._compute_loss(trainer.model, rollout)
    assert ours.count == parent.count > 0
    assert len(trainer.monitor._finished) == 1
