"""What the book is made of: fragments computed from runs and ledger, the pages put together, a strict build."""

import dataclasses
import io
import json
import re
import shutil
import zipfile
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from repro import claims, paths
from repro.book import again, display, fragments, kept, links, numbered, panels, plain, records
from repro.book import build as book
from repro.book.build import BookError
from repro.claims import Kind, Verdict
from repro.claims.ledger import Change
from repro.runs.profiles import load_profile
from repro.tasks.arithmetic.strategies import MIXTURES

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
        "timing": {"generation": 1.0, "generated_tokens": 10},
    }


@pytest.fixture
def recorded(make_run):
    """Three runs with provenance, as their records would give them."""
    runs = [make_run(seed) for seed in range(3)]
    return [
        SimpleNamespace(
            **vars(run),
            name=f"grpo-m-seed{seed}-0123456789ab",
            path=Path(f"m-seed{seed}-0123456789ab"),
            provenance=provenance(60 + seed),
            recorded=True,
        )
        for seed, run in enumerate(runs)
    ]


@pytest.fixture
def executed(tmp_path):
    """A profile's folder with an executed notebook for each script, holding a drawing for every figure it names."""
    folder = tmp_path / "smoke" / "notebooks"
    folder.mkdir(parents=True)
    for script in (paths.root() / "notebooks").glob("*.py"):
        cells = []
        for name in re.findall(r'mystnb=\{"figure": \{"name": "([^"]+)"', script.read_text()):
            cell = nbformat.v4.new_code_cell("figure", metadata={"mystnb": {"figure": {"name": name}}})
            drawn = {display.DRAWN: {"caption": "A caption, n = 3 seeds.", "csv": "panel,x\n"}}
            data = {"image/svg+xml": "<svg/>", "text/plain": "a"}
            cell.outputs = [nbformat.v4.new_output("display_data", data, metadata=drawn)]
            cells.append(cell)
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{script.stem}.ipynb")
    return tmp_path / "smoke"


@pytest.fixture
def question(claim, monkeypatch):
    """An open question beside claim 1: two predictions, one of which needs no runs; the ledger of the tests with it."""
    part = claim.subclaims[0].model_copy(update={"id": "early", "title": "Early fall", "figure": "fig-collapse"})
    exact = part.model_copy(update={"id": "exact", "title": "Exact number", "arms": (), "figure": None})
    asked = claim.model_copy(
        update={
            "id": "asked",
            "kind": Kind.QUESTION,
            "title": "Why early?",
            "primary": "early",
            "subclaims": (part, exact),
        }
    )
    ledger = claims.load_ledger().model_copy(update={"claims": (claim, asked)})
    monkeypatch.setattr(claims, "load_ledger", lambda: ledger)
    return asked


def answers(question, verdicts, **fields):
    """Findings for a question's sub-claims, with these verdicts and fields."""
    return [
        claims.Finding(
            claim=question.id,
            kind=question.kind,
            subclaim=part.id,
            title=part.title,
            printed=None,
            printed_as="not reported",
            unit="share",
            criterion="at least 50 %",
            verdict=verdict,
            note="",
            seeds=(),
            values=(),
            **{"estimate": 0.7, "low": 0.6, "high": 0.8, "n": 3 if part.arms else 0} | fields,
        )
        for part, verdict in zip(question.subclaims, verdicts, strict=True)
    ]


