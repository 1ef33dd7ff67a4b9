"""A fingerprint of the code that decides a run's numbers: would this code, on this device, compute the record again?

It is taken over definitions (functions, classes, constants) and not over files: those that ``train`` reaches by name
through this package, in whatever module, and every top-level statement that acts when a module is imported. Names are
followed without regard to types: whatever a name could mean is in. A module that is passed around as a value is in
whole, and so is what a text like ``"repro.tasks.arithmetic:EASY"`` names.

Out is what cannot change a number of a finished run: comments, layout, docstrings, annotations of functions, what is
raised (beside its type) or warned, help texts of fields, settings that nothing reads, what ``UNUSED`` and ``CHOSEN``
declare for the run's config and device, and, of a run on one process, what only several do. In doubt a definition is
in, so that a record may be called stale that is not, and never the other way round.
"""

import ast
import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from repro import policies
from repro.runs.config import RunConfig

PACKAGE = "repro"
# Of a run's config its values decide, which are in the record; the class is not, but for what it computes of them.
START = ("repro.runs.training.train", "repro.runs.config.RunConfig.updates_per_rollout")


def _always(config: RunConfig, device: str) -> bool:
    return True


def _no_probe(config: RunConfig, device: str) -> bool:
    return not config.probe_every


# What a run does not use: a module, a definition or a member of a class, and the runs for which that is so.
UNUSED: Mapping[str, Callable[[RunConfig, str], bool]] = {
    "repro.errors": _always,
    "repro.paths": _always,
    "repro.checked": _always,
    "repro.runs.config": _always,
    "repro.policies.settings": _always,
    # What a name is pinned to is in the identity.
    "repro.pins": _always,
    "repro.digests": _always,
    # Where checkpoints are and when one is made.
    "repro.runs.checkpoints": _always,
    "repro.runs.options": _always,
    "repro.runs.samplers": _always,
    "repro.tasks.identity": _always,
    "repro.runs.reporting": _always,
    "repro.runs.saving": _always,
    # What a run needs, and whether it fits: said before it is trained.
    "repro.runs.estimate": _always,
    "repro.policies.shapes": _always,
    # What a base policy learned from is in its weights, which are part of the identity.
    "repro.tasks.arithmetic.strategies": _always,
    "repro.tasks.arithmetic.ArithmeticTask.demonstration": _always,
    "repro.tasks.countdown.traces": _always,
    "repro.tasks.countdown.CountdownTask.demonstration": _always,
    # Where the values of a config may come from, what is said while they are used, and whom to cite for them.
    "repro.trainer.presets": _always,
    "repro.trainer.config.CovGRPOConfig.preset": _always,
    "repro.trainer.config.CovGRPOConfig._check_updates": _always,
    "repro.trainer.alarms": _always,
    "repro.trainer.methods.base.CUI_2025": _always,
    "repro.policies.templates.prompted": lambda config, device: config.policy.template == "plain",
    "repro.policies.templates.R1_ZERO": lambda config, device: config.policy.template != "r1_zero",
    "repro.trainer.prime": lambda config, device: config.trainer.get("advantage_estimator") != "prime",
    "repro.trainer.probe": _no_probe,
    "repro.ops.torch_ops.vocab_covariance": _no_probe,
    "repro.ops.torch_ops.linear_vocab_covariance": _no_probe,
    "repro.ops.reference.vocab_covariance": _no_probe,
    "repro.ops.reference.linear_vocab_covariance": _no_probe,
    "repro.ops.triton": lambda config, device: device == "cpu",
}
# What acts on several processes alone, and the test of the blocks that call it.
RANKS, SEVERAL = "repro.runs.ranks", "ranks.several()"
# Of what is registered a run uses one: an entry of a dictionary, or a subclass that its statement gives a key.
CHOSEN: Mapping[str, Callable[[RunConfig], str]] = {
    "repro.trainer.methods.base.EntropyControl": lambda config: config.trainer.get("entropy_control", "none"),
    "repro.tasks.TASKS": lambda config: config.task,
    "repro.tasks.SOURCES": lambda config: config.task.rpartition(":")[0],
    "repro.policies.SOURCES": lambda config: policies.split(config.base)[0],
}
# Its settings are not TRL's, so whoever reads one names it.
SETTINGS = "repro.trainer.config.CovGRPOConfig"
# Statements that only speak.
SPEAKING = ("print", "warnings.warn", "_warn")
# Context is implied by position; the others hold comments and spelling.
IGNORED_FIELDS = frozenset({"ctx", "kind", "type_comment"})


