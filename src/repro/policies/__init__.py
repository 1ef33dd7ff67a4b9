"""Policies: where they come from, the family trained from scratch, and a fast sampler for small ones.

A policy's name says where it is: ``s`` is a base that ships or was made here. A source is an object with what
:class:`PolicySource` lists, and a line in ``SOURCES`` gives it a prefix, which a colon ends. Importing this package is
light: a policy's libraries are imported when it is loaded.
"""

import pkgutil
from typing import TYPE_CHECKING, Protocol

from repro.errors import BaseError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SOURCES = {"": "repro.policies.embedded:EmbeddedBases"}
"""Prefix -> module and class."""


class PolicySource(Protocol):
    """A place that policies come from. Errors are ``BaseError`` and say what to do."""

    def load(self, name: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """The policy of that name, without the prefix, and its tokenizer."""

    def identity(self, name: str) -> str:
        """Hexadecimal digits that differ whenever the policy's weights do, found without loading them."""


def load(name: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A policy and its tokenizer.

    Raises:
        BaseError: when it is not there, or is not what it should be.
    """
    source, rest = _source(name)
    return source.load(rest)


def identity(name: str) -> str:
    """Hexadecimal digits that differ whenever the policy's weights do.

    Raises:
        BaseError: when it is not there.
    """
    source, rest = _source(name)
    return source.identity(rest)


def _source(name: str) -> tuple[PolicySource, str]:
    prefix, colon, rest = name.partition(":") if ":" in name else ("", "", name)
    if prefix not in SOURCES or bool(prefix) != bool(colon):
        known = ", ".join(f"{one}:" for one in SOURCES if one) or "none"
        raise BaseError(f"policy {name!r} is from an unknown source; the prefixes are {known}, and a base has none")
    return pkgutil.resolve_name(SOURCES[prefix])(), rest
