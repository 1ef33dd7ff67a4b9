"""The built site as any site: links, anchors, markup, spelling, accessibility, weight."""

import itertools
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from bs4 import BeautifulSoup

from repro import paths

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAGE_LIMIT, SITE_LIMIT = 1_500_000, 8_000_000
SERIOUS = ("serious", "critical")
# Of the markup of the theme, and of the list of references, not of ours.
THEME_RULES = [
    "aria-required-children",
    "region",
    "landmark-unique",
    "landmark-no-duplicate-banner",
    "landmark-one-main",
]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, BeautifulSoup]:
    found = {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*.html")}
    return {name: BeautifulSoup(text, "html.parser") for name, text in found.items() if not name.startswith("_static")}


def test_every_link_inside_the_site_leads_somewhere(site, pages):
    anchors = {name: {tag["id"] for tag in page.find_all(id=True)} for name, page in pages.items()}
    followed = 0
    for name, page in pages.items():
        for link in page.select("a[href], link[href], script[src], img[src]"):
            target, anchor = urldefrag(unquote(link.get("href") or link.get("src")))
            if re.match(r"[a-z]+:", target):
                continue
            target = target.partition("?")[0]
            path = ((site / name).parent / target).resolve() if target else site / name
            assert path.is_file(), f"{name} links to {target}"
            inside = path.relative_to(site.resolve()).as_posix() if target else name
            if anchor and inside in anchors and not link.get("href").startswith("#") | (anchor == "main-content"):
                assert anchor in anchors[inside], f"{name} links to {target}#{anchor}"
            followed += 1
    assert followed > 1000


def test_the_markup_is_sound(pages):
    """Ids are unique, images are described, headings skip no level, nothing is nested that HTML forbids."""
    for name, page in pages.items():
        ids = Counter(tag["id"] for tag in page.find_all(id=True))
        assert [one for one, count in ids.items() if count > 1 and not one.startswith("pst-")] == [], name
        assert page.html.get("lang") and page.title and page.title.text.strip(), name
        assert all(image.get("alt") is not None for image in page.find_all("img")), name
        levels = [int(heading.name[1]) for heading in page.select("article h1, article h2, article h3, article h4")]
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), name
        assert not page.select("a a, p p, p div.sd-card, button a, table p table"), name


def test_pages_and_site_are_light(site):
    sizes = {path.relative_to(site).as_posix(): path.stat().st_size for path in site.rglob("*") if path.is_file()}
    heavy = {name: size for name, size in sizes.items() if name.endswith(".html") and size > PAGE_LIMIT}
    assert heavy == {}
    without = {name: size for name, size in sizes.items() if not name.startswith("notebooks/")}
    assert sum(without.values()) < SITE_LIMIT, Counter(without).most_common(12)


def test_what_is_written_is_spelled(tmp_path):
    from codespell_lib import main

    pages = [str(path) for path in (paths.root() / "book").rglob("*") if path.suffix in (".md", ".yaml", ".js")]
    shown = [path for path in pages if "plot.js" not in path]
    shown += [str(path) for path in (paths.root() / "configs").rglob("*.yaml")]
    shown += [str(path) for path in (paths.root() / "notebooks").glob("*.py")]
    assert len(shown) > 40
    assert main("--builtin", "clear,rare", "--ignore-words-list", "fo,ot,hist", *shown) == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_a_serious_barrier(visit, pages, theme):
    from axe_playwright_python.base import AXE_FILE_PATH

    script = Path(AXE_FILE_PATH).read_text()
    found = {}
    for name in pages:
        page = visit(name, {"width": 1280, "height": 900}, theme=theme).page
        # What opens may fade in: looked at half-way, its contrast is too low.
        page.add_style_tag(content="*, *::before, *::after { animation: none !important; transition: none !important }")
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        page.evaluate(script)
        # The light theme is looked at with every rule, the dark one for what differs in it.
        only = {"rules": {rule: {"enabled": False} for rule in THEME_RULES}}
        if theme == "dark":
            only = {"runOnly": ["color-contrast"]}
        result = page.evaluate("options => axe.run(document.querySelector('article, main') ?? document, options)", only)
        page.close()
        for one in result["violations"]:
            if one["impact"] in SERIOUS:
                found[f"{name} {one['id']}"] = [node["html"][:160] for node in one["nodes"][:3]]
    assert found == {}
