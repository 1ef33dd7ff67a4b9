"""The built site in headless Chromium, opened from its files: from records to pages with the project's own commands."""

import re

import pytest
import yaml
from playwright.sync_api import Locator

from repro import claims, paths
from repro.book import needs
from repro.runs.profiles import load_profile
from tests.book.made_up_site import DESKTOP, PHONE, PROFILE, SEEDS, STEPS

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_notebook_waits_for_the_runs_that_it_reads_and_no_others(site):
    known = load_profile("cpu").arms
    for script in sorted((paths.root() / "notebooks").glob("*.py")):
        executed = (site.parent / "notebooks" / f"{script.stem}.ipynb").read_text()
        read = set(re.findall(r"(\w+), seed 0 \(", executed))
        assert read and read == set(needs.arms(script, claims.load_ledger(), known)), script.stem


def seen(rows: Locator, viewport: dict[str, int]) -> list[tuple[list[str], bool]]:
    """A table's rows: their cells, and whether a row is in sight without scrolling sideways, in any container."""
    return rows.evaluate_all(
        """(rows, width) => rows.map(row => {
            let inside = row.checkVisibility();
            for (let around = row; around; around = around.parentElement) {
                if (around.scrollWidth > around.clientWidth + 1 && getComputedStyle(around).overflowX !== "visible")
                    inside = false;
            }
            const box = row.getBoundingClientRect();
            inside &&= box.width > 0 && box.left >= 0 && box.right <= width;
            return [[...row.querySelectorAll("td")].map(cell => cell.innerText), inside];
        })""",
        viewport["width"],
    )


def test_no_page_asks_for_anything_outside_complains_or_overflows(visit, site, pages):
    expected = {"index.html", "methods.html", "status.html"}
    expected |= {f"{claim.page}.html" for claim in claims.load_ledger().claims}
    expected |= {f"notebooks/{script.stem}.html" for script in (paths.root() / "notebooks").glob("*.py")}
    assert len(expected) == 15 and expected <= set(pages)
    for name in pages:
        opened = visit(name, DESKTOP)
        assert opened.requests
        assert [url for url in opened.requests if not url.startswith((site.as_uri(), "data:", "blob:"))] == [], name
        for viewport in (DESKTOP, PHONE):
            opened.page.set_viewport_size(viewport)
            assert opened.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], name
        assert opened.complaints == [], name
        opened.page.close()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_landing_page_shows_every_verdict(visit, viewport):
    page = visit("index.html", viewport).page
    # Claims first, then open questions.
    entries = sorted(claims.load_ledger().claims, key=lambda claim: claim.kind is claims.Kind.QUESTION)
    overview = page.locator("table.overview tbody tr")
    assert overview.count() == len(entries)
    for ((title, verdict, tally), inside), claim in zip(seen(overview, viewport), entries, strict=True):
        assert straight(title).endswith(claim.title)
        assert verdict in {each.word(claim.kind) for each in claims.Verdict}
        assert sum(map(int, re.findall(r"\d+", tally))) == sum(part.counts for part in claim.subclaims) - 1
        assert inside, title
    rows = page.locator("table.verdicts tbody tr")
    assert not any(inside for _, inside in seen(rows, viewport))
    for claim, heading in zip(entries, page.locator("details.sd-dropdown > summary").all(), strict=True):
        assert straight(heading.inner_text()).strip().endswith(claim.title)
        heading.click()
    parts = [(claim, part) for claim in entries for part in claim.subclaims]
    for (cells, inside), (claim, part) in zip(seen(rows, viewport), parts, strict=True):
        title, paper, ours, n, profile, verdict = cells
        assert straight(title).partition(" (Fig. ")[0] == part.title
        assert straight(paper) == part.printed_as
        assert ours
        assert n == (str(SEEDS) if part.arms else "none") and profile == PROFILE
        assert verdict.startswith(tuple(each.word(claim.kind) for each in claims.Verdict))
        assert ("primary" in verdict) == (part.id == claim.primary)
        assert ("not counted" in verdict) == (not part.counts)
        assert inside, title


def straight(text: str) -> str:
    """Text with plain quotation marks and spaces again, as the ledger has them."""
    return text.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0xA0: " "})


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_verdicts_and_arms_need_no_scrolling_sideways(visit, viewport):
    entries = claims.load_ledger().claims
    for name in dict.fromkeys(claim.page for claim in entries):
        rows = visit(f"{name}.html", viewport).page.locator("table.verdicts tbody tr")
        assert rows.count() == sum(len(claim.subclaims) for claim in entries if claim.page == name)
        assert [cells for cells, inside in seen(rows, viewport) if not inside] == [], name
    rows = visit("status.html", viewport).page.locator("table.arms tbody tr")
    groups = yaml.safe_load((paths.configs_dir() / "arms.yaml").read_text())
    assert rows.count() == len(groups) + sum(len(group["arms"]) for group in groups.values())
    assert [cells for cells, inside in seen(rows, viewport) if not inside] == []