def test_the_verdict_table_has_every_finding(claim, recorded, smoke):
    findings = claims.measure(claim, recorded)
    table = fragments.verdict_table(smoke, findings, Kind.CLAIM, (), {})
    for finding in findings[1:-1]:
        title = f"{{doc}}`{finding.title} </claims/collapse>`"
        row = f"* - {title}\n  - {finding.printed_as}\n  - {finding.ours}\n  - {{doc}}`3 </status>`\n  - smoke\n"
        assert f"{row}  - {{bdg-success}}`reproduced`\n" in table
    assert table.count("  - {bdg-success}`reproduced` primary\n") == 1
    assert table.count("  - {bdg-success}`reproduced` not counted: it was a condition when the testbed was") == 1
    # Six sub-claims hold, of which one is the primary, and one does not count.
    badge = "{bdg-success}`reproduced`"
    title = f"Claim 1. {claim.title}"
    assert f"* - {{doc}}`{title} </{claim.page}>`\n  - {badge}\n  - 4 reproduced\n" in table
    overview, details = table.split("Each in full:")
    assert ":class: overview\n" in overview and "verdicts" not in overview
    assert details.count("::::{dropdown}") == 1 and f"::::{{dropdown}} {title}\n" in details
    assert details.rstrip().endswith("\n::::")
    assert "Underpowered:" not in table
    assert fragments.verdict_table(smoke, findings, Kind.QUESTION, (), {}) == "This copy has none.\n"


def test_underpowered_findings_say_why(claim, recorded, smoke):
    findings = claims.measure(claim, recorded[:1])
    table = fragments.verdict_table(smoke, findings, Kind.CLAIM, (), {})
    assert table.count("{bdg-muted}`underpowered`") == 1 + len(findings)
    assert "  - 4 underpowered\n" in table
    assert table.count("1 of at least 3 seeds") == 1


def test_questions_have_a_table_of_their_own_with_words_of_their_own(claim, question, recorded, smoke):
    findings = [*claims.measure(claim, recorded), *answers(question, (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED))]
    table = fragments.verdict_table(smoke, findings, Kind.QUESTION, ("fig-collapse",), {})
    overview, details = table.split("Each in full:")
    row = "* - {doc}`Why early? </claims/collapse>`\n  - {bdg-success}`as predicted`\n"
    assert f"{row}  - 1 not as predicted\n" in overview
    assert "::::{dropdown} Why early?\n" in details
    early, exact = details.split("* - ")[2:]
    assert early.startswith("{doc}`Early fall </claims/collapse>` ({numref}`fig-collapse`)\n")
    assert "  - {doc}`3 </status>`\n  - smoke\n  - {bdg-success}`as predicted` primary\n" in early
    assert exact.startswith("{doc}`Exact number </claims/collapse>`\n")
    assert "  - none\n  - smoke\n  - {bdg-danger}`not as predicted`\n" in exact
    assert "Why early" not in fragments.verdict_table(smoke, findings, Kind.CLAIM, (), {})
    summary = fragments.claim_summary(question, answers(question, (Verdict.REPRODUCED, Verdict.UNDERPOWERED)), (), {})
    expected = "Our predictions: {bdg-success}`as predicted` on the primary one, *Early fall*. The others that count:"
    assert f"{expected} 1 underpowered.\n" in summary
    assert "  - Predicted\n" in summary and "reproduced" not in summary.lower()
    assert "numref" not in summary


def test_criteria_of_a_question_are_predictions(question):
    text = fragments.criteria(question)
    assert ": Predicted: at least 50 %. Measured by `repro.claims.measures.collapse.entropy_share` with " in text
    assert "minimum 0.05, on `grpo`. " in text
    assert "minimum 0.05, without runs. " in text
    assert "Primary: *Early fall*.\n" in text and "Not counted" not in text and "Changed on" not in text
    part = question.subclaims[0].model_copy(
        update={
            "plotted": 0.2,
            "minimum_seeds": 6,
            "minimum_bases": 3,
            "follows": "exact",
            "changed": (Change(date=date(2026, 11, 24), reason="Wide."),),
        }
    )
    text = fragments.criteria(question.model_copy(update={"subclaims": (part, question.subclaims[1])}))
    assert (
        " Needs 6 seeds. Needs 3 base policies an arm. The paper's own figure gives 20 %. "
        'Not counted: it fails with "Exact number". Changed on 2026-11-24: Wide.\n'
    ) in text


def test_every_ledger_entry_has_its_fragments(claim, question, recorded, smoke, executed):
    source = book.assemble(smoke, claims.measure(claim, recorded), recorded, executed)
    text = (source / "_generated" / "claim-asked.md").read_text()
    assert "Our predictions: none in this copy" in text
    assert (source / "_generated" / "criteria-asked.md").is_file()