def code_fingerprint(config: RunConfig, device: str, ranks: int = 1) -> str:
    """16 hexadecimal digits for the code of this process, read once, as a run on so many processes uses it."""
    return fingerprint(_code_of(Path(__file__).resolve().parents[1], several=ranks > 1), config, device)


def fingerprint(code: "Code", config: RunConfig, device: str) -> str:
    """16 hexadecimal digits for the code that computes a config's run on ``cpu`` or ``cuda``.

    Raises:
        OSError, SyntaxError: when a module cannot be read or parsed.
    """
    unused = {name for name, holds in UNUSED.items() if holds(config, device)} | (
        {RANKS} if not code.several else set()
    )
    return code.digest(frozenset(unused), tuple((name, key(config)) for name, key in CHOSEN.items()))


class Code:
    """The package in a folder, its modules parsed when they are first needed: as one process uses it, or several."""

    def __init__(self, package: Path, *, several: bool = False) -> None:
        self.package, self.several = package, several
        self._modules: dict[str, _Module | None] = {}
        self._digests: dict[Any, str] = {}

    def digest(self, unused: frozenset[str], chosen: tuple[tuple[str, str], ...]) -> str:
        """Hash of all definitions that ``START`` leads to, but for what is unused or not chosen."""
        if (unused, chosen) not in self._digests:
            reached = self.reached(unused, dict(chosen))
            text = json.dumps([[name, [_spelled(node) for node in reached[name]]] for name in sorted(reached)])
            self._digests[unused, chosen] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._digests[unused, chosen]

    def reached(self, unused: frozenset[str], chosen: Mapping[str, str]) -> dict[str, list[ast.stmt]]:
        """Definitions that ``START`` leads to, by name; a module's name stands for what acts when it is imported."""
        reached: dict[str, list[ast.stmt]] = {}
        waiting = list(START)
        while waiting:
            name = waiting.pop()
            parents = itertools.accumulate(name.split("."), "{}.{}".format)
            if name in reached or (name not in START and not unused.isdisjoint(parents)):
                continue
            module, path = self.split(name)
            if module is None:
                continue
            if path == "*":
                waiting += [f"{module.name}.{one}" for one in module.definitions]
                waiting += itertools.chain.from_iterable(map(self.resolve, module.imports.values()))
                continue
            members = {one.removeprefix(f"{name}.") for one in unused if one.startswith(f"{name}.")}
            if name == SETTINGS:
                members.update(self._unread(module.find(path)))
            nodes = [_chosen(_without(node, members), chosen.get(name)) for node in module.find(path)]
            if not path:
                nodes = [node for node in nodes if not self._is_another(module, node, chosen)]
            reached[name] = nodes
            waiting += self._leads_to(module, nodes)
        return reached

    def _unread(self, nodes: list[ast.stmt]) -> Iterator[str]:
        """Settings of a class that the package names where they are declared, and nowhere else."""
        for one in itertools.chain.from_iterable(node.body for node in nodes):
            if isinstance(one, ast.AnnAssign) and isinstance(one.value, ast.Call):
                yield from (name for name in _bound(one) if self._words[name] == 1)

    @cached_property
    def _words(self) -> Counter[str]:
        """How often the package's source has each word, comments and texts included."""
        texts = (path.read_text(encoding="utf-8") for path in self.package.rglob("*.py"))
        return Counter(itertools.chain.from_iterable(re.findall(r"\w+", text) for text in texts))

    def _leads_to(self, module: "_Module", nodes: list[ast.stmt]) -> Iterator[str]:
        """The modules that are imported for a module's definitions, and what names in the definitions stand for."""
        local = dict(module.imported(nodes))
        for target in (module.name, *module.imports.values(), *local.values()):
            imported, path = self.split(target)
            if path == "*":
                yield target
            if imported:
                yield from itertools.accumulate(imported.name.split("."), "{}.{}".format)
        for dotted in itertools.chain.from_iterable(map(_named, nodes)):
            first, _, rest = dotted.partition(".")
            meant = {**module.imports, **local}.get(first)
            if meant:
                yield from self.resolve(f"{meant}.{rest}".rstrip("."))
            elif first in module.definitions:
                yield f"{module.name}.{first}"
            elif first == PACKAGE:
                yield from self.resolve(dotted)

    def _is_another(self, module: "_Module", node: ast.stmt, chosen: Mapping[str, str]) -> bool:
        """Whether a statement registers a class under another key than the one that is chosen of its base."""
        given = {one.value.value for one in getattr(node, "keywords", ()) if isinstance(one.value, ast.Constant)}
        bases = itertools.chain.from_iterable(map(_names, getattr(node, "bases", ())))
        local = {name: f"{module.name}.{name}" for name in module.definitions}
        meant = itertools.chain.from_iterable(self.resolve({**module.imports, **local}.get(one, one)) for one in bases)
        return any(name in chosen and chosen[name] not in given for name in meant)

    def resolve(self, dotted: str) -> Iterator[str]:
        """The definition that a dotted name means, wherever it is imported from; a whole module as ``module.*``."""
        module, path = self.split(dotted)
        first, _, rest = path.partition(".")
        if module is None:
            return
        if first in module.definitions:
            yield f"{module.name}.{first}"
        elif first in module.imports:
            yield from self.resolve(f"{module.imports[first]}.{rest}".rstrip("."))
        else:
            yield f"{module.name}.*"

    def split(self, dotted: str) -> tuple["_Module | None", str]:
        """The module that a dotted name is in, and the rest of the name."""
        parts = dotted.split(".")
        for count in range(len(parts), 0, -1):
            if module := self._module(".".join(parts[:count])):
                return module, ".".join(parts[count:])
        return None, ""

    def _module(self, name: str) -> "_Module | None":
        if name not in self._modules:
            place = self.package.joinpath(*name.split(".")[1:])
            paths = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]
            self._modules[name] = (
                _Module(name, paths[0], self.several) if paths and name.split(".")[0] == PACKAGE else None
            )
        return self._modules[name]


