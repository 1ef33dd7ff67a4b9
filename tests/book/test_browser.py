"""The built site in headless Chromium, opened from its files: from records to pages with the project's own commands."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from repro import claims, paths
from repro.book import needs
from repro.runs.profiles import load_profile

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
PROFILE = "made_up"
SEEDS = 3
# Small, so that one job trains several arms.
RUN = {"rollouts": 24, "eval_rollouts": 2, "prompts_per_rollout": 16, "eval_samples": 4, "eval_samples_last": 64}
# Of an arm with four updates per rollout.
STEPS = 4 * RUN["rollouts"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of a copy of the repository in which training is instant, made by `repro reproduce` with every arm."""
    root = tmp_path_factory.mktemp("site") / "copy"
    here = paths.root()
    root.mkdir()
    shutil.copy(here / "pyproject.toml", root)
    for name in ("bases", "configs", "workflow", "notebooks", "book", "examples", "src"):
        shutil.copytree(here / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).parents[1] / "sandbox" / "made_up.py", root / "src" / "repro" / "runs" / "training.py")
    groups = yaml.safe_load((root / "configs" / "arms.yaml").read_text())
    profile = {
        "description": "Made-up runs of every arm.",
        "base": "s",
        "seeds": list(range(SEEDS)),
        "run": RUN,
        "groups": dict.fromkeys(groups),
    }
    (root / "configs" / "profiles" / f"{PROFILE}.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    environment = {name: value for name, value in os.environ.items() if name != "REPRO_BUILD"}
    environment |= {"PYTHONPATH": str(root / "src")}
    command = [sys.executable, "-m", "repro", "reproduce", "--profile", PROFILE]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "build" / PROFILE / "site"


def test_a_notebook_waits_for_the_runs_that_it_reads_and_no_others(site):
    known = load_profile("cpu").arms
    for script in sorted((paths.root() / "notebooks").glob("*.py")):
        executed = (site.parent / "notebooks" / f"{script.stem}.ipynb").read_text()
        read = set(re.findall(r"(\w+), seed 0 \(", executed))
        assert read and read == set(needs.arms(script, claims.load_ledger(), known)), script.stem


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH (Debian, Ubuntu: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page and what happened while it loaded."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser, site):
    pages = []

    def open_page(name: str, viewport: dict[str, int]) -> Visit:
        page = browser.new_page(viewport=viewport)
        # A busy machine may take long; what matters is what is shown then.
        page.set_default_timeout(120_000)
        pages.append(page)
        visit = Visit(page)
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("requestfailed", lambda request: visit.complaints.append(f"failed: {request.url}"))
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on(
            "console", lambda line: visit.complaints.append(line.text) if line.type in ("error", "warning") else None
        )
        page.goto(f"{site.as_uri()}/{name}")
        page.evaluate("document.fonts.ready.then(() => true)")
        return visit

    yield open_page
    for page in pages:
        page.close()


def names(site: Path) -> list[str]:
    return sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if "_static" not in path.parts)


def inside(row: Locator, viewport: dict[str, int]) -> bool:
    """Whether all of an element can be seen without scrolling sideways, in the page or in a container of its own."""
    return row.is_visible() and row.evaluate(
        """(element, width) => {
            for (let around = element; around; around = around.parentElement) {
                if (around.scrollWidth > around.clientWidth + 1 && getComputedStyle(around).overflowX !== "visible")
                    return false;
            }
            const box = element.getBoundingClientRect();
            return box.left >= 0 && box.right <= width;
        }""",
        viewport["width"],
    )


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_page_asks_for_anything_outside_complains_or_overflows(visit, site, viewport):
    found = names(site)
    pages = {"index.html", "methods.html", "status.html"}
    pages |= {f"{claim.page}.html" for claim in claims.load_ledger().claims}
    pages |= {f"notebooks/{script.stem}.html" for script in (paths.root() / "notebooks").glob("*.py")}
    assert len(pages) == 13 and pages <= set(found)
    for name in found:
        seen = visit(name, viewport)
        assert seen.requests
        assert [url for url in seen.requests if not url.startswith((site.as_uri(), "data:", "blob:"))] == [], name
        assert seen.complaints == [], name
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], name
        seen.page.close()


