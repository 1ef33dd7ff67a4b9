"""The site of made-up runs, built once, and a browser to look at it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from filelock import FileLock
from playwright.sync_api import Browser, sync_playwright

from tests.book.made_up_site import CHROMIUM, FLAGS, Visit, build_site

# A busy machine may take long; what matters is what is shown then.
PATIENCE = 120_000
# What opens may fade in: looked at half-way, its contrast is too low.
AT_REST = "*, *::before, *::after { animation: none !important; transition: none !important }"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    # Processes of one run of the tests have their folders side by side; the first that asks builds for all.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    place = shared / "site.txt"
    with FileLock(shared / "site.lock"):
        if not place.exists():
            place.write_text(str(build_site(shared / "site-copy")))
    return Path(place.read_text())


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, BeautifulSoup]:
    """The site's pages by name, as they are before a browser has them."""
    found = {path.relative_to(site).as_posix(): path.read_text() for path in sorted(site.rglob("*.html"))}
    return {name: BeautifulSoup(text, "html.parser") for name, text in found.items() if not name.startswith("_static")}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH (Debian, Ubuntu: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, site):
    pages = []

    def open_page(name: str, viewport: dict[str, int], theme: str = "light") -> Visit:
        page = browser.new_page(viewport=viewport)
        page.add_init_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')")
        page.set_default_timeout(PATIENCE)
        pages.append(page)
        visit = Visit(page)
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("requestfailed", lambda request: visit.complaints.append(f"failed: {request.url}"))
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on(
            "console", lambda line: visit.complaints.append(line.text) if line.type in ("error", "warning") else None
        )
        page.goto(f"{site.as_uri()}/{name}")
        page.add_style_tag(content=AT_REST)
        page.evaluate("document.fonts.ready.then(() => true)")
        return visit

    yield open_page
    for page in pages:
        page.close()
