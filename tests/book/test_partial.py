"""The site of a profile that answers some of the claims: it builds strictly, and says what it leaves out."""

import pytest
from bs4 import BeautifulSoup

from tests.book.made_up_site import build_site

pytestmark = pytest.mark.slow


def test_a_profile_with_two_groups_has_a_whole_site_that_says_what_is_left_out(tmp_path):
    site = build_site(tmp_path / "copy", ["collapse", "law"])

    def text(name: str) -> str:
        return " ".join(BeautifulSoup((site / name).read_text(), "html.parser").select_one("article").text.split())

    landing = text("index.html")
    assert (
        "Profile made_up answers 4 of the ledger" in landing
        and "1 (collapse), 1 (collapse_length), 2 (law_null)" in landing
    )
    assert [path.name for path in (site / "notebooks").glob("*.html")] == ["01_collapse.html"]
    law = text("claims/law.html")
    assert "The profile made_up of this copy does not answer this" in law
    assert "make book PROFILE=cpu has them" in law and "not run" in law
    # The claims of the page that need no arm of another group have their numbers.
    assert "With the wrong entropy" in law and "reproduced" in law
    assert "does not answer this" not in text("claims/collapse.html")
    assert text("claims/fixes.html").count("Not drawn: the profile made_up leaves this out.") > 3
    assert {page.name for page in (site / "records").glob("*.html")} == {"collapse.html", "law.html"}
