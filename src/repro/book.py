"""The book: pages from `book/`, executed notebooks, and fragments computed from the runs, built into a site.

`build` puts the three together in `build/<profile>/book-src` and hands them to Jupyter Book, which renders and executes
nothing. Fragments are MyST files and figures under `_generated/` that pages include, so that whatever depends on the
runs or on the code is computed and cannot drift: verdict tables, criteria, settings of the runs, what made them.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import nbformat
import yaml

from repro import claims, display, paths
from repro.claims import Claim, Finding, Verdict
from repro.errors import ReproError
from repro.profiles import Profile, load_profile
from repro.runs import Run, load
from repro.tasks.strategies import STANDARD

GENERATED = "_generated"
BADGES = {
    Verdict.REPRODUCED: "bdg-success",
    Verdict.PARTLY: "bdg-warning",
    Verdict.NOT_REPRODUCED: "bdg-danger",
    Verdict.UNDERPOWERED: "bdg-muted",
}
LOG_LINES = 20
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class BookError(ReproError):
    """A book whose parts are missing or that does not build."""


def build(profile: str) -> Path:
    """Build the book of a profile from its recorded runs, stored verdicts and executed notebooks.

    Args:
        profile: name of the profile; `build/<profile>/notebooks/` and `verdicts.json` must be there.

    Returns:
        The site's first page, `build/<profile>/site/index.html`.

    Raises:
        BookError: a notebook of the table of contents is missing, or Jupyter Book warns or fails.
        ReproError: an unknown profile, missing verdicts, or a run without a current record.
    """
    loaded = load_profile(profile)
    runs = [load(config) for config in loaded.all_configs()]
    folder = paths.build_dir() / profile
    source = assemble(loaded, claims.read_verdicts(profile), runs, folder)
    return render(source, folder / "site")


def assemble(profile: Profile, findings: Sequence[Finding], runs: Sequence[Run], folder: Path) -> Path:
    """Put pages, executed notebooks and fragments together in `folder/book-src`, which is made anew."""
    pages = paths.root() / "book"
    if not (pages / "_toc.yml").is_file():
        raise BookError(f"{pages / '_toc.yml'} is missing: the book builds in a checkout of the repository only")
    source = folder / "book-src"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(pages, source)
    (source / "notebooks").mkdir()
    for name in _notebooks(source / "_toc.yml"):
        executed = folder / f"{name}.ipynb"
        if not executed.is_file():
            raise BookError(f"{executed} is missing; make it with `make reproduce PROFILE={profile.name}`")
        shutil.copy(executed, source / f"{name}.ipynb")
    (source / GENERATED).mkdir()
    fragments = {
        "banner.md": _banner(profile, findings),
        "verdicts.md": _verdict_table(profile, findings),
        "command.md": f"```bash\nmake reproduce PROFILE={profile.name}\n```\n",
        "status.md": _status(profile, runs),
        "config.md": _settings(runs),
        "strategies.md": _strategies(),
        "kl_cov.py": (paths.root() / "examples" / "kl_cov.py").read_text(encoding="utf-8"),
    }
    for claim in claims.load_ledger().claims:
        mine = [finding for finding in findings if finding.claim == claim.id]
        fragments[f"claim-{claim.id}.md"] = _claim_summary(claim, mine)
        fragments[f"criteria-{claim.id}.md"] = _criteria(claim)
    for name, text in fragments.items():
        (source / GENERATED / name).write_text(text, encoding="utf-8")
    for notebook in source.glob("notebooks/*.ipynb"):
        for name, drawing in _figures(notebook).items():
            (source / GENERATED / f"{name}.svg").write_text(drawing, encoding="utf-8")
    if shortfall := _shortfall(profile, findings):
        _announce(source / "_config.yml", shortfall)
    return source


def render(source: Path, site: Path) -> Path:
    """Build `source` with Jupyter Book into `site`, where the old pages stay until the new ones are there.

    Returns:
        The first page.

    Raises:
        BookError: Jupyter Book fails or warns; the message has the warnings.
    """
    output = source.parent / "book-out"
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source)]
    command += ["-n", "-W", "--keep-going", "--quiet", "--path-output", str(output)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    pages = output / "_build" / "html"
    if done.returncode or not (pages / "index.html").is_file():
        lines = [COLOURS.sub("", line) for line in done.stdout.splitlines() if line.strip()]
        complaints = [line for line in dict.fromkeys(lines) if "WARNING" in line or "ERROR" in line]
        raise BookError(f"the book in {source} does not build: {'; '.join(complaints or lines[-LOG_LINES:])}")
    old = site.with_name("site-old")
    shutil.rmtree(old, ignore_errors=True)
    if site.exists():
        site.rename(old)
    pages.rename(site)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(output)
    return site / "index.html"


def _notebooks(contents: Path) -> list[str]:
    """Pages of a table of contents that are notebooks, as `notebooks/<name>`."""

    def files(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (value for key, value in node.items() if key in ("file", "root"))
            node = list(node.values())
        if isinstance(node, list):
            for one in node:
                yield from files(one)

    toc = yaml.safe_load(contents.read_text(encoding="utf-8"))
    return [name for name in files(toc) if name.startswith("notebooks/")]


def _figures(notebook: Path) -> dict[str, str]:
    """The SVG figures of an executed notebook, by the name that its cell gives them."""
    found = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
        for output in cell.get("outputs", []):
            if name and "image/svg+xml" in output.get("data", {}):
                found[name] = output.data["image/svg+xml"]
    return found


def _announce(config: Path, text: str) -> None:
    """Put a line at the top of every page."""
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    values.setdefault("html", {})["announcement"] = text
    config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _shortfall(profile: Profile, findings: Sequence[Finding]) -> str:
    """One sentence if the profile has too few seeds for some claim's verdict, else nothing."""
    short = [
        claim
        for claim in claims.load_ledger().claims
        if any(finding.claim == claim.id and finding.n < claim.minimum_seeds for finding in findings)
    ]
    if not short:
        return ""
    n = min(finding.n for finding in findings)
    needed = max(claim.minimum_seeds for claim in short)
    return (
        f"Profile {profile.name} has {_count(n, 'seed')} where a verdict needs {needed}: every verdict in this copy is "
        "underpowered."
    )


