"""The built site in headless Chromium, opened from its files: from records to pages with the project's own commands."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from repro import claims, paths

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
# Small, and seeds enough for verdicts.
PROFILE_TEXT = (
    "description: Three made-up runs.\nbase: t\nseeds: [0, 1, 2]\nrun: {steps: 48, eval_every: 2}\narms: {grpo: {}}\n"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of a copy of the repository in which training is instant, made by `repro reproduce`."""
    root = tmp_path_factory.mktemp("site") / "copy"
    here = paths.root()
    root.mkdir()
    shutil.copy(here / "pyproject.toml", root)
    for name in ("configs", "workflow", "notebooks", "book", "examples", "src"):
        shutil.copytree(here / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).parent / "sandbox" / "training.py", root / "src" / "repro" / "runs" / "training.py")
    (root / "configs" / "profiles" / f"{PROFILE}.yaml").write_text(PROFILE_TEXT)
    (root / "bases" / "t").mkdir(parents=True)
    (root / "bases" / "t" / "model.safetensors").write_text("weights")
    environment = {name: value for name, value in os.environ.items() if name != "REPRO_BUILD"}
    environment |= {"PYTHONPATH": str(root / "src"), "REPRO_TEST_DIR": str(root)}
    command = [sys.executable, "-m", "repro", "reproduce", "--profile", PROFILE]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "build" / PROFILE / "site"


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
        pages.append(page)
        visit = Visit(page)
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("requestfailed", lambda request: visit.complaints.append(f"failed: {request.url}"))
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on(
            "console", lambda line: visit.complaints.append(line.text) if line.type in ("error", "warning") else None
        )
        page.goto(f"{site.as_uri()}/{name}")
        page.wait_for_load_state("networkidle")
        return visit

    yield open_page
    for page in pages:
        page.close()


def names(site: Path) -> list[str]:
    return sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if "_static" not in path.parts)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_page_asks_for_anything_outside_complains_or_overflows(visit, site, viewport):
    found = names(site)
    assert {"index.html", "claims/collapse.html", "notebooks/01_collapse.html", "methods.html", "status.html"} <= set(
        found
    )
    for name in found:
        seen = visit(name, viewport)
        assert seen.requests
        assert [url for url in seen.requests if not url.startswith((site.as_uri(), "data:", "blob:"))] == [], name
        assert seen.complaints == [], name
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], name


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_landing_page_shows_every_verdict(visit, viewport):
    page = visit("index.html", viewport).page
    rows = page.locator("table.verdicts tbody tr")
    # Claims first, then open questions.
    entries = sorted(claims.load_ledger().claims, key=lambda claim: claim.kind is claims.Kind.QUESTION)
    parts = [(claim, part) for claim in entries for part in claim.subclaims]
    assert rows.count() == len(parts)
    for row, (claim, part) in zip(rows.all(), parts, strict=True):
        assert row.is_visible()
        title, paper, ours, n, profile, verdict = (cell.inner_text() for cell in row.locator("td").all())
        assert title.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").partition(" (Fig. ")[0] == part.title
        assert paper == part.printed_as
        assert ours
        assert n == ("3" if part.arms == ("grpo",) else "-") and profile == PROFILE
        assert verdict in {each.word(claim.kind) for each in claims.Verdict}
        # Whole inside the screen, not cut off by it.
        box = row.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= viewport["width"]


@pytest.mark.parametrize("name", ["index.html", "notebooks/01_collapse.html"])
def test_figures_load(visit, name):
    page = visit(name, PHONE).page
    images = page.locator("article img")
    assert images.count() == {"index.html": 1, "notebooks/01_collapse.html": 3}[name]
    for image in images.all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("image => image.complete && image.naturalWidth") > 300
        assert image.get_attribute("alt")


def test_every_figure_of_the_notebook_has_a_number_and_a_caption_with_n(visit):
    captions = visit("notebooks/01_collapse.html", DESKTOP).page.locator("figcaption")
    texts = captions.all_inner_texts()
    assert len(texts) == 3
    for number, text in enumerate(texts, 1):
        assert text.startswith(f"Fig. {number} ")
        assert "n = 3 seeds" in text


def test_mathematics_is_typeset(visit):
    page = visit("methods.html", PHONE).page
    page.wait_for_selector("mjx-container")
    assert page.locator("mjx-container").count() > 10
    assert page.locator("mjx-merror").count() == 0


def test_glued_numbers_stand_in_the_prose(visit, site):
    page = visit("claims/collapse.html", DESKTOP).page
    glued = page.locator(".pasted-text").all_inner_texts()
    assert len(glued) > 10
    assert not any("'" in text or "nan" in text.lower() for text in glued)
    assert "48" in glued
    findings = page.locator("table.verdicts td:nth-child(3)").all_inner_texts()
    assert set(findings) <= set(glued)


def test_search_finds_a_page_without_a_server(visit):
    page = visit("search.html?q=covariance", DESKTOP).page
    page.wait_for_selector("#search-results li a")
    assert any("Methods" in text for text in page.locator("#search-results li a").all_inner_texts())