def test_every_verdict_has_a_badge():
    assert set(fragments.BADGES) == set(Verdict)


def test_a_profile_with_too_few_seeds_is_announced_on_every_page(claim, recorded, smoke, executed):
    source = book.assemble(smoke, claims.measure(claim, recorded[:2]), recorded[:2], executed)
    sentence = "Profile smoke has 2 seeds where a verdict needs 3: every verdict in this copy is underpowered."
    assert yaml.safe_load((source / "_config.yml").read_text())["html"]["announcement"] == sentence
    assert (source / "_generated" / "banner.md").read_text().startswith(f":::{{warning}}\n{sentence}")


def test_exact_numbers_and_missing_arms_do_not_count_as_short(claim, question, recorded, smoke):
    verdicts = (Verdict.REPRODUCED, Verdict.REPRODUCED)
    enough = [*claims.measure(claim, recorded), *answers(question, verdicts)]
    assert fragments.shortfall(smoke, enough) == ""
    assert "no runs" not in fragments.banner(smoke, enough, recorded)
    missing = answers(question, verdicts, n=0, estimate=None, low=None, high=None)
    assert fragments.shortfall(smoke, [*enough[:6], *missing]) == ""
    assert "It has no runs for 2 of 8 verdicts." in fragments.banner(smoke, [*enough[:6], *missing], recorded)


def test_a_profile_that_is_short_for_most_verdicts_says_for_how_many(claim, question, recorded, smoke):
    findings = [*claims.measure(claim, recorded[:1]), *answers(question, (Verdict.REPRODUCED, Verdict.REPRODUCED))]
    expected = "has 1 seed where a verdict needs 3: 6 of 8 verdicts in this copy are underpowered."
    assert expected in fragments.shortfall(smoke, findings)
    few = [*claims.measure(claim, recorded[:2])[:1], *answers(question, (Verdict.REPRODUCED, Verdict.REPRODUCED))]
    assert fragments.shortfall(smoke, few) == ""


@pytest.mark.parametrize("remote", ["git@github.com:one/study.git", None])
def test_the_book_links_to_its_remote(claim, recorded, smoke, executed, monkeypatch, remote):
    monkeypatch.setattr(links, "remote", lambda: remote)
    source = book.assemble(smoke, claims.measure(claim, recorded), recorded, executed)
    expected = yaml.safe_load((PAGES / "_config.yml").read_text())
    for key, values in links.settings(remote).items():
        expected[key] |= values
    assert yaml.safe_load((source / "_config.yml").read_text()) == expected
    assert (expected["repository"]["url"] == "https://github.com/one/study") == (remote is not None)


def test_a_profile_with_enough_seeds_is_not(claim, recorded, smoke, executed):
    source = book.assemble(smoke, claims.measure(claim, recorded), recorded, executed)
    assert "announcement" not in yaml.safe_load((source / "_config.yml").read_text())["html"]
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
    with pytest.raises(BookError, match=r"01_collapse\.ipynb is missing; make it with `make book PROFILE=smoke`"):
        book.assemble(smoke, claims.measure(claim, recorded), recorded, tmp_path)


def test_the_status_names_what_made_the_runs(recorded, smoke):
    text = fragments.status(smoke, recorded)
    for part in ("`smoke`: ", "abc1234", "0123456789abcdef", "A CPU (cpu, threads: 1)", "torch 2.13.0"):
        assert part in text
    # 60 + 61 + 62 seconds
    assert "3 runs, 3.0 minutes of training in all, the first started at 2026-11-20 10:00:00 (UTC)" in text
    assert "* - `grpo`\n  - \n  - 0, 1, 2\n  - 183\n" in text