def _banner(profile: Profile, findings: Sequence[Finding]) -> str:
    """A warning if the profile is too small for verdicts, else what the book was made from."""
    if shortfall := _shortfall(profile, findings):
        return (
            f":::{{warning}}\n{shortfall} It shows that the whole way works, not what the runs of the study say. "
            "`make reproduce` makes those.\n:::\n"
        )
    return f"This copy shows the profile `{profile.name}`. {profile.description}\n"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _list_table(header: Sequence[str], rows: Iterable[Sequence[str]], css: str = "") -> str:
    """A MyST table; cells are one line of MyST each."""
    lines = ["```{list-table}", ":header-rows: 1"]
    if css:
        lines.append(f":class: {css}")
    for row in (header, *rows):
        lines += ["", f"* - {row[0]}", *(f"  - {cell}" for cell in row[1:])]
    return "\n".join([*lines, "```", ""])


def _badge(verdict: Verdict) -> str:
    return f"{{{BADGES[verdict]}}}`{verdict}`"


def _verdict_table(profile: Profile, findings: Sequence[Finding]) -> str:
    """A table per claim: the paper's number, ours, n, profile, verdict."""
    parts = []
    for claim in claims.load_ledger().claims:
        mine = [finding for finding in findings if finding.claim == claim.id]
        if not mine:
            continue
        parts.append(
            f"**{{doc}}`Claim {claim.number} </{claim.page}>`. {claim.title}.** {_badge(claims.claim_verdict(mine))}\n"
        )
        rows = [(one.title, one.printed_as, one.ours, str(one.n), profile.name, _badge(one.verdict)) for one in mine]
        header = ("Claim", "Paper", "Ours (95 % interval)", "n", "Profile", "Verdict")
        parts.append(_list_table(header, rows, "verdicts with-profile"))
        parts.append(_notes(mine))
    return "\n".join(parts)


