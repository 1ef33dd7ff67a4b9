"""Profiles: which runs make up the study at one scale.

``configs/arms.yaml`` has the study's arms in groups: what each method changes, and for a group the fields (``run``)
that its arms share. ``configs/profiles/<name>.yaml`` has the scale. Its keys are ``description``, ``base``, ``seeds``,
``run`` (fields of every run) and ``groups``: those that the profile has, each with ``seeds``, ``run`` and fields of
single ``arms`` of its own where they differ. A group with ``seeds: []`` is planned: its criteria are shown, and it has
no runs. The file's name is the profile's. ``base`` names one base policy, or several, which the seeds take in turn:
seed k the k-th, so that arms are compared within a base. One of the paper's is named as in `repro.policies.published`,
which says how it is prompted too. ``shows`` names other profiles, whose own runs belong to this one too, without being
trained for it; two profiles may show each other.

A profile answers the claims all of whose arms it has, or of those the ones that it names under ``claims``, by the ids
of ``configs/claims/``; `repro.claims.answered` says which. Whatever shows the others leaves them out, and says so.

Where one field is given in several places the more particular one holds: the profile's ``run``, then the group's in
``arms.yaml``, the group's in the profile, the arm's in ``arms.yaml``, the arm's in the profile. Beside the fields of a
run there are ``rollouts`` and ``eval_rollouts``, which say in rollouts what ``max_steps`` and ``eval_steps`` say in
optimizer steps, so that arms with different numbers of updates can see as many rollouts.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from repro.checked import Checked, parse, read
from repro.errors import ConfigError
from repro.paths import configs_dir
from repro.policies.published import PUBLISHED
from repro.runs.config import RunConfig

IN_ROLLOUTS = {"rollouts": "max_steps", "eval_rollouts": "eval_steps"}
MANY = 12
# Said once, in `seeds` or as an arm's name, and not again among a run's fields.
SET_ELSEWHERE = ("seed", "arm")


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{seeds} names a seed twice")
    return seeds


def _blocks(names: list[str]) -> tuple[str, ...]:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{names} is not allowed; name one base policy, or several that differ")
    return tuple(names)


Fields = dict[str, Any]
Bases = Annotated[
    list[str], BeforeValidator(lambda names: [names] if isinstance(names, str) else names), AfterValidator(_blocks)
]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], AfterValidator(_distinct)]


class _Scale(Checked):
    """What a profile says of one group."""

    seeds: Seeds | None = None
    run: Fields | None = None
    arms: dict[str, Fields] | None = None


class _ProfileFile(Checked):
    description: str
    base: Bases
    seeds: Annotated[Seeds, Field(min_length=1)]
    groups: dict[str, _Scale | None]
    run: Fields | None = None
    claims: Annotated[list[str], Field(min_length=1)] | None = None
    shows: list[str] = Field(default_factory=list)


class _ArmGroup(Checked):
    run: Fields | None = None
    arms: dict[str, Fields]


@dataclass(frozen=True)
class Arm:
    """One method of a profile: its group, its seeds, the bases they take in turn, and the fields of its runs.

    ``shown`` names the profile that trains it, where that is another one.
    """

    group: str
    seeds: tuple[int, ...]
    bases: tuple[str, ...]
    fields: Mapping[str, Any]
    shown: str | None = None


@dataclass(frozen=True)
class Profile:
    """A named set of runs: every arm with each of its seeds."""

    name: str
    description: str
    bases: tuple[str, ...]
    arms: Mapping[str, Arm]
    source: Path
    claims: tuple[str, ...] | None = None

    def configs(self, arm: str, seeds: Sequence[int] | None = None) -> list[RunConfig]:
        """Configs of one arm, one per seed; ``seeds`` in place of the profile's where given.

        Raises:
            ConfigError: for an unknown arm, or a field or value that a run cannot have.
        """
        if arm not in self.arms:
            raise ConfigError(self._lacks(arm))
        one = self.arms[arm]
        source = f"{self.source} (arm {arm})"
        return [
            RunConfig.from_dict(
                _in_steps(
                    _from_base(one.bases[seed % len(one.bases)], one.fields) | {"arm": arm, "seed": seed}, source
                ),
                source=source,
            )
            for seed in (one.seeds if seeds is None else seeds)
        ]

    def _lacks(self, arm: str) -> str:
        """Why there is no such arm here: the profile leaves its group out, or there is none of that name at all."""
        if arm not in all_arms():
            return f"arm {arm!r} is not in profile {self.name!r}; {_known(arm, list(self.arms))}"
        having = [name for name in profile_names() if arm in load_profile(name).arms]
        where = f"the profiles {', '.join(having)} have" if having else "no profile has"
        return f"profile {self.name!r} does not answer this: it leaves out the arm {arm!r}, which {where}"

    @property
    def own(self) -> "Profile":
        """The profile without the runs that it only shows."""
        return replace(self, arms={name: arm for name, arm in self.arms.items() if arm.shown is None})

    def all_configs(self) -> list[RunConfig]:
        """Configs of all arms and seeds, in the order of ``arms.yaml``."""
        return [config for arm in self.arms for config in self.configs(arm)]


def profile_names() -> list[str]:
    """Names of the profiles there are."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def all_arms() -> list[str]:
    """Names of the study's arms, in the order of ``arms.yaml``, whether a profile has them or not."""
    return [arm for group in _arm_groups(configs_dir() / "arms.yaml").values() for arm in group.arms]


