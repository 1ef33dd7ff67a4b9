"""Policies: where they come from, the family trained from scratch, and a fast sampler for small ones.

A policy's name says where it is: ``s`` is a base that ships or was made here, ``hub:Qwen/Qwen2.5-0.5B`` is pinned from
the Hub, ``local:mine`` from a folder. A source is an object with what :class:`PolicySource` lists, and a line in
``SOURCES`` gives it a prefix, which the first colon ends. Importing this package is light: a policy's libraries are
imported when it is loaded.
"""

import pkgutil
from typing import TYPE_CHECKING, Protocol

from repro.errors import BaseError
from repro.policies.settings import PolicySettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SOURCES = {
    "": "repro.policies.embedded:EmbeddedBases",
    "hub": "repro.policies.pinned:HubPolicies",
    "local": "repro.policies.pinned:LocalPolicies",
}
"""Prefix -> module and class."""


class PolicySource(Protocol):
    """A place that policies come from. Errors are ``BaseError`` or ``PinError`` and say what to do."""

    def load(self, name: str, settings: PolicySettings, seed: int) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """The policy of that name, without the prefix, and its tokenizer; new adapters are drawn from ``seed``."""

    def identity(self, name: str) -> str:
        """Hexadecimal digits that differ whenever the policy's weights do, found without loading them."""


def load(
    name: str, settings: PolicySettings | None = None, *, seed: int = 0
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A policy and its tokenizer.

    Args:
        name: as in a run's ``base``.
        settings: of a pinned policy.
        seed: of adapters that are made for it.

    Raises:
        BaseError: when it is not there, or not what it should be.
        PinError: when it is not pinned, or not what was pinned.
        ConfigError: for settings that it cannot have.
    """
    source, rest = _source(name)
    return source.load(rest, settings or PolicySettings(), seed)


def identity(name: str) -> str:
    """Hexadecimal digits that differ whenever the policy's weights do.

    Raises:
        BaseError: when it is not there.
        PinError: when it is not pinned.
    """
    source, rest = _source(name)
    return source.identity(rest)


def split(name: str) -> tuple[str, str]:
    """The prefix of a policy's name, empty for none, and the rest: the first colon ends it."""
    prefix, colon, rest = name.partition(":")
    return (prefix, rest) if colon else ("", name)


def _source(name: str) -> tuple[PolicySource, str]:
    prefix, rest = split(name)
    if prefix not in SOURCES or name.startswith(":"):
        known = ", ".join(f"{one}:" for one in SOURCES if one)
        raise BaseError(f"policy {name!r} is from an unknown source; the prefixes are {known}, and a base has none")
    return pkgutil.resolve_name(SOURCES[prefix])(), rest