_code_of = cache(Code)


class _Module:
    """A module's top level: what its names stand for, and the statements that act when it is imported."""

    def __init__(self, name: str, path: Path, several: bool) -> None:
        self.name, self._package = name, name if path.name == "__init__.py" else name.rpartition(".")[0]
        tree = _Pruned(several).visit(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))
        self.body: list[ast.stmt] = tree.body
        self.definitions: dict[str, list[ast.stmt]] = {}
        for node in self.body:
            for name in _bound(node):
                self.definitions.setdefault(name, []).append(node)
        plain = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        self.imports = dict(self.imported(node for node in self.body if not isinstance(node, plain)))

    def imported(self, nodes: Iterable[ast.stmt]) -> Iterator[tuple[str, str]]:
        """Names that import statements bind, wherever in the nodes they stand, and what they stand for."""
        for node in itertools.chain.from_iterable(map(_importing, nodes)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    yield alias.asname or top, alias.name if alias.asname else top
            else:
                above = self._package.split(".")[: len(self._package.split(".")) + 1 - node.level] if node.level else []
                for alias in node.names:
                    yield alias.asname or alias.name, ".".join([*above, *filter(None, [node.module]), alias.name])

    def find(self, path: str) -> list[ast.stmt]:
        """What a name of the module, or ``Class.member``, stands for; without a name, what acts on import."""
        if not path:
            return [node for node in self.body if self._acts(node)]
        name, _, member = path.partition(".")
        nodes = self.definitions[name]
        return [one for node in nodes for one in node.body if member in _bound(one)] if member else nodes

    def _acts(self, node: ast.stmt) -> bool:
        """Whether a statement may change something else: not imports, plain definitions and plain assignments."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            return False
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            # A decorator, or arguments of a class, may keep a list of what they are given.
            return bool(getattr(node, "keywords", ())) or any(map(self._is_own, node.decorator_list))
        if isinstance(node, ast.Assign | ast.AnnAssign) and list(_bound(node)):
            return any(isinstance(one, ast.Call) and self._is_own(one) for one in ast.walk(node))
        return True

    def _is_own(self, node: ast.expr) -> bool:
        """Whether an expression is, or calls, a function of this package."""
        first, *rest = ast.unparse(node.func if isinstance(node, ast.Call) else node).split(".")
        meant = self.imports.get(first, "") if first not in self.definitions else f"{PACKAGE}.{first}"
        return meant.startswith(PACKAGE) and [meant, *rest][-1].rpartition(".")[2][:1].islower()


def _bound(node: ast.stmt) -> Iterator[str]:
    """Names that a statement of a module or class defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        stored = (
            one for target in targets for one in ast.walk(target) if isinstance(getattr(one, "ctx", None), ast.Store)
        )
        yield from (one.id for one in stored if isinstance(one, ast.Name))
    elif isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
        for one in ast.walk(node):
            if one is not node and isinstance(one, ast.stmt):
                yield from _bound(one)


def _names(node: ast.AST) -> Iterator[str]:
    """Names that a tree reads, dotted where an attribute is taken, and texts that name something of the package."""
    if isinstance(node, ast.Name | ast.Attribute):
        dotted = ast.unparse(node)
        if dotted.replace(".", "").isidentifier():
            yield dotted
            return
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(f"{PACKAGE}."):
        yield node.value.replace(":", ".")
    for child in ast.iter_child_nodes(node):
        yield from _names(child)


# Runs share most of their definitions, which are the same nodes for all of them.
@cache
def _named(node: ast.AST) -> tuple[str, ...]:
    return tuple(_names(node))


@cache
def _importing(node: ast.AST) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(one for one in ast.walk(node) if isinstance(one, ast.Import | ast.ImportFrom))


@cache
def _spelled(node: ast.AST) -> Any:
    return _plain(node)


def _without(node: ast.stmt, members: set[str]) -> ast.stmt:
    """A class without some of its members."""
    if not members or not isinstance(node, ast.ClassDef):
        return node
    kept = [one for one in node.body if members.isdisjoint(_bound(one))]
    return ast.ClassDef(**{**dict(ast.iter_fields(node)), "body": kept})


def _chosen(node: ast.stmt, key: str | None) -> ast.AST:
    """A dictionary's entry of a key; the whole where it is not written out, or has no such key."""
    if key is not None and isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
        for name, value in zip(node.value.keys, node.value.values, strict=True):
            if isinstance(name, ast.Constant) and name.value == key:
                return value
    return node


class _Pruned(ast.NodeTransformer):
    """Takes out what cannot change a number of a run, on one process or on several."""

    def __init__(self, several: bool) -> None:
        self.several = several

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        value = node.value
        speaks = isinstance(value, ast.Call) and ast.unparse(value.func) in SPEAKING
        return None if speaks or isinstance(value, ast.Constant) else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise(exc=node.exc.func if isinstance(node.exc, ast.Call) else node.exc)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return self.generic_visit(ast.Assert(test=node.test))

    def visit_If(self, node: ast.If) -> Any:
        if ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
            return [self.visit(one) for one in node.orelse]
        if ast.unparse(node.test) == SEVERAL and not self.several:
            return [self.visit(one) for one in node.orelse]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = ast.unparse(node.func).rpartition(".")[2]
        if name == "field":
            node.keywords = [one for one in node.keywords if one.arg != "metadata"]
        elif name == "setting":
            node.args = node.args[:1]
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(arg=node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def _plain(node: Any) -> Any:
    """A syntax tree as nested lists: no positions and no empty fields (which differ between Pythons)."""
    if isinstance(node, ast.Constant):
        return ["Constant", type(node.value).__name__, ascii(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", *_joined(node.values)]
    if isinstance(node, ast.AST):
        values = ((name, getattr(node, name, None)) for name in node._fields if name not in IGNORED_FIELDS)
        return [type(node).__name__, *([name, _plain(value)] for name, value in values if value not in (None, []))]
    if isinstance(node, list):
        return [_plain(item) for item in node]
    return ascii(node)


def _joined(parts: list[ast.expr]) -> Iterator[Any]:
    """The parts of an f-string, its neighbouring texts made one: Pythons cut them in different places."""
    for is_text, group in itertools.groupby(parts, lambda part: isinstance(part, ast.Constant)):
        if not is_text:
            yield from map(_plain, group)
        elif text := "".join(part.value for part in group):
            yield ["Constant", "str", ascii(text)]
