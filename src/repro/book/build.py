"""The book: pages from `book/`, executed notebooks, and fragments computed from the runs, built into a site.

`build` puts the three together in `build/<profile>/book-src` and hands them to Jupyter Book, which renders and executes
nothing. Fragments are MyST files and figures under `_generated/` that pages include, so that whatever depends on the
runs or on the code is computed and cannot drift: verdict tables, criteria, settings of the runs, what made them.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import nbformat
import yaml

from repro import claims, paths
from repro.book import (
    absent,
    again,
    audits,
    display,
    drawing,
    exhibits,
    fragments,
    icons,
    kept,
    links,
    looks,
    needs,
    panels,
    parts,
    plain,
    records,
    regime,
)
from repro.book.notebook import blank
from repro.book.panels import Panel
from repro.claims import Finding, Kind
from repro.errors import ReproError
from repro.runs import Run, load
from repro.runs.profiles import Profile, load_profile

GENERATED = "_generated"
OUTPUT = "book-out"
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
    """Put pages, executed notebooks and fragments together in `folder/book-src`, which is made anew.

    Returns:
        That folder.

    Raises:
        BookError: outside a checkout, or where a notebook of the table of contents is missing.
    """
    pages = paths.root() / "book"
    if not (pages / "_toc.yml").is_file():
        raise BookError(f"{pages / '_toc.yml'} is missing: the book builds in a checkout of the repository only")
    files = {path.relative_to(pages).as_posix(): path.read_bytes() for path in pages.rglob("*") if path.is_file()}
    ledger, remote = claims.load_ledger(), links.remote()
    contents = yaml.safe_load(files["_toc.yml"])
    scripts = {name: paths.root() / f"{name}.py" for name in _notebooks(contents)}
    lacking = absent.absent(profile, ledger, scripts)
    notebooks = {name: folder / f"{name}.ipynb" for name in scripts if name not in lacking.figures}
    figures: dict[str, Panel] = {}
    read: dict[str, list[Run]] = {}
    for name, executed in notebooks.items():
        if not executed.is_file():
            raise BookError(f"{executed} is missing; make it with `make book PROFILE={profile.name}`")
        arms = needs.arms(scripts[name], ledger, profile.arms)
        figures |= panels.read(executed, ledger, arms)
        read[executed.stem] = [run for run in runs if run.config.arm in arms]
    places = _places(files)
    for name, executed in notebooks.items():
        files[f"{name}.ipynb"] = nbformat.writes(panels.page(executed, places)).encode()
        empty = blank(scripts[name], links.requirement(remote)).encode()
        # To take away, and beside its page for Colab.
        files |= {f"{GENERATED}/{executed.stem}.ipynb": empty, f"_extra/{name}.ipynb": empty}
    if lacking.figures:
        files |= _without(files, contents, lacking, ledger)
    studies = claims.other_studies(profile.name, findings)
    texts = {
        "banner.md": fragments.banner(profile, findings, runs),
        "cards.md": plain.cards(ledger.claims, findings),
        "verdicts.md": fragments.verdict_table(profile, findings, Kind.CLAIM, figures, studies),
        "questions.md": fragments.verdict_table(profile, findings, Kind.QUESTION, figures, studies),
        "command.md": f"```bash\nmake reproduce PROFILE={profile.name}\n```\n",
        "command-book.md": f"```bash\nmake book PROFILE={profile.name}\n```\n",
        "notebooks.md": parts.notebooks(profile, read, remote),
        "status.md": fragments.status(profile, runs),
        "timing.md": fragments.timing(runs),
        "spent.md": parts.spent(profile, runs),
        "overhead.md": parts.overhead(),
        "estimates.md": parts.estimates(),
        "printed.md": parts.printed(ledger),
        "both.md": parts.both(ledger, findings),
        "regime.md": regime.table(runs),
        "search-tests.md": parts.primary_tests(runs),
        "machines.md": fragments.machines(profile, findings),
        "config.md": fragments.settings(runs),
        "strategies.md": fragments.strategies(),
        "kl_cov.py": (paths.root() / "examples" / "kl_cov.py").read_text(encoding="utf-8"),
        "exhibit-policy.svg": display.svg(exhibits.policy_picture()),
        **{f"figure-{name}.md": figure.fragment(runs) for name, figure in figures.items()},
        **lacking.fragments(),
        **{f"again-{name}.md": again.fragment(profile, name, members, remote) for name, members in read.items()},
    }
    texts |= audits.worked(runs[0])
    words = plain.read()
    for claim in ledger.claims:
        mine = [finding for finding in findings if finding.claim == claim.id]
        texts[f"claim-{claim.id}.md"] = fragments.claim_summary(claim, mine, figures, studies)
        texts[f"criteria-{claim.id}.md"] = fragments.criteria(claim)
        if claim.id in words:
            texts[f"answer-{claim.id}.md"] = plain.answer(claim, findings)
    made = {name: text.encode() for name, text in texts.items()} | _landing(runs)
    for figure in figures.values():
        made |= figure.files
    files |= {f"{GENERATED}/{name}": content for name, content in made.items()}
    made_by = needs.content(["repro.book.records"], profile, [(run.name, run.recorded, run.provenance) for run in runs])
    files |= kept.remembered(folder / "records.zip", made_by, lambda: records.pages(profile, runs))
    files["_static/looks.css"] = looks.sheet().encode()
    files |= {f"_extra/exhibits/data/{name}": text.encode() for name, text in exhibits.data(runs).items()}
    files["_config.yml"] = _configured(files["_config.yml"], fragments.shortfall(profile, findings))
    source = folder / "book-src"
    if not kept.put(files, source):
        shutil.rmtree(folder / OUTPUT, ignore_errors=True)
    return source


def render(source: Path, site: Path) -> Path:
    """Build `source` with Jupyter Book into `site`, where the old pages stay until the new ones are there.

    What is kept of the last build is used again where `repro.book.kept` lets it.

    Returns:
        The first page.

    Raises:
        BookError: Jupyter Book fails or warns; the message has the warnings.
    """
    output, new, old = (site.with_name(name) for name in (OUTPUT, "site-new", "site-old"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    kept.drop_unless_made_by_this(output)
    try:
        pages = jupyter_book(source, output, "html")
    except BookError:
        shutil.rmtree(output, ignore_errors=True)
        raise
    kept.made(output)
    shutil.copytree(pages, new)
    _slim(new)
    if site.exists():
        site.rename(old)
    new.rename(site)
    shutil.rmtree(old, ignore_errors=True)
    return site / "index.html"


def jupyter_book(source: Path, output: Path, builder: str) -> Path:
    """Build `source` with one of Jupyter Book's builders into `output`; return the pages' folder.

    Where `output` holds an earlier build, pages that have not changed since are not read again.

    Raises:
        BookError: Jupyter Book fails or warns; the message has the warnings.
    """
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source)]
    command += ["-n", "-W", "--keep-going", "--quiet", "--path-output", str(output), "--builder", builder]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    pages = output / "_build" / builder
    if done.returncode or not (pages / "index.html").is_file():
        lines = [COLOURS.sub("", line) for line in done.stdout.splitlines() if line.strip()]
        complaints = [line for line in dict.fromkeys(lines) if "WARNING" in line or "ERROR" in line]
        raise BookError(f"the book in {source} does not build: {'; '.join(complaints or lines[-LOG_LINES:])}")
    return pages


# Icons are drawn by the theme's font; its script of all icons, over a megabyte, draws the same.
ICONS = re.compile(r"<script[^>]*/fontawesome\.js[^>]*></script>")
# The button that unfolds a cell has paragraphs where HTML allows words alone; book.css styles them as the theme does.
SUMMARY = re.compile(r"<summary\b.*?</summary>", re.DOTALL)
PARAGRAPH = re.compile(r"(</?)p\b")
# A number and its sign stay on one line, but not in what is copied.
PERCENT = re.compile(r"<(pre|code|script)\b.*?</\1>|(\d) %", re.DOTALL)
# Of what the theme brings, the half that no page needs.
UNUSED = (
    "_sources",
    "_static/locales",
    "_static/**/*.map",
    "_static/**/*.LICENSE.txt",
    "_static/**/*.ttf",
    "_static/scripts/fontawesome.js",
    "_static/vendor/fontawesome/webfonts/fa-brands-*",
    "_static/collapse-cpu.png",
    "_static/sbt-webpack-macros.html",
    "_static/webpack-macros.html",
    "_static/translations",
    "_sphinx_design_static",
    "objects.inv",
    ".buildinfo",
)


def _slim(pages: Path) -> None:
    """Remove what no page of a built site needs, and the one script that would load some of it; mend the markup."""
    for path in [path for pattern in UNUSED for path in pages.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for page in pages.rglob("*.html"):
        page.write_text(_mended(page.read_text(encoding="utf-8")), encoding="utf-8")
    icons.slim(pages)


def _mended(text: str) -> str:
    text = PERCENT.sub(lambda found: found[0] if found[1] else f"{found[2]}\N{NO-BREAK SPACE}%", text)
    return SUMMARY.sub(lambda found: PARAGRAPH.sub(r"\1span", found.group()), ICONS.sub("", text))


def _notebooks(contents: object) -> Iterator[str]:
    """Pages of a table of contents that are notebooks, as `notebooks/<name>`."""
    if isinstance(contents, dict):
        named = (value for key, value in contents.items() if key in ("file", "root"))
        yield from (name for name in named if name.startswith("notebooks/"))
    nested = contents.values() if isinstance(contents, dict) else contents if isinstance(contents, list) else ()
    for one in nested:
        yield from _notebooks(one)


def _without(
    files: Mapping[str, bytes], contents: object, lacking: absent.Absent, ledger: claims.Ledger
) -> dict[str, bytes]:
    """The pages and the table of contents without what the profile does not answer."""
    left_out: dict[str, list[claims.Claim]] = {}
    for name in lacking.figures:
        for claim in needs.claims(paths.root() / f"{name}.py", ledger):
            left_out.setdefault(f"{claim.page}.md", []).append(claim)
    pages = {name: content.decode() for name, content in files.items() if name.endswith(".md")}
    texts = {name: lacking.page(text, left_out.get(name, ())) for name, text in pages.items()}
    texts["_toc.yml"] = yaml.safe_dump(absent.without(contents, lacking.figures), sort_keys=False)
    return {name: text.encode() for name, text in texts.items()}


def _landing(runs: Sequence[Run]) -> dict[str, bytes]:
    """The landing page's figure, which is drawn here, from the runs of the methods."""
    if not parts.drawn(runs):
        return {"landing.md": b""}
    figure = parts.landing(runs)
    panel = Panel(
        name="fig-landing",
        cell="",
        svg=drawing.svg(figure),
        caption=parts.landing_caption(runs),
        alt="Two panels against optimizer steps, entropy falling and accuracy rising, for four methods.",
        csv=drawing.numbers(figure).to_csv(index=False, float_format="%.4g"),
        arms=tuple(parts.drawn(runs)),
    )
    return {"landing.md": panel.fragment(runs).encode(), **panel.files}


def _places(files: Mapping[str, bytes]) -> dict[str, str]:
    """The pages that show figures of notebooks, by the figures' names."""
    pages = {name: content.decode() for name, content in files.items() if name.endswith(".md")}
    return {figure: page for page, text in pages.items() for figure in panels.shown(text)}


def _configured(config: bytes, announcement: str) -> bytes:
    """The book's settings with its links to where it comes from, and a line for the top of every page."""
    values = yaml.safe_load(config)
    for key, more in links.settings(links.remote()).items():
        values[key] |= more
    if announcement:
        values["html"]["announcement"] = announcement
    return yaml.safe_dump(values, sort_keys=False).encode()
