"""Figures of executed notebooks as parts of the pages that argue, with caption, numbers and origin."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from repro.book import looks
from repro.book.display import DRAWN
from repro.book.zipped import zipped
from repro.claims import Ledger
from repro.runs import Run

DRAWING = "image/svg+xml"


@dataclass(frozen=True)
class Panel:
    """A figure: its name, the label of the cell that drew it, and what is shown. `arms` are those whose runs it draws.

    Where `cell` is empty, the figure was drawn for its page and by no notebook.
    """

    name: str
    cell: str
    svg: str
    caption: str
    alt: str
    csv: str
    arms: tuple[str, ...]

    @property
    def files(self) -> dict[str, bytes]:
        """What the page shows and links to, by file name."""
        numbers = zipped({f"{self.name}.csv": self.csv.encode()})
        return {f"{self.name}.svg": self.svg.encode(), f"{self.name}.csv.zip": numbers}

    def fragment(self, runs: Sequence[Run]) -> str:
        """The figure for a page, in MyST: numbered, captioned, and under it where it comes from."""
        made = [run for run in runs if run.config.arm in self.arms]
        links = [f"{{ref}}`made by this cell <{self.cell}>`"] if self.cell else []
        links.append(f"{{download}}`numbers (CSV, zipped) </_generated/{self.name}.csv.zip>`")
        lines = [
            f":::{{figure}} /_generated/{self.name}.svg",
            f":name: {self.name}",
            f":alt: {self.alt}",
            self.caption,
            "",
            f"{origin(made)} {' · '.join(links)}",
            ":::",
            "",
        ]
        return "\n".join(lines)


def origin(runs: Sequence[Run]) -> str:
    """A mark that tells recorded runs from those made by this build, and the way to them."""
    if not runs:
        return "No runs: the paper's numbers, or exact ones."
    arms = dict.fromkeys(run.config.arm for run in runs)
    ways = ", ".join(f"{{ref}}`{looks.name(arm)} <arm-{arm}>`" for arm in arms)
    count = len({run.config.folder for run in runs})  # two arms may share one
    return f"{mark(runs)} {count} run{'s' * (count != 1)}: {ways}."


def mark(runs: Iterable[Run]) -> str:
    """A badge: recorded (filled), made by this build (outlined), or both."""
    recorded = {run.recorded for run in runs}
    if recorded == {True}:
        return "{bdg-primary}`recorded`"
    return "{bdg-primary-line}`made by this build`" + (" {bdg-primary}`recorded`" if True in recorded else "")


def read(notebook: Path, ledger: Ledger, arms: Sequence[str]) -> dict[str, Panel]:
    """The figures of an executed notebook by name.

    Args:
        notebook: an executed .ipynb file.
        ledger: says which arms the sub-claims of a figure measure.
        arms: those that the notebook reads, for figures that no sub-claim names.
    """
    found = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        given = cell.metadata.get("mystnb", {})
        name = given.get("figure", {}).get("name")
        for output in cell.get("outputs", []):
            if name and DRAWING in output.get("data", {}):
                drawn = output.metadata.get(DRAWN, {})
                found[name] = Panel(
                    name=name,
                    cell=f"cell-{name}",
                    svg=output.data[DRAWING],
                    caption=drawn.get("caption", ""),
                    alt=given.get("image", {}).get("alt", ""),
                    csv=drawn.get("csv", ""),
                    arms=_measured(name, ledger, arms),
                )
    return found


def _measured(figure: str, ledger: Ledger, others: Sequence[str]) -> tuple[str, ...]:
    parts = [part for claim in ledger.claims for part in claim.subclaims if part.figure == figure]
    return tuple(dict.fromkeys(arm for part in parts for arm in part.arms)) if parts else tuple(others)


def page(notebook: Path, places: Mapping[str, str]) -> NotebookNode:
    """An executed notebook as a page of the book: its figures have a place to link to, and lead to theirs.

    Args:
        notebook: an executed .ipynb file.
        places: the pages that show its figures, by the figures' names.
    """
    content = nbformat.read(notebook, as_version=4)
    content.cells = list(_cells(content.cells, places))
    return content


def _cells(cells: Iterable[NotebookNode], places: Mapping[str, str]) -> Iterator[NotebookNode]:
    for cell in cells:
        name = cell.metadata.get("mystnb", {}).pop("figure", {}).get("name")
        for output in cell.get("outputs", []):
            output.get("metadata", {}).pop(DRAWN, None)
        if name:
            where = f"{{numref}}`{name}` of the book." if name in places else "This figure."
            target = nbformat.v4.new_markdown_cell(f"(cell-{name})=\n{where}")
            target.id = f"to-{re.sub(r'[^a-z0-9-]', '-', name)}"
            yield target
        yield cell


def shown(text: str) -> list[str]:
    """Names of the figures that a page's MyST shows."""
    return re.findall(r"_generated/figure-([a-z0-9-]+)\.md", text)