def _notes(findings: Sequence[Finding]) -> str:
    """Why findings are underpowered, once each."""
    notes = dict.fromkeys(finding.note for finding in findings if finding.note)
    return f"Underpowered: {'; '.join(notes)}.\n" if notes else ""


def _claim_summary(claim: Claim, findings: Sequence[Finding]) -> str:
    """The claim in our words, its source, its verdict and the table of its sub-claims."""
    verdict = _badge(claims.claim_verdict(findings))
    rows = [(one.title, one.printed_as, one.ours, str(one.n), one.criterion, _badge(one.verdict)) for one in findings]
    header = ("Sub-claim", "Paper", "Ours (95 % interval)", "n", "Reproduced if", "Verdict")
    return "\n".join(
        [
            f"> {claim.statement}\n",
            f"Source: {claim.source} of {{cite:t}}`cui2025entropy`. Verdict: {verdict}\n",
            _list_table(header, rows, "verdicts with-range"),
            _notes(findings),
        ]
    )


def _criteria(claim: Claim) -> str:
    """Measures, criteria and reasons as the ledger has them."""
    lines = [
        f"Dated {claim.written.isoformat()}. Arm `{claim.arm}`, at least {_count(claim.minimum_seeds, 'seed')}.",
        f"{claim.reasoning}\n",
    ]
    for part in claim.subclaims:
        arguments = ", ".join(f"{name} {_spelled(name, value)}" for name, value in part.arguments.items())
        lines += [
            f"{part.title}",
            f": Reproduced if {part.criterion.text(part.unit)}. Measured by `repro.claims.{part.measure}` with "
            f"{arguments}. {part.reason}\n",
        ]
    return "\n".join(lines)


def _spelled(name: str, value: float) -> str:
    """An argument as the ledger writes it: parts of training as fractions, 1/24 rather than 0.041666."""
    return str(Fraction(value).limit_denominator(1000)) if name in ("fraction", "window") else f"{value:g}"


def _status(profile: Profile, runs: Sequence[Run]) -> str:
    """Profile, what made the runs, and a row per run."""
    made = [("Profile", f"`{profile.name}`: {profile.description}")]
    # The table below has a row per run.
    made += [(what, value) for what, value in display.provenance(runs).itertuples(index=False) if what != "Runs"]
    rows = [
        (
            f"`{run.name}`",
            f"{run.provenance['seconds']:.0f}",
            run.provenance["started"].partition("+")[0].replace("T", " "),
        )
        for run in runs
    ]
    total = sum(run.provenance["seconds"] for run in runs)
    return "\n".join(
        [
            _list_table(("What", "Value"), made, "facts"),
            f"{_count(len(runs), 'run')}, {total / 60:.1f} minutes of training in all:\n",
            _list_table(("Run", "Seconds", "Started (UTC)"), rows),
        ]
    )


def _settings(runs: Sequence[Run]) -> str:
    """Every setting of the runs, with all values that occur."""
    values: dict[str, list[str]] = {}
    for run in runs:
        for name, value in run.config.to_dict().items():
            values.setdefault(name, []).append("none" if value in (None, {}) else str(value))
    return _list_table(
        ("Setting", "Value"), [(f"`{name}`", ", ".join(dict.fromkeys(found))) for name, found in values.items()]
    )


def _strategies() -> str:
    """The mixture that base policies are trained on."""
    totals = {0: "only the answer", 1: "after each operation"}
    rows = [
        (
            f"`{one.mark}`",
            totals.get(one.stride, f"after every {one.stride} operations"),
            f"{100 * one.prior:.0f} %",
            f"{100 * one.slip:.0f} %",
        )
        for one in STANDARD.strategies
    ]
    return _list_table(("First letter", "Totals written", "Share of the mixture", "Slips per total"), rows)