def drawn_by_notebooks() -> set[str]:
    scripts = [script.read_text() for script in (paths.root() / "notebooks").glob("*.py")]
    return {name for script in scripts for name in re.findall(r'mystnb={"figure": {"name": "([^"]+)"', script)}


def test_every_figure_is_a_drawing_in_the_page_with_a_description(visit, pages):
    drawn = 0
    for name, source in pages.items():
        assert source.select("article img:not(.logo__image)") == [], name
        if not source.select("article svg.drawing"):
            continue
        page = visit(name, PHONE).page
        for drawing in page.locator("article svg.drawing").all():
            assert drawing.evaluate("one => one.getBoundingClientRect().width") > 300, name
            assert drawing.get_attribute("aria-label"), name
            drawn += 1
        page.close()
    # Each on the page that argues, and where it was drawn.
    assert drawn >= 2 * len(drawn_by_notebooks()) > 40


def test_every_figure_of_the_notebooks_stands_numbered_and_captioned_on_a_page_that_argues(visit, site):
    numbers, shown = [], set()
    argued = ["index", *dict.fromkeys(claim.page for claim in claims.load_ledger().claims)]
    for name in argued:
        page = visit(f"{name}.html", DESKTOP).page
        for figure in page.locator("article figure:has(> svg.drawing)").all():
            caption, legend = (figure.locator(part).inner_text() for part in ("figcaption > p", "figcaption .legend"))
            number = re.match(r"Fig\. (\d+)\s+\S", caption)
            assert number and caption.rstrip("#¶ \n").endswith("."), caption
            numbers.append(int(number[1]))
            shown.add(figure.get_attribute("id"))
            # What made it, and its numbers to take away.
            assert re.match(r"(made by this build|no runs)", legend, re.IGNORECASE), legend
            assert "numbers (CSV, zipped)" in legend
            for link in figure.locator("figcaption a[download]").all():
                assert (site / name).parent.joinpath(link.get_attribute("href")).is_file()
            assert (figure.locator("a[href*='#cell-']").count() == 1) == (name != "index")
        if name == "claims/collapse":
            assert f"n = {SEEDS} seeds" in page.locator("#fig-collapse figcaption").inner_text()
        page.close()
    assert numbers == list(range(1, len(numbers) + 1))
    assert shown == drawn_by_notebooks() | {"fig-landing"}


def test_mathematics_is_typeset(visit):
    page = visit("methods.html", PHONE).page
    assert page.locator("math").count() > 10
    page.wait_for_function("[...document.fonts].some(one => one.family.includes('STIX') && one.status === 'loaded')")
    assert page.locator("script[src*=mathjax i]").count() == 0


def test_glued_numbers_stand_in_the_prose(visit):
    for name in dict.fromkeys(claim.page for claim in claims.load_ledger().claims):
        page = visit(f"{name}.html", DESKTOP).page
        glued = page.locator(".pasted-text").all_inner_texts()
        assert len(glued) > 10, name
    page = visit("claims/collapse.html", DESKTOP).page
    glued = page.locator(".pasted-text").all_inner_texts()
    assert str(STEPS) in glued
    findings = page.locator("table.verdicts td:nth-child(3)").all_inner_texts()
    assert set(findings) <= set(glued)


def test_search_finds_a_page_without_a_server(visit):
    page = visit("search.html?q=covariance", DESKTOP).page
    # Results come one by one.
    page.locator("#search-results li a", has_text="Methods").first.wait_for()


def test_exhibits_are_there_and_answer(visit, tmp_path):
    """Each takes the place of its fallback, in a book opened from a folder; a control changes what it says."""
    where = {"claims/covariance": "policy", "claims/law": "law", "claims/fixes": "tokens", "claims/collapse": "replay"}
    for name, exhibit in where.items():
        opened = visit(f"{name}.html", PHONE)
        place = opened.page.locator(f".exhibit-{exhibit}")
        place.locator("xpath=self::*[@data-ready='yes']").wait_for()
        assert place.locator("img").count() == 0 and opened.complaints == []
        words = place.locator(".exhibit-words").first
        if exhibit == "policy":
            before = words.inner_text()
            place.get_by_role("button", name="One step").click()
        else:
            slider = place.locator("input[type=range]").first
            slider.press("Home")
            before = words.inner_text()
            slider.press("End")
        assert before and words.inner_text() != before, exhibit
    page = visit("audit.html", DESKTOP).page
    log = tmp_path / "run.csv"
    log.write_text(
        "step,entropy,accuracy\n" + "".join(f"{10 * i},{0.6 / (i + 1)},{0.8 - 0.5 / (i + 1)}\n" for i in range(12))
    )
    page.locator("#own-file").set_input_files(log)
    page.get_by_text("run.csv: 12 points, from step 0 to 110.").wait_for()
    log = tmp_path / "other.csv"
    log.write_text("step,loss\n1,2\n")
    page.locator("#own-file").set_input_files(log)
    page.get_by_text("other.csv: no column for entropy").wait_for()