def test_arms_are_told_by_what_they_change(make_run, smoke):
    control = {"entropy_control": "kl_cov", "entropy_control_fraction": 0.02}
    runs = [make_run(0), make_run(1)]
    runs += [
        make_run(0, arm=arm, steps_per_generation=8, **own)
        for arm, own in (("grpo8", {}), ("unclipped", {"epsilon": None}))
    ]
    runs += [make_run(seed, arm="kl_cov", steps_per_generation=8, trainer=control) for seed in (0, 1)]
    runs = [
        SimpleNamespace(**vars(run), name=run.name, provenance=provenance(10), recorded=run.config.seed == 1)
        for run in runs
    ]
    assert list(fragments._arm_rows(smoke, runs)) == [
        ("*collapse*", "", "", "", ""),
        ("`grpo`", "", "0, 1", "20", "0 made here; 1 recorded"),
        ("*fixes*", "`steps_per_generation` 8", "", "", ""),
        ("`grpo8`", "", "0", "10", "made here"),
        ("`unclipped`", "`epsilon` none", "0", "10", "made here"),
        (
            "`kl_cov`",
            "`entropy_control` kl_cov, `entropy_control_fraction` 0.02",
            *("0, 1", "20", "0 made here; 1 recorded"),
        ),
    ]
    settings = fragments.settings(runs)
    assert "* - `steps_per_generation`\n  - 4\n" in settings and "kl_cov" not in settings
    assert "{doc}`/status` says what the other 3 arms change of these." in settings


def test_a_copy_says_which_runs_are_recorded_and_which_were_made_for_it(claim, recorded, smoke):
    findings = claims.measure(claim, recorded)
    whole = fragments.banner(smoke, findings, recorded)
    assert "Runs: 3, all recorded in the repository; nothing was trained for this copy." in whole
    made = [SimpleNamespace(**vars(run) | {"recorded": run is recorded[0]}) for run in recorded]
    assert "of which 1 are recorded in the repository and 2 were trained" in fragments.banner(smoke, findings, made)
    assert "Runs: 2, all trained for this copy" in fragments.banner(smoke, findings, made[1:])
    table = display.provenance(made).set_index("What")["Value"]
    assert table["Where from"].startswith("Runs: 3, of which 1 are recorded")
    assert table["Runs"].startswith("grpo, seed 0 (0123456789ab, recorded), seed 1 (0123456789ab, made here), seed 2")


def test_other_machines_stand_beside_this_copy(claim, recorded):
    cpu = load_profile("cpu")
    text = fragments.machines(cpu, claims.measure(claim, recorded))
    assert "**amd-epyc.** 3 sub-claims: " in text
    assert "**amd-epyc-2.** 6 sub-claims: " in text
    assert text.count("* - ") == 4 + 7 and "* - Sub-claim\n  - This copy\n  - amd-epyc\n  - Difference\n" in text
    assert "  - 76 % (75 to 78 %)\n" in text
    assert "the same bits" not in text
    there = claims.judged_again("cpu", claims.recorded_studies("cpu")["amd-epyc"])
    assert "Most of its runs gave the same bits, on a machine of the same kind" in fragments.machines(cpu, there)
    assert (
        "**first.** Of this study, of 2026-11-21, only the words are kept. 0 of 3 by the same criteria differ" in text
    )
    assert "No other machine's study of the profile `smoke` is on record." in fragments.machines(
        load_profile("smoke"), []
    )


def test_the_settings_are_those_of_the_runs(recorded):
    text = fragments.settings(recorded)
    assert "* - `seed`\n  - 0, 1, 2\n" in text
    assert "* - `max_steps`\n  - 240\n" in text
    assert "* - `epsilon_high`\n  - none\n" in text
    # All fields and the header, but for `trainer`, whose fields stand for themselves; here it has none.
    assert text.count("* - ") == len(recorded[0].config.to_dict())
    assert "status" not in text


def test_the_strategies_are_those_of_the_code():
    text = fragments.strategies()
    assert text.count("* - ") == 1 + sum(len(mixture.strategies) for mixture in MIXTURES.values())
    assert "* - `standard`\n  - `s`\n  - after each operation\n  - 2 %\n  - 35 %\n" in text
    assert "* - `explore`\n  - `p`\n  - after every 2 operations, of the first 5\n  - 38 %\n" in text


