"""What the book says where a profile answers only some of the claims.

A page stays, with its question and its argument, so that nothing that leads to it breaks; its numbers and figures come
from notebooks that are not executed for this profile, and what stands in their places says so.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from repro import claims
from repro.book import needs
from repro.claims import Claim, Ledger
from repro.runs.profiles import Profile

NOT_RUN = "*not run*"
_GLUED = re.compile(r"\{glue:text\}`[./]*(notebooks/\w+)\.ipynb::[^`]+`")
_NUMBERED = re.compile(r"\{numref\}`([a-z0-9-]+)`")
_FIGURE = re.compile(r'"figure": \{"name": "([^"]+)"')
_HEADING = re.compile(r"^# .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Absent:
    """The notebooks that are not executed for a profile, as `notebooks/<name>`, with the figures of each."""

    profile: str
    figures: Mapping[str, Sequence[str]]

    def page(self, text: str, entries: Sequence[Claim]) -> str:
        """A page's MyST without what the absent notebooks would give it; `entries` are claims of theirs on it."""
        drawn = {name for names in self.figures.values() for name in names}
        text = _GLUED.sub(lambda found: NOT_RUN if found[1] in self.figures else found[0], text)
        text = _NUMBERED.sub(lambda found: "a figure that this copy lacks" if found[1] in drawn else found[0], text)
        if not entries:
            return text
        return _HEADING.sub(lambda found: f"{found[0]}\n:::{{note}}\n{self.said(entries)}\n:::\n", text, count=1)

    def said(self, entries: Sequence[Claim]) -> str:
        """That a profile does not answer claims, and which profile does."""
        having = [name for name in claims.answering(entries) if name != self.profile]
        way = f"`make book PROFILE={having[0]}` has them." if having else "No profile has them yet."
        said = f"The profile `{self.profile}` of this copy does not answer this: numbers and figures are left out."
        return f"{said} {way}"

    def fragments(self) -> dict[str, str]:
        """What pages include of the absent notebooks, by file name: a line in place of each figure, and a drawing."""
        line = f"*Not drawn: the profile `{self.profile}` leaves this out.*\n"
        drawing = (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 60"><text x="240" y="36" text-anchor="middle" '
            f'font-family="sans-serif" font-size="14" fill="#666">Not run by the profile {escape(self.profile)}</text>'
            "</svg>"
        )
        texts = {}
        for notebook, names in self.figures.items():
            texts[f"again-{Path(notebook).name}.md"] = line.replace("drawn", "executed")
            texts |= {f"figure-{name}.md": line for name in names} | {f"{name}.svg": drawing for name in names}
        return texts


def absent(profile: Profile, ledger: Ledger, scripts: Mapping[str, Path]) -> Absent:
    """What is absent for a profile, of notebooks given by their names in the book."""
    missing = {name: source for name, source in scripts.items() if not needs.executes(source, ledger, profile)}
    return Absent(profile.name, {name: _FIGURE.findall(source.read_text("utf-8")) for name, source in missing.items()})


def without(contents: object, names: Mapping[str, object]) -> object:
    """A table of contents without the entries of some files."""
    if isinstance(contents, list):
        return [without(one, names) for one in contents if not (isinstance(one, dict) and one.get("file") in names)]
    if isinstance(contents, dict):
        kept = {key: without(value, names) for key, value in contents.items()}
        return {key: value for key, value in kept.items() if value != []}
    return contents
