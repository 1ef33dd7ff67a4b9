"""What ``CovGRPOTrainer`` relies on in TRL. When a release changes one of these, the message says what to look at."""

import ast
import importlib
import importlib.metadata
import inspect
import re
import textwrap
from pathlib import Path

import pytest
from trl import GRPOConfig, GRPOTrainer

from repro import paths
from repro.ops import common
from repro.trainer.hooks import HOOKS, TRL
from repro.trainer.trainer import FORWARD_INPUTS

from .test_methods import CLIP_COV, KL_COV

SOURCE = paths.root() / "src" / "repro"
# GRPOTrainer's own source and that of its parents.
THEIRS = "".join(
    inspect.getsource(part) for part in GRPOTrainer.__mro__ if part.__module__.startswith(("trl", "transf"))
)


def source(method: str) -> str:
    return textwrap.dedent(inspect.getsource(inspect.unwrap(getattr(GRPOTrainer, method))))


def changed(what: str) -> str:
    return (
        f"TRL {importlib.metadata.version('trl')} (tested: {TRL}) changed a hook of CovGRPOTrainer: {what}. "
        "Read its GRPOTrainer before trusting the trainer with this release."
    )


def test_version_is_the_tested_one():
    version = importlib.metadata.version("trl")
    assert version.startswith(f"{TRL}."), changed(f"the version is {version}")


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
    ("method", "text"), [(method, text) for hook in HOOKS for method, lines in hook.lines.items() for text in lines]
)
def test_lines_that_the_trainer_builds_on(method, text):
    assert text in source(method), changed(f"{method} no longer has `{text}`")


def test_forward_takes_the_images_of_a_batch():
    assert {"pixel_values", "image_grid_thw", "num_images"} <= FORWARD_INPUTS, changed("the forward's image inputs")
    assert not {"prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages"} & FORWARD_INPUTS


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.name)
def test_hooks_are_there(hook):
    if "." in hook.name:
        module, _, name = hook.name.rpartition(".")
        found = getattr(importlib.import_module(module), name, None)
        assert found is not None, changed(f"{hook.name} is gone")
    else:
        found = getattr(GRPOTrainer, hook.name, None)
        assert found is not None or f"self.{hook.name}" in THEIRS, changed(f"{hook.name} is gone")
    if hook.takes is not None:
        parameters = [name for name in inspect.signature(found).parameters if name != "self"][: len(hook.takes)]
        assert tuple(parameters) == hook.takes, changed(f"{hook.name}{tuple(parameters)} was {hook.takes}")


def used_of_theirs(path: Path) -> set[str]:
    """Names that a module overrides, or takes from a trainer by an underscore, or imports from within TRL."""
    names = set()
    tree = ast.parse(path.read_text())
    owners = ["trainer", "self.trainer", "super()"]
    for part in ast.walk(tree):
        if isinstance(part, ast.ImportFrom) and part.module and part.module.startswith("trl."):
            names |= {f"{part.module}.{alias.name}" for alias in part.names}
        if isinstance(part, ast.ClassDef) and any(ast.unparse(base).endswith("Trainer") for base in part.bases):
            defined = [node.name for node in part.body if isinstance(node, ast.FunctionDef)]
            defined += [target.id for node in part.body if isinstance(node, ast.Assign) for target in node.targets]
            names |= {name for name in defined if hasattr(GRPOTrainer, name) and name != "__init__"}
            names |= private(part, ["self"])
    return names | private(tree, owners)


def private(tree: ast.AST, owners: list[str]) -> set[str]:
    """Names of TRL's trainer that begin with an underscore and are taken from one of the owners."""
    found = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) in owners}
    return {
        name
        for name in found
        if re.fullmatch("_[a-z].*", name) and (hasattr(GRPOTrainer, name) or re.search(rf"self\.{name}\b", THEIRS))
    }


def test_nothing_private_is_used_beyond_the_table():
    files = [*(SOURCE / "trainer").rglob("*.py"), *(SOURCE / "runs").glob("*.py")]
    used = set().union(*map(used_of_theirs, files))
    assert used - {hook.name for hook in HOOKS} == set()
    assert {hook.name for hook in HOOKS} - used == set(), "listed and not used"


@pytest.mark.parametrize(
    "method",
    [
        {},
        KL_COV,
        CLIP_COV,
        KL_COV | {"entropy_control_tokens": "random", "kl_cov_adaptive": True},
        KL_COV | {"entropy_control_tokens": "rare_failing"},
        KL_COV | {"entropy_control_tokens": "steer", "entropy_control_budget": "gradient"},
        CLIP_COV | {"entropy_control_budget": "gradient"},
    ],
    ids=[
        *("none", "kl_cov", "clip_cov", "kl_cov, random, adaptive", "kl_cov, rare failing"),
        *("kl_cov, steer, gradient", "clip_cov, gradient"),
    ],
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
