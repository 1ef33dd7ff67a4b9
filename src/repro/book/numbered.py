"""A Sphinx extension: references by number, without reading a whole page from disk for each.

Sphinx unpickles the page that a `numref` leads to, for every one of them; that was most of the time of a build.
"""

from functools import cache
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.std import StandardDomain
from sphinx.environment import BuildEnvironment


class _Remembering:
    """An environment that reads each page once. What it gives is looked at, and not changed."""

    def __init__(self, env: BuildEnvironment) -> None:
        self._env = env
        self.get_doctree = cache(env.get_doctree)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


class NumberedDomain(StandardDomain):
    """Sphinx's own domain of labels. Numbers are looked up when all pages have been read, so pages stay as they are."""

    def _resolve_numref_xref(self, env: BuildEnvironment, *arguments: Any) -> nodes.Element | None:
        if not hasattr(self, "_remembering"):
            self._remembering = _Remembering(env)
        return super()._resolve_numref_xref(self._remembering, *arguments)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the domain in the place of Sphinx's."""
    app.add_domain(NumberedDomain, override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
