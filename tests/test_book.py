"""What the book is made of: fragments computed from runs and ledger, the pages put together, a strict build."""

import dataclasses
import re
from types import SimpleNamespace

import nbformat
import pytest
import yaml

from repro import book, claims, paths
from repro.book import BookError
from repro.claims import Verdict
from repro.profiles import load_profile
from repro.tasks.strategies import STANDARD

PAGES = paths.root() / "book"


@pytest.fixture
def claim():
    return claims.load_ledger().claim("collapse")


@pytest.fixture
def smoke():
    return load_profile("smoke")


def provenance(seconds):
    return {
        "commit": "abc1234",
        "dirty": False,
        "code": "0123456789abcdef",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "platform": "Linux",
        "device": "cpu",
        "device_name": "A CPU",
        "threads": 1,
        "seconds": seconds,
        "started": "2026-11-20T10:00:00+00:00",
    }


@pytest.fixture
def recorded(make_run):
    """Three runs with provenance, as their records would give them."""
    runs = [make_run(seed) for seed in range(3)]
    return [
        SimpleNamespace(**vars(run), name=f"grpo-m-seed{seed}-0123456789ab", provenance=provenance(60 + seed))
        for seed, run in enumerate(runs)
    ]


@pytest.fixture
def executed(tmp_path):
    """A profile's folder with an executed notebook that has one named figure."""
    cell = nbformat.v4.new_code_cell("figure", metadata={"mystnb": {"figure": {"name": "fig-collapse"}}})
    cell.outputs = [nbformat.v4.new_output("display_data", {"image/svg+xml": "<svg/>", "text/plain": "a"})]
    path = tmp_path / "smoke" / "notebooks" / "01_collapse.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return tmp_path / "smoke"


def test_the_verdict_table_has_every_finding(claim, recorded, smoke):
    findings = claims.measure(claim, recorded)
    table = book._verdict_table(smoke, findings)
    for finding in findings:
        row = f"* - {finding.title}\n  - {finding.printed_as}\n  - {finding.ours}\n  - 3\n  - smoke\n"
        assert f"{row}  - {{bdg-success}}`reproduced`\n" in table
    assert f"{{doc}}`Claim 1 </{claim.page}>`" in table
    assert "Underpowered:" not in table


def test_underpowered_findings_say_why(claim, recorded, smoke):
    findings = claims.measure(claim, recorded[:1])
    table = book._verdict_table(smoke, findings)
    assert table.count("{bdg-muted}`underpowered`") == 1 + len(findings)
    assert table.count("1 of at least 3 seeds") == 1


def test_every_verdict_has_a_badge():
    assert set(book.BADGES) == set(Verdict)


def test_a_profile_with_too_few_seeds_is_announced_on_every_page(claim, recorded, smoke, executed):
    source = book.assemble(smoke, claims.measure(claim, recorded[:2]), recorded[:2], executed)
    sentence = "Profile smoke has 2 seeds where a verdict needs 3: every verdict in this copy is underpowered."
    assert yaml.safe_load((source / "_config.yml").read_text())["html"]["announcement"] == sentence
    assert (source / "_generated" / "banner.md").read_text().startswith(f":::{{warning}}\n{sentence}")


def test_a_profile_with_enough_seeds_is_not(claim, recorded, smoke, executed):
    source = book.assemble(smoke, claims.measure(claim, recorded), recorded, executed)
    assert (source / "_config.yml").read_bytes() == (PAGES / "_config.yml").read_bytes()
    banner = (source / "_generated" / "banner.md").read_text()
    assert "warning" not in banner
    assert smoke.description in banner


def test_every_fragment_that_pages_include_is_generated(claim, recorded, smoke, executed):
    source = book.assemble(smoke, claims.measure(claim, recorded), recorded, executed)
    included = set()
    for page in PAGES.rglob("*.md"):
        text = page.read_text()
        included |= {(page.parent / name).resolve() for name in re.findall(r"_generated/\S+?\.(?:md|py)", text)}
        included |= {(PAGES / name) for name in re.findall(r"_generated/\S+?\.svg", text)}
    names = {path.name for path in included}
    assert "verdicts.md" in names
    assert "fig-collapse.svg" in names
    assert names <= {path.name for path in (source / "_generated").iterdir()}
    assert (source / "_generated" / "fig-collapse.svg").read_text() == "<svg/>"


def test_assembling_again_leaves_nothing_of_the_last_time(claim, recorded, smoke, executed):
    (executed / "book-src").mkdir()
    (executed / "book-src" / "old.md").touch()
    source = book.assemble(smoke, claims.measure(claim, recorded), recorded, executed)
    assert not (source / "old.md").exists()


def test_a_missing_notebook_is_named_with_its_remedy(claim, recorded, smoke, tmp_path):
    with pytest.raises(BookError, match=r"01_collapse\.ipynb is missing; make it with `make reproduce PROFILE=smoke`"):
        book.assemble(smoke, claims.measure(claim, recorded), recorded, tmp_path)


def test_the_status_names_what_made_the_runs(recorded, smoke):
    text = book._status(smoke, recorded)
    for part in ("`smoke`: ", "abc1234", "0123456789abcdef", "A CPU (cpu, threads: 1)", "torch 2.13.0"):
        assert part in text
    # 60 + 61 + 62 seconds
    assert "3 runs, 3.0 minutes of training in all" in text
    assert "* - `grpo-m-seed2-0123456789ab`\n  - 62\n  - 2026-11-20 10:00:00\n" in text


def test_the_settings_are_those_of_the_runs(recorded):
    text = book._settings(recorded)
    assert "* - `seed`\n  - 0, 1, 2\n" in text
    assert "* - `steps`\n  - 240\n" in text
    assert "* - `epsilon_high`\n  - none\n" in text
    assert text.count("* - ") == 1 + len(dataclasses.fields(recorded[0].config))


def test_the_strategies_are_those_of_the_code():
    text = book._strategies()
    for one in STANDARD.strategies:
        assert f"* - `{one.mark}`\n" in text


def test_the_criteria_are_the_ledgers(claim):
    text = book._criteria(claim)
    for part in claim.subclaims:
        assert part.criterion.text(part.unit) in text
        assert part.reason in text
    assert "fraction 1/12, window 1/24, minimum 0.05" in text


def test_no_result_of_ours_is_typed():
    """Percentages in prose are glued, except those the paper prints and those that define something."""
    allowed = {"73", "76", "94", "93", "57", "68", "8", "33", "95"}
    allowed |= {"0.02", "0.2", "2", "20", "50"}  # fractions of tokens: the paper's Table 1 and its settings
    written = [page for page in PAGES.rglob("*.md") if page.parent.name != "_benchmarks"]
    assert len(written) > 5
    for page in written:
        typed = set(re.findall(r"(?<![\w.`])(-?\d+(?:\.\d+)?) %", page.read_text()))
        assert typed <= allowed, page


def small_book(folder, text):
    folder.mkdir()
    (folder / "_config.yml").write_text((PAGES / "_config.yml").read_text())
    (folder / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (folder / "index.md").write_text(text)
    (folder / "references.bib").touch()
    return folder


def test_a_book_with_a_broken_link_does_not_build_and_the_old_site_stays(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("old")
    source = small_book(tmp_path / "book-src", "# Title\n\n{ref}`nowhere`\n")
    with pytest.raises(BookError, match=r"does not build: .*index\.md:3: WARNING: undefined label: 'nowhere'"):
        book.render(source, site)
    assert (site / "index.html").read_text() == "old"