def test_every_glued_value_and_reference_is_resolved(visit, site):
    for name in names(site):
        page = visit(name, DESKTOP).page
        text = page.locator("article").inner_text() if page.locator("article").count() else ""
        for left_over in ("{glue", "{doc}", "{ref}", "{numref}", "{cite", "{bdg", "{math}", "??"):
            assert left_over not in text, name
        for glued in page.locator("article .pasted-text").all_inner_texts():
            assert glued and not re.search(r"\bnan\b|^'|'$", glued, re.IGNORECASE), f"{name}: {glued!r}"
        page.close()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_landing_page_shows_every_verdict(visit, viewport):
    page = visit("index.html", viewport).page
    # Claims first, then open questions.
    entries = sorted(claims.load_ledger().claims, key=lambda claim: claim.kind is claims.Kind.QUESTION)
    overview = page.locator("table.overview tbody tr")
    assert overview.count() == len(entries)
    for row, claim in zip(overview.all(), entries, strict=True):
        title, verdict, tally = (cell.inner_text() for cell in row.locator("td").all())
        assert straight(title).endswith(claim.title)
        assert verdict in {each.word(claim.kind) for each in claims.Verdict}
        assert sum(map(int, re.findall(r"\d+", tally))) == sum(part.counts for part in claim.subclaims) - 1
        assert inside(row, viewport), title
    rows = page.locator("table.verdicts tbody tr")
    assert not any(row.is_visible() for row in rows.all())
    for claim, heading in zip(entries, page.locator("details.sd-dropdown > summary").all(), strict=True):
        assert straight(heading.inner_text()).strip().endswith(claim.title)
        heading.click()
    parts = [(claim, part) for claim in entries for part in claim.subclaims]
    assert rows.count() == len(parts)
    for row, (claim, part) in zip(rows.all(), parts, strict=True):
        title, paper, ours, n, profile, verdict = (cell.inner_text() for cell in row.locator("td").all())
        assert straight(title).partition(" (Fig. ")[0] == part.title
        assert straight(paper) == part.printed_as
        assert ours
        assert n == (str(SEEDS) if part.arms else "none") and profile == PROFILE
        assert verdict.startswith(tuple(each.word(claim.kind) for each in claims.Verdict))
        assert ("primary" in verdict) == (part.id == claim.primary)
        assert ("not counted" in verdict) == (not part.counts)
        assert inside(row, viewport), title


def straight(text: str) -> str:
    """Text with its typographic quotation marks straight again, as the ledger has them."""
    return text.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'})


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_verdicts_and_arms_need_no_scrolling_sideways(visit, viewport):
    entries = claims.load_ledger().claims
    for name in dict.fromkeys(claim.page for claim in entries):
        rows = visit(f"{name}.html", viewport).page.locator("table.verdicts tbody tr")
        assert rows.count() == sum(len(claim.subclaims) for claim in entries if claim.page == name)
        assert [row.inner_text() for row in rows.all() if not inside(row, viewport)] == [], name
    rows = visit("status.html", viewport).page.locator("table.arms tbody tr")
    groups = yaml.safe_load((paths.configs_dir() / "arms.yaml").read_text())
    assert rows.count() == len(groups) + sum(len(group["arms"]) for group in groups.values())
    assert [row.inner_text() for row in rows.all() if not inside(row, viewport)] == []


def test_every_figure_loads_and_has_a_description(visit, site):
    drawn = 0
    for name in names(site):
        page = visit(name, PHONE).page
        for image in page.locator("article img").all():
            image.scroll_into_view_if_needed()
            assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300, name
            assert image.get_attribute("alt"), name
            drawn += 1
        page.close()
    scripts = [script.read_text() for script in (paths.root() / "notebooks").glob("*.py")]
    assert drawn >= sum(script.count('mystnb={"figure"') for script in scripts) > 20


def test_every_figure_of_the_notebooks_has_a_number_and_a_caption(visit, site):
    numbers = []
    for script in sorted((paths.root() / "notebooks").glob("*.py")):
        captions = visit(f"notebooks/{script.stem}.html", DESKTOP).page.locator("figcaption").all_inner_texts()
        assert len(captions) == script.read_text().count('mystnb={"figure"'), script.stem
        for text in captions:
            number = re.match(r"Fig\. (\d+)\s+\S", text)
            assert number and text.rstrip("#¶ \n").endswith("."), text
            numbers.append(int(number[1]))
        if script.stem == "01_collapse":
            assert all(f"n = {SEEDS} seeds" in text for text in captions)
    assert numbers == list(range(1, len(numbers) + 1))


def test_mathematics_is_typeset(visit):
    page = visit("methods.html", PHONE).page
    assert page.locator("math").count() > 10
    assert page.evaluate("[...document.fonts].some((font) => font.family.includes('STIX') && font.status === 'loaded')")
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
    page.wait_for_selector("#search-results li a")
    assert any("Methods" in text for text in page.locator("#search-results li a").all_inner_texts())


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