def test_the_time_is_shared_out_by_phase(make_run):
    spent = {"generation": 2, "scoring": 1, "update": 6, "other": 1, "evaluation": 5, "generated_tokens": 400}
    runs = [SimpleNamespace(**vars(make_run(seed)), provenance=provenance(10) | {"timing": spent}) for seed in (0, 1)]
    *_, row = fragments.timing(runs).split("* - ")
    # 800 tokens in 4 s of generation and in 20 s of training; the shares are of the training alone.
    cells = ["`s`", "cpu", "4", "2", "200", "40", "20 %", "10 %", "60 %", "10 %"]
    assert row.split("\n```")[0].split("\n  - ") == cells


def test_the_criteria_are_the_ledgers(claim):
    text = fragments.criteria(claim)
    for part in claim.subclaims:
        assert part.criterion.text(part.unit) in text
        assert part.reason in text
    assert "fraction 1/12, window 1/24, minimum 0.05" in text


# Percentages of the paper or computed from it, and ends of the ledger's ranges, by the page that may type them.
TYPED_PERCENTAGES = {
    "ten_minutes.md": {"73"},
    "claims/collapse.md": {"73", "76", "94", "93", "57", "68"},
    "claims/controls.md": {"10", "100"},
    "claims/covariance.md": {"81"},
    "claims/law.md": {"15", "38"},
    "claims/fixes.md": {"38.6", "3", "3.5", "5", "6", "12", "62"},
    # Shares of mistakes in what a base policy learns from.
    "methods.md": {"30", "5", "0.3"},
}
# An even decline's shares, the level of intervals, the power of a test, and fractions of tokens (the paper's Table 1
# and its settings).
DEFINING_PERCENTAGES = {"8", "33", "95", "80", "0.02", "0.2", "2", "20", "50"}


def test_no_result_of_ours_is_typed():
    """Percentages in prose are glued, except those the paper prints and those that define something."""
    written = [page for page in PAGES.rglob("*.md") if page.parent.name != "_benchmarks"]
    assert len(written) > 5
    for page in written:
        typed = set(re.findall(r"(?<![\w.`])(-?\d+(?:\.\d+)?) %", page.read_text()))
        allowed = TYPED_PERCENTAGES.get(page.relative_to(PAGES).as_posix(), set()) | DEFINING_PERCENTAGES
        assert typed <= allowed, f"{page}: {typed - allowed}"


