"""The tables of the trainer's page, from what the code says of itself: ``python -m repro.trainer.docs`` writes them.

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from repro import paths
from repro.trainer import filter_groups, monitor
from repro.trainer.config import own_fields
from repro.trainer.methods import METHODS
from repro.trainer.methods.pool import SELECTORS

BLOCK = re.compile(r"(?<=<!-- table )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(row)} |\n" for row in (header, *rows)]
    return "".join([lines[0], "|" + "---|" * len(header) + "\n", *lines[1:]])


def fields() -> str:
    """The config's fields beyond TRL's: those of all methods first, then those of one."""
    of_methods = {name for method in METHODS.values() if method.settings for name in method.settings.__annotations__}
    ordered = sorted(own_fields(), key=lambda field: field.name in of_methods)
    rows = [(f"`{f.name}`", _shown(f.default), f.metadata["help"].replace("%%", "%")) for f in ordered]
    return table(("field", "default", "meaning"), rows)


def _shown(default: Any) -> str:
    return f'`"{default}"`' if isinstance(default, str) else f"`{default}`"


def meanings(metrics: Mapping[tuple[str, ...], str]) -> str:
    """A table of metrics, several to a row where they share a meaning."""
    rows = [(", ".join(f"`{name}`" for name in names), meaning) for names, meaning in metrics.items()]
    return table(("metric", "meaning"), rows)


def metrics() -> str:
    """What is logged at every optimizer step: by the monitor, then by methods."""
    return meanings(monitor.METRICS | {(name,): text for m in METHODS.values() for name, text in m.logs.items()})


def filtering() -> str:
    """What is logged of every rollout with ``filter_groups``."""
    return meanings(filter_groups.METRICS)


def tokens() -> str:
    """What ``entropy_control_tokens`` can be."""
    method = "those of the method: KL-Cov's largest covariance, Clip-Cov's draw from its band"
    chosen = {"method": method} | {name: selector.__doc__.splitlines()[0] for name, selector in SELECTORS.items()}
    return table(("`entropy_control_tokens`", "tokens"), [(f'`"{name}"`', text) for name, text in chosen.items()])


TABLES = {table.__name__: table for table in (fields, metrics, filtering, tokens)}


def written(text: str) -> str:
    """A page's text with its tables as the code has them."""
    return BLOCK.sub(lambda block: f"{block[1]}{block[2]}{TABLES[block[1]]()}", text)


def page() -> Path:
    """The page whose tables these are."""
    return paths.root() / "book" / "trainer.md"


if __name__ == "__main__":
    page().write_text(written(page().read_text(encoding="utf-8")), encoding="utf-8")
