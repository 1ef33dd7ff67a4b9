"""The code fingerprint: what it is taken over, for which config, and what leaves it as it is."""

import ast
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from trl import GRPOConfig

from repro import paths
from repro.runs import RunConfig, fingerprint
from repro.runs.fingerprint import CHOSEN, START, UNUSED, Code
from repro.trainer import CovGRPOConfig

PACKAGE = paths.root() / "src" / "repro"
CONFIG = RunConfig()
PRIME = CONFIG.replace(trainer={"advantage_estimator": "prime"})
PROBE = CONFIG.replace(probe_every=1)

TRAINING = '''
"""A module."""
import os
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import repro.more.deeper as deeper
from repro import errors, whole
from repro.registry import find
from repro.tools import helper

from ..extra.deep import *

if TYPE_CHECKING:
    from repro.unrelated import Type


@dataclass
class Thing:
    """A class."""

    size: int = field(default=1_000, metadata={"help": "A size."})
    """A field."""


def unused():
    return 1


def train(x, /, *y, z=0.1, **w) -> "Type":
    """A function."""
    if x:
        raise errors.ConfigError(f"x is {x}: choose another")
    warnings.warn("slow", stacklevel=2)
    assert y, "no y"
    match x:
        case [1, *rest] if (n := len(rest)) > 2:
            return f"{n!r:>{z}} {x=} \\u00e9" + 'a"b' 'c'
        case {"k": None, **others}:
            async def inner():
                async with x as a, y as b:
                    yield await a, b"\\xff", 1j, ..., True
    try:
        lambda: {i: j for i, (j, *k) in x if i}
    except* (ValueError, OSError) as group:
        del x[1:2, ::3]
    from repro.local import late
    return Thing(), helper(), deeper.used(), getattr(whole, "any"), find("one"), late, B
'''
MADE_UP = {
    "runs/training.py": TRAINING,
    "runs/config.py": (
        "class RunConfig:\n    steps: int = 3\n    @property\n    def updates_per_rollout(self):\n        return 4\n"
    ),
    "tools/__init__.py": "from repro.tools.first import helper\n",
    "tools/first.py": "FACTOR = 2\n\ndef helper():\n    return FACTOR\n\ndef other():\n    return 3\n",
    "extra/deep.py": "B = 2\nA = 1\n",
    "more/deeper.py": "def used():\n    return 5\n\ndef idle():\n    return 6\n",
    "more/__init__.py": "import os\nos.environ['A'] = 'first'\n",
    "registry.py": (
        'ENTRIES = {"one": "repro.entries:ONE", "two": "repro.entries:TWO"}\nKEPT = []\n\n'
        "def keep(it):\n    KEPT.append(it)\n    return it\n\ndef find(name):\n    return ENTRIES[name], KEPT\n"
    ),
    "entries.py": "from repro.registry import keep\nONE = 11\nTWO = 22\n\n@keep\ndef kept():\n    return 33\n",
    "whole.py": "any = 7\n",
    "local.py": "late = 8\n",
    "errors.py": "class ConfigError(Exception):\n    pass\n",
    "unrelated.py": "Type = 6\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(fingerprint, "CHOSEN", {"repro.registry.ENTRIES": lambda config: config.task})
    root = tmp_path / "repro"
    for name, text in MADE_UP.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


ONE = RunConfig(task="one")


def test_what_several_processes_do_is_of_their_runs_alone(package):
    one, several = (fingerprint.fingerprint(Code(package, several=more), ONE, "cpu") for more in (False, True))
    (package / "runs" / "ranks.py").write_text("def share():\n    return 1\n\ndef several():\n    return False\n")
    edit(package / "runs" / "training.py", "from repro.registry", "from repro.runs import ranks\nfrom repro.registry")
    block = "    if ranks.several():\n        x = ranks.share()\n    if x:\n        raise"
    edit(package / "runs" / "training.py", "    if x:\n        raise", block)
    assert fingerprint.fingerprint(Code(package), ONE, "cpu") == one
    sharing = fingerprint.fingerprint(Code(package, several=True), ONE, "cpu")
    assert sharing != several
    edit(package / "runs" / "ranks.py", "return 1", "return 2")
    assert fingerprint.fingerprint(Code(package), ONE, "cpu") == one
    assert fingerprint.fingerprint(Code(package, several=True), ONE, "cpu") != sharing
    # Where one process does something else, that is of its run.
    edit(package / "runs" / "training.py", "x = ranks.share()", "x = ranks.share()\n    else:\n        x = 2")
    assert fingerprint.fingerprint(Code(package), ONE, "cpu") != one


def test_fingerprint_is_the_same_on_every_python(package):
    """The value was the same on Python 3.11, 3.12 and 3.13."""
    assert fingerprint.fingerprint(Code(package), ONE, "cpu") == "4adda157eb074c76"


@pytest.mark.parametrize(
    ("name", "old", "new", "same"),
    [
        ("runs/training.py", '"""A function."""', '"""Another text."""', True),
        ("runs/training.py", '"""A field."""', "# A comment instead.", True),
        ("runs/training.py", "1_000", "1000", True),
        ("runs/training.py", "z=0.1", "z = .10", True),
        ("runs/training.py", "choose another", "take another", True),
        ("runs/training.py", '"slow"', '"very slow"', True),
        ("runs/training.py", '"no y"', '"y is missing"', True),
        ("runs/training.py", '"A size."', '"The size."', True),
        ("runs/training.py", '"Type"', "Type", True),
        ("runs/training.py", "def unused():\n    return 1", "def unused():\n    return 2", True),
        ("runs/config.py", "steps: int = 3", "steps: int = 4\n    patience: int = 1", True),
        ("tools/first.py", "return 3", "return 4", True),
        ("extra/deep.py", "A = 1", "C = 1", False),
        ("more/deeper.py", "return 6", "return 7", True),
        ("errors.py", "Exception", "ValueError", True),
        ("unrelated.py", "6", "7", True),
        ("entries.py", "22", "23", True),
        ("registry.py", '"two": "repro.entries:TWO"', '"two": "repro.entries:ONE", "three": "3"', True),
        ("runs/training.py", "z=0.1", "z=0.2", False),
        ("runs/training.py", "1_000", "1_000.0", False),
        ("runs/training.py", "del x", "x", False),
        ("runs/training.py", "ConfigError(f", "OtherError(f", False),
        ("runs/config.py", "return 4", "return 5", False),
        ("tools/first.py", "FACTOR = 2", "FACTOR = 3", False),
        ("tools/first.py", "return FACTOR", "return -FACTOR", False),
        ("extra/deep.py", "B = 2", "B = 3", False),
        ("more/deeper.py", "return 5", "return 6", False),
        ("more/__init__.py", "first", "second", False),
        ("whole.py", "7", "8", False),
        ("local.py", "8", "9", False),
        ("entries.py", "11", "12", False),
        ("entries.py", "33", "34", False),
        ("registry.py", '"one": "repro.entries:ONE"', '"one": "repro.entries:TWO"', False),
    ],
)
def test_fingerprint_follows_numbers_and_not_their_dress(package, name, old, new, same):
    before = fingerprint.fingerprint(Code(package), ONE, "cpu")
    edit(package / name, old, new)
    assert (fingerprint.fingerprint(Code(package), ONE, "cpu") == before) is same


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def reached(config: RunConfig, device: str = "cpu") -> set[str]:
    unused = frozenset(name for name, holds in UNUSED.items() if holds(config, device))
    return set(Code(PACKAGE).reached(unused, {name: key(config) for name, key in CHOSEN.items()}))


def test_fingerprint_covers_this_projects_training():
    names = reached(CONFIG)
    assert names >= {
        *START,
        "repro.trainer.trainer.CovGRPOTrainer",
        "repro.trainer.config.CovGRPOConfig",
        "repro.trainer.monitor.StepMonitor",
        "repro.trainer.advantages.rloo",
        "repro.trainer.methods.base.EntropyControl",
        "repro.ops.torch_ops.select_top",
        "repro.policies.sampling.sample_tokens",
        "repro.runs.evaluation.pass_at_k",
        "repro.seeds.derive_seed",
    }
    rooms = {".".join(name.split(".")[:2]) for name in names}
    assert not rooms & {"repro.claims", "repro.book", "repro.cli", "repro.analysis", "repro.paper", "repro.errors"}
    assert not names & {
        "repro.trainer.presets.PRESETS",
        "repro.policies.recipes.RECIPES",
        "repro.tasks.arithmetic.strategies.MIXTURES",
        "repro.runs.record.find",
    }


@pytest.mark.parametrize(
    ("config", "device", "module"),
    [
        (PRIME, "cpu", "repro.trainer.prime"),
        (PROBE, "cpu", "repro.trainer.probe"),
        (CONFIG.replace(base="hub:one/two"), "cpu", "repro.policies.pinned.HubPolicies"),
        (CONFIG.replace(base="local:two"), "cpu", "repro.policies.pinned._model"),
        (CONFIG.replace(policy={"template": "chat"}), "cpu", "repro.policies.templates.prompted"),
        (CONFIG.replace(policy={"template": "r1_zero"}), "cpu", "repro.policies.templates.R1_ZERO"),
        (PROBE, "cpu", "repro.ops.torch_ops.linear_vocab_covariance"),
        (CONFIG, "cuda", "repro.ops.triton.tokens.token_covariance"),
    ],
)
def test_what_only_some_runs_use_counts_for_them_alone(config, device, module):
    assert any(name.startswith(module) for name in reached(config, device))
    assert not any(name.startswith(module) for name in reached(CONFIG, "cpu"))


def test_every_declaration_names_something_that_exists():
    code = Code(PACKAGE)
    for name in (*START, *UNUSED, *CHOSEN):
        module, path = code.split(name)
        assert module is not None, name
        assert not path or module.find(path), name
    for name, key in CHOSEN.items():
        module, path = code.split(name)
        (node,) = module.find(path)
        if isinstance(node, ast.ClassDef):
            assert any(getattr(one, "name", "") == "__init_subclass__" for one in node.body), name
        else:
            assert key(CONFIG) in [ast.literal_eval(one) for one in node.value.keys], name


@pytest.mark.parametrize(("control", "its"), [("none", "NoControl"), ("kl_cov", "KLCov"), ("clip_cov", "ClipCov")])
def test_the_method_that_a_run_names_counts_and_no_other(control, its):
    config = CONFIG.replace(trainer={"entropy_control": control})
    unused = frozenset(name for name, holds in UNUSED.items() if holds(config, "cpu"))
    found = Code(PACKAGE).reached(unused, {name: key(config) for name, key in CHOSEN.items()})
    classes = {getattr(node, "name", "") for nodes in found.values() for node in nodes}
    assert classes & {"NoControl", "KLCov", "ClipCov"} == {its}
    assert ("KLCovSettings" in classes) is (control == "kl_cov")


def test_every_task_has_a_fingerprint_of_its_own():
    digests = {fingerprint.code_fingerprint(RunConfig(task=task), "cpu") for task in ("arithmetic", "arithmetic_hard")}
    assert len(digests) == 2


def test_training_reads_the_configs_fields_and_what_the_fingerprint_starts_at():
    names, known = reached(CONFIG), {*RunConfig.model_fields, *(name.rpartition(".")[2] for name in START)}
    for path in (PACKAGE / "runs").glob("*.py"):
        module = f"repro.runs.{path.stem}"
        if not any(name.startswith(f"{module}.") for name in names) or path.stem == "config":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("config", "self.config"):
                assert node.attr in known, f"{module} reads config.{node.attr}, which the fingerprint does not follow"


def test_training_does_nothing_that_names_do_not_tell():
    """What finds code by other means than its name would be missed."""
    modules = {".".join(name.split(".")[:-1]) for name in reached(PROBE, "cuda") | reached(PRIME, "cuda")}
    modules.discard("repro.runs.fingerprint")
    code, read = Code(PACKAGE), 0
    for name in modules:
        module, path = code.split(name)
        if module is None or path:
            continue
        read += 1
        for node in (inner for statement in module.body for inner in ast.walk(statement)):
            assert getattr(node, "id", None) not in ("globals", "eval", "exec", "__import__"), name
            found = getattr(node, "attr", getattr(node, "name", None))
            assert found not in ("__subclasses__", "import_module"), name
            if found == "__init_subclass__" and isinstance(node, ast.FunctionDef):
                # A subclass must say a key, by which it is seen.
                assert node.args.kwonlyargs and node.args.kw_defaults[0] is None, name
    assert read > 10


@pytest.fixture
def copied(tmp_path) -> Path:
    return Path(shutil.copytree(PACKAGE, tmp_path / "repro", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.mark.parametrize(
    ("module", "function", "stale"),
    [
        ("trainer/trainer.py", "_compute_loss", {"plain", "probe", "prime", "cuda"}),
        ("trainer/aggregate.py", "aggregate", {"plain", "probe", "prime", "cuda"}),
        ("trainer/methods/kl_cov.py", "penalty", set()),
        ("trainer/probe.py", "on_optimizer_step", {"probe"}),
        ("trainer/prime.py", "__init__", {"prime"}),
        ("ops/triton/tokens.py", "token_covariance", {"cuda"}),
        ("runs/record.py", "_write", set()),
    ],
)
def test_a_change_of_code_concerns_the_runs_that_use_it(copied, module, function, stale):
    def digests() -> dict[str, str]:
        code = Code(copied)
        kinds = {"plain": (CONFIG, "cpu"), "probe": (PROBE, "cpu"), "prime": (PRIME, "cpu"), "cuda": (CONFIG, "cuda")}
        return {kind: fingerprint.fingerprint(code, *one) for kind, one in kinds.items()}

    before = digests()
    path = copied / module
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (changed, *_) = [node for node in ast.walk(tree) if getattr(node, "name", None) == function]
    changed.body.append(ast.parse("changed = 1").body[0])
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
    assert {kind for kind, digest in digests().items() if digest != before[kind]} == stale


def test_a_new_setting_concerns_no_run_until_something_reads_it(copied):
    before = fingerprint.fingerprint(Code(copied), CONFIG, "cpu")
    config = copied / "trainer" / "config.py"
    edit(
        config,
        "    _served = False",
        '    patience: Annotated[int, whole(0)] = setting(3, "Of a later day.")\n    _served = False',
    )
    assert fingerprint.fingerprint(Code(copied), CONFIG, "cpu") == before
    reader = "def waits(config):\n    return config.patience\n\n\nclass StepMonitor"
    edit(copied / "trainer" / "monitor.py", "class StepMonitor", reader)
    assert fingerprint.fingerprint(Code(copied), CONFIG, "cpu") != before


def test_another_default_of_a_setting_concerns_the_runs(copied):
    before = fingerprint.fingerprint(Code(copied), CONFIG, "cpu")
    edit(
        copied / "trainer" / "config.py", 'setting(1, "Tokens selected at least', 'setting(2, "Tokens selected at least'
    )
    assert fingerprint.fingerprint(Code(copied), CONFIG, "cpu") != before


def test_no_setting_is_one_of_trls():
    """TRL reads its own fields, and the fingerprint does not look there."""
    own = {field.name for field in fields(CovGRPOConfig)} - {field.name for field in fields(GRPOConfig)}
    module, path = Code(PACKAGE).split(fingerprint.SETTINGS)
    (node,) = module.find(path)
    declared = {one.target.id for one in node.body if isinstance(one, ast.AnnAssign)}
    assert declared and declared <= own