def load_profile(name: str) -> Profile:
    """Read and check a profile, the configs of its runs included.

    Raises:
        ConfigError: for an unknown profile, naming the known ones; for an unknown or missing key; for a value of the
            wrong type or out of range, naming file, key and value.
    """
    if name not in profile_names():
        raise ConfigError(f"profile {name!r} is unknown; the profiles are {', '.join(profile_names())}")
    source = _folder() / f"{name}.yaml"
    file = read(_ProfileFile, _yaml(source), source)
    arms = _own_arms(file, source)
    for other in file.shows:
        if other not in profile_names() or other == name:
            raise ConfigError(f"{source}: shows: {other!r} is no other profile; those are {', '.join(profile_names())}")
        theirs = _folder() / f"{other}.yaml"
        for arm, one in _own_arms(read(_ProfileFile, _yaml(theirs), theirs), theirs).items():
            if arm in arms:
                raise ConfigError(f"{source}: shows: profile {other!r} has the arm {arm!r}, which this one has itself")
            arms[arm] = replace(one, shown=other)
    arms = {arm: arms[arm] for arm in all_arms() if arm in arms}
    claims = None if file.claims is None else tuple(file.claims)
    profile = Profile(name, file.description.strip(), file.base, arms, source, claims)
    profile.all_configs()
    return profile


def _own_arms(file: _ProfileFile, source: Path) -> dict[str, Arm]:
    """The arms of a profile's groups, without those that it shows of others."""
    groups = _arm_groups(configs_dir() / "arms.yaml")
    for group in file.groups:
        if group not in groups:
            raise ConfigError(f"{source}: group {group!r} is not in arms.yaml; its groups are {', '.join(groups)}")
    arms = {}
    for group, shared in groups.items():
        if group not in file.groups:
            continue
        own = file.groups[group] or _Scale()
        layers = [file.run or {}, shared.run or {}, own.run or {}]
        changed = own.arms or {}
        if unknown := changed.keys() - shared.arms.keys():
            raise ConfigError(
                f"{source}: groups.{group}.arms: {min(unknown)!r} is not an arm of it in arms.yaml; its arms are "
                f"{', '.join(shared.arms)}"
            )
        for arm, fields in shared.arms.items():
            every = [*layers, fields, changed.get(arm, {})]
            seeds = file.seeds if own.seeds is None else own.seeds
            arms[arm] = Arm(group, tuple(seeds), file.base, _joined(source, every))
    return arms


def _known(arm: str, arms: Sequence[str]) -> str:
    """The arms there are; of many, the nearest."""
    if len(arms) <= MANY:
        return f"its arms are {', '.join(arms)}"
    near = difflib.get_close_matches(arm, arms)
    return f"the nearest are {', '.join(near) or 'none'}, and configs/arms.yaml has all {len(arms)}"


def _folder() -> Path:
    return configs_dir() / "profiles"


def _yaml(source: Path) -> Any:
    try:
        return parse(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: not YAML: {' '.join(str(error).split())}") from error


def _arm_groups(source: Path) -> dict[str, _ArmGroup]:
    """The groups of arms, by name."""
    groups = read(dict[str, _ArmGroup], _yaml(source), source)
    seen: set[str] = set()
    for group, values in groups.items():
        if twice := seen.intersection(values.arms):
            raise ConfigError(f"{source}: arm {twice.pop()!r} is there twice; the second is in group {group!r}")
        seen.update(values.arms)
    return groups


def _from_base(base: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a run with its base; one of the paper's has its template, unless the fields give another."""
    if base not in PUBLISHED:
        return {"base": base, **fields}
    published = PUBLISHED[base].fields
    policy = fields.get("policy", {})
    together = {**published["policy"], **policy} if isinstance(policy, Mapping) else policy
    return {**published, **fields, "policy": together}


def _joined(source: Path, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fields of a run, later layers over earlier ones; fields of the trainer are joined one by one."""
    joined: dict[str, Any] = {}
    for layer in layers:
        for name in SET_ELSEWHERE:
            if name in layer:
                raise ConfigError(f"{source}: {name}={layer[name]!r} among a run's fields is set elsewhere: remove it")
        trainer = [part.get("trainer") for part in (joined, layer)]
        joined.update(layer)
        if all(isinstance(part, Mapping) for part in trainer):
            joined["trainer"] = {**trainer[0], **trainer[1]}
        for name, field in IN_ROLLOUTS.items():
            # The later of the two ways to say one thing holds; rollouts take the place of steps when they are turned.
            if field in layer:
                joined.pop(name, None)
    return joined


def _in_steps(fields: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Fields of a run with rollouts turned into optimizer steps."""
    counts = {name: fields[name] for name in IN_ROLLOUTS if name in fields}
    for name, count in counts.items():
        if type(count) is not int or count < 1:
            raise ConfigError(f"{source}: {name}={count!r} is not allowed; it must be an integer of at least 1")
    converted = {name: value for name, value in fields.items() if name not in counts}
    for name in counts:
        converted.pop(IN_ROLLOUTS[name], None)
    updates = RunConfig.from_dict(converted, source=source).updates_per_rollout if counts else 1
    return converted | {IN_ROLLOUTS[name]: count * updates for name, count in counts.items()}