def small_book(folder, text):
    folder.mkdir()
    (folder / "_config.yml").write_text((PAGES / "_config.yml").read_text())
    (folder / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (folder / "index.md").write_text(text)
    (folder / "references.bib").touch()
    return folder


def test_a_book_with_a_broken_link_does_not_build_each_time_and_the_old_site_stays(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("old")
    source = small_book(tmp_path / "book-src", "# Title\n\n{ref}`nowhere`\n")
    for _ in range(2):
        with pytest.raises(BookError, match=r"does not build: .*index\.md:3: WARNING: undefined label: 'nowhere'"):
            book.render(source, site)
        assert (site / "index.html").read_text() == "old"


def write(folder, **pages):
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return kept.put(files | {f"{name}.md": text.encode() for name, text in pages.items()}, folder)


def test_a_changed_sentence_reads_one_page_and_anything_else_all(tmp_path):
    source, site = small_book(tmp_path / "book-src", "(here)=\n# Title\n\nOne sentence.\n"), tmp_path / "site"
    (source / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters: [{file: other}]\n")
    (source / "_extra").mkdir()
    (source / "other.md").write_text("# Other\n\n{ref}`here`\n")
    output = site.with_name(book.OUTPUT)

    def read():
        book.render(source, site)
        return {path.stem: path.stat().st_mtime_ns for path in (output / "_build").rglob("*.doctree")}

    first = read()
    assert write(source, index="(here)=\n# Title\n\nAnother sentence.\n")
    second = read()
    assert {name for name in first if first[name] != second[name]} == {"index"}
    assert "Another sentence." in (site / "index.html").read_text(encoding="utf-8")
    # The other page would not say that its label is gone, so all is read.
    for page in ("# Title\n\nAnother sentence.\n", "(here)=\n# Other title\n\nAnother sentence.\n"):
        assert not write(source, index=page)
    assert not write(source, new="# New\n")
    assert write(source)
    (source / "new.md").unlink()
    shutil.rmtree(output)
    (source / "index.md").write_text("# Title\n\nAnother sentence.\n")
    with pytest.raises(BookError, match="undefined label: 'here'"):
        book.render(source, site)
    assert not output.exists()


def test_references_by_number_read_a_page_once():
    read = []
    env = SimpleNamespace(get_doctree=lambda name: read.append(name) or name, config="as it is")
    remembering = numbered._Remembering(env)
    assert [remembering.get_doctree(name) for name in ("a", "b", "a")] == ["a", "b", "a"]
    assert read == ["a", "b"] and remembering.config == "as it is"


def test_what_was_made_is_remembered_under_its_key(tmp_path):
    path, made = tmp_path / "folder" / "some.zip", []

    def make():
        made.append(len(made))
        return {"a/b.md": b"1", "c": bytes(made)}

    first = kept.remembered(path, "one", make)
    assert kept.remembered(path, "one", make) == first and made == [0]
    assert kept.remembered(path, "two", make) != first and made == [0, 1]
    path.write_bytes(path.read_bytes()[:40])
    kept.remembered(path, "two", make)
    assert made == [0, 1, 2] and [one.name for one in path.parent.iterdir()] == ["some.zip"]


def test_what_other_code_has_built_is_not_gone_on_from(tmp_path, monkeypatch):
    kept.made(tmp_path)
    kept.drop_unless_made_by_this(tmp_path)
    assert tmp_path.is_dir()
    monkeypatch.setattr(kept, "version", lambda _: "0")
    kept.drop_unless_made_by_this(tmp_path)
    assert not tmp_path.exists()


def test_a_figure_leads_to_what_made_it(claim, recorded, smoke, executed):
    source = book.assemble(smoke, claims.measure(claim, recorded), recorded, executed)
    text = (source / "_generated" / "figure-fig-collapse.md").read_text()
    assert text.startswith(":::{figure} /_generated/fig-collapse.svg\n:name: fig-collapse\n")
    assert "\nA caption, n = 3 seeds.\n" in text
    assert "{bdg-primary}`recorded` 3 runs: {ref}`GRPO <arm-grpo>`." in text
    assert "{ref}`made by this cell <cell-fig-collapse>`" in text
    with zipfile.ZipFile(source / "_generated" / "fig-collapse.csv.zip") as numbers:
        assert numbers.namelist() == ["fig-collapse.csv"] and numbers.read("fig-collapse.csv") == b"panel,x\n"
    cells = nbformat.read(source / "notebooks" / "01_collapse.ipynb", as_version=4).cells
    assert cells[0].source == "(cell-fig-collapse)=\n{numref}`fig-collapse` of the book."
    assert "figure" not in cells[1].metadata["mystnb"]


def test_recorded_and_made_are_told_apart(recorded):
    made = [SimpleNamespace(**vars(run) | {"recorded": False}) for run in recorded]
    assert panels.mark(recorded) == "{bdg-primary}`recorded`"
    assert panels.mark(made) == "{bdg-primary-line}`made by this build`"
    assert panels.mark([made[0], recorded[1]]) == "{bdg-primary-line}`made by this build` {bdg-primary}`recorded`"
    assert panels.origin([]).startswith("No runs")


def test_a_run_of_two_arms_counts_once(recorded):
    shared = SimpleNamespace(recorded=True, config=recorded[0].config.replace(arm="kl_cov"))
    assert "`recorded` 1 run: {ref}`GRPO <arm-grpo>`, {ref}`KL-Cov <arm-kl_cov>`." in panels.origin(
        [recorded[0], shared]
    )
    assert display.origin([recorded[0], shared]).startswith("Runs: 1, all recorded")


def test_records_can_be_taken_away(recorded, smoke):
    found = records.pages(smoke, recorded)
    page = found["records/collapse.md"].decode()
    assert "(arm-grpo)=\n## GRPO\n" in page and "Changes: nothing." in page
    assert "* - 2\n  - `m-seed2-0123456789ab`\n  - {bdg-primary}`recorded`\n  - `abc1234`\n" in page
    taken = zipfile.ZipFile(io.BytesIO(found["_generated/records/grpo.zip"]))
    assert records.pages(smoke, recorded)["_generated/records/grpo.zip"] == found["_generated/records/grpo.zip"]
    told = json.loads(taken.read("runs.json"))
    assert [one["config"]["seed"] for one in told] == [0, 1, 2] and told[0]["provenance"]["commit"] == "abc1234"
    csv = pd.read_csv(taken.open("metrics.csv"))
    parquet = pd.read_parquet(io.BytesIO(found["_generated/records/collapse-metrics.parquet"]))
    # 240 steps of 4 updates a rollout: 60 rows a seed, each the mean of its four steps.
    assert len(csv) == len(parquet) == 180
    first = recorded[0].metrics["entropy/response_mean"].iloc[:4].mean()
    assert csv["entropy/response_mean"].iloc[0] == pytest.approx(first, rel=5e-4)
    assert parquet["entropy/response_mean"].iloc[0] == pytest.approx(first, rel=2**-15)
    # 14 of the 24 binary digits that single precision has.
    assert not (parquet["entropy/response_mean"].to_numpy().view("int32") & 0x3FF).any()
    assert csv["step"].tolist()[:3] == [1, 5, 9]
    assert pq.read_schema(io.BytesIO(found["_generated/records/collapse-metrics.parquet"])).metadata is None
    evaluations = pd.read_csv(taken.open("evaluations.csv"))
    assert evaluations["accuracy/mean"].iloc[-1] == pytest.approx(
        recorded[2].evaluations["accuracy/mean"].iloc[-1], rel=5e-4
    )


def test_a_page_says_how_to_redo_it(recorded, smoke):
    text = again.fragment(smoke, "01_collapse", recorded, None)
    assert text.startswith("{doc}`/notebooks/01_collapse` (executed), ")
    assert "{download}`download it </_generated/01_collapse.ipynb>`" in text and "colab" not in text
    assert "make book PROFILE=smoke" in text and "took 3 minutes of one core" in text
    assert text.endswith("```bash\nmake reproduce PROFILE=smoke\n```\n")
    text = again.fragment(smoke, "01_collapse", recorded, "git@github.com:one/study.git")
    colab = "https://colab.research.google.com/github/one/study/blob/gh-pages/notebooks/01_collapse.ipynb"
    assert f"[open it in Colab]({colab})" in text
    # Each profile that trains runs of the page is named, once.
    shown = dataclasses.replace(
        smoke, arms={**smoke.arms, "kl": dataclasses.replace(smoke.arms["grpo"], shown="cpu-more")}
    )
    there = [SimpleNamespace(**{**vars(run), "config": run.config.replace(arm="kl")}) for run in recorded]
    text = again.fragment(shown, "01_collapse", [*recorded, *there], None)
    assert text.endswith("```bash\nmake reproduce PROFILE=cpu-more\nmake reproduce PROFILE=smoke\n```\n")


def test_plain_words_follow_the_verdict(claim, recorded):
    findings = claims.measure(claim, recorded)
    assert "reproduced` Yes, and as early as the paper says" in plain.answer(claim, findings)
    few = claims.measure(claim, recorded[:1])
    assert "underpowered` These runs cannot say." in plain.answer(claim, few)
    assert "verdict-underpowered" in plain.cards([claim], few)
    assert "**1. Does entropy collapse early?**" in plain.cards([claim], findings)
    assert plain.answer(claim, []) == "This copy has no runs for it.\n"


def test_every_claim_with_plain_words_has_them_for_its_primary():
    words = plain.read()
    ledger = claims.load_ledger()
    pages = {entry.page for entry in ledger.claims if entry.kind is Kind.CLAIM}
    assert {ledger.claim(name).page for name in words} == pages
    for name, said in words.items():
        assert ledger.claim(name).primary in said.sentences, name
