"""Which claims a profile answers, and what it is told where it names one that it cannot."""

from dataclasses import replace

import pytest

from repro import claims
from repro.book import absent, needs
from repro.claims import ClaimError
from repro.claims.results import section
from repro.errors import ConfigError
from repro.paths import root
from repro.runs.profiles import all_arms, load_profile

SCRIPTS = {f"notebooks/{path.stem}": path for path in sorted((root() / "notebooks").glob("*.py"))}


@pytest.fixture
def smoke():
    return load_profile("smoke")


def with_groups(profile, *groups, **more):
    """The profile with the arms of some groups only."""
    arms = {name: arm for name, arm in profile.arms.items() if arm.group in groups}
    return replace(profile, name="part", arms=arms, **more)


def ids(profile):
    return [claim.id for claim in claims.answered(profile)]


def test_a_profile_with_every_arm_answers_every_entry(smoke):
    assert ids(smoke) == [claim.id for claim in claims.load_ledger().claims]
    assert list(smoke.arms) == all_arms()
    assert claims.answers(smoke) == "Profile smoke answers every claim and question."


def test_a_profile_answers_the_entries_all_of_whose_arms_it_has(smoke):
    """Of claim 2's entries one is of plain runs alone; what is of the paper's numbers alone comes with it."""
    part = with_groups(smoke, "collapse", "law")
    assert ids(part) == ["collapse", "collapse_length", "law_null", "law_paper"]
    assert ids(with_groups(smoke, "collapse")) == ["collapse", "collapse_length"]
    assert ids(with_groups(smoke, "single")) == []
    said = claims.answers(part)
    assert "answers 4 of the ledger's" in said and ": 1 (collapse), 1 (collapse_length), 2 (law_null), 2" in said
    assert ids(with_groups(smoke, "collapse", "law", claims=("collapse",))) == ["collapse"]


def test_a_claim_that_is_named_must_be_there_and_have_its_arms(smoke):
    with pytest.raises(ClaimError, match=r"claims: no claim called 'colapse'; the nearest name is collapse$"):
        claims.answered(replace(smoke, claims=("colapse",)))
    with pytest.raises(
        ClaimError, match="claims: law needs the arms size_xs, size_sm, size_m, which the profile leaves"
    ):
        claims.answered(with_groups(smoke, "collapse", "law", claims=("law",)))


def test_a_notebook_is_executed_where_its_arms_are_there_and_a_claim_of_it_is_answered(smoke):
    ledger = claims.load_ledger()
    part = with_groups(smoke, "collapse", "law")
    executed = [name for name, script in SCRIPTS.items() if needs.executes(script, ledger, part)]
    assert executed == ["notebooks/01_collapse"]
    assert needs.lacking(SCRIPTS["notebooks/03_covariance"], ledger, part) == [
        "probe",
        "rate_1e5",
        "rate_5e5",
        "rate_1e3",
    ]
    assert all(needs.executes(script, ledger, smoke) for script in SCRIPTS.values())
    named = replace(smoke, claims=("covariance",))
    assert [name for name, one in SCRIPTS.items() if needs.executes(one, ledger, named)] == ["notebooks/03_covariance"]


def test_a_page_says_what_is_left_out_in_place_of_numbers(smoke):
    ledger = claims.load_ledger()
    part = with_groups(smoke, "collapse")
    lacking = absent.absent(part, ledger, SCRIPTS)
    assert list(lacking.figures) == [name for name in SCRIPTS if name != "notebooks/01_collapse"]
    text = (
        "(here)=\n# Claim 2\n\nIt is {glue:text}`../notebooks/02_law.ipynb::fit_r2:s`, of {numref}`fig-law` and "
        "{glue:text}`../notebooks/01_collapse.ipynb::steps:d` of {numref}`fig-collapse`.\n"
    )
    entry = ledger.claim("law")
    assert lacking.page(text, [entry]) == (
        "(here)=\n# Claim 2\n\n:::{note}\nThe profile `part` of this copy does not answer this: numbers "
        "and figures are left out. `make book PROFILE=cpu` has them.\n:::\n"
        "\nIt is *not run*, of a figure that this copy lacks and "
        "{glue:text}`../notebooks/01_collapse.ipynb::steps:d` of {numref}`fig-collapse`.\n"
    )
    made = lacking.fragments()
    assert made["again-02_law.md"] == "*Not executed: the profile `part` leaves this out.*\n"
    assert made["figure-fig-law.md"] == "*Not drawn: the profile `part` leaves this out.*\n"
    assert "Not run by the profile part" in made["fig-law.svg"] and "fig-collapse.svg" not in made


def test_a_table_of_contents_loses_entries_and_not_what_holds_them():
    contents = {"root": "index", "parts": [{"chapters": [{"file": "run", "sections": [{"file": "notebooks/02_law"}]}]}]}
    assert absent.without(contents, {"notebooks/02_law": ()}) == {
        "root": "index",
        "parts": [{"chapters": [{"file": "run"}]}],
    }
    assert absent.without(contents, {}) == contents


def test_an_arm_that_others_have_is_refused_in_a_sentence(smoke):
    with pytest.raises(
        ConfigError, match="profile 'part' does not answer this: it leaves out the arm 'rloo', which the profiles .*cpu"
    ) as refused:
        with_groups(smoke, "collapse").configs("rloo")
    assert refused.value._render_traceback_() == [f"error: {refused.value}"]


def test_the_readmes_section_needs_a_profile_that_answers_what_it_speaks_of(smoke):
    with pytest.raises(
        ClaimError, match="configs/results.md speaks of claim .*, which profile 'smoke' does not answer"
    ):
        section("smoke", [])
