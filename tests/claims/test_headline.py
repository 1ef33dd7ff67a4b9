"""What is said of a claim as a whole, which sub-claims count in it, and how firm a verdict is."""

import dataclasses
import itertools
import json
from datetime import date

import numpy as np
import pytest

from repro import claims
from repro.claims import ClaimError, Criterion, Finding, Kind, Verdict, headline
from repro.claims.borderline import BORDERLINE, firmness, margin
from repro.claims.ledger import Change
from repro.claims.tables import side
from repro.runs.profiles import load_profile
from repro.runs.record import load

R, N, U = Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.UNDERPOWERED
INTERVALS = {R: (0.6, 0.8), N: (0.1, 0.2), U: (0.2, 0.6)}


@pytest.fixture
def claim():
    """Claim 1 with four sub-claims, all of them at least 50 %, and the second as primary."""
    claim = claims.load_ledger().claim("collapse")
    part = claim.subclaims[0]
    parts = tuple(part.model_copy(update={"id": name, "title": f"Title of {name}"}) for name in "abcd")
    return claim.model_copy(update={"primary": "b", "subclaims": parts})


def with_part(claim, name, **fields):
    """The claim with other fields of one sub-claim."""
    parts = tuple(part.model_copy(update=fields if part.id == name else {}) for part in claim.subclaims)
    return claim.model_copy(update={"subclaims": parts})


def finding(name, verdict=R, **fields):
    low, high = INTERVALS[verdict]
    made = {
        **{"claim": "collapse", "kind": Kind.CLAIM, "subclaim": name, "title": f"Title of {name}", "printed": None},
        **{"printed_as": "most", "estimate": (low + high) / 2, "low": low, "high": high, "n": 3, "unit": "share"},
        **{"criterion": "at least 50 %", "verdict": verdict, "note": "", "seeds": (), "values": ()},
    }
    return Finding(**made | fields)


# The headline.


def test_the_primary_decides_whatever_the_others_say(claim):
    for verdicts in itertools.product((R, N, U), repeat=4):
        said = headline(claim, [finding(name, one) for name, one in zip("abcd", verdicts, strict=True)])
        assert said.word == str(verdicts[1])
        assert [one.subclaim for one in said.others] == ["a", "c", "d"]
    assert str(said) == "underpowered (primary); others: 3 underpowered"
    mixed = headline(claim, [finding("a", N), finding("b"), finding("c", U), finding("d")])
    assert str(mixed) == "reproduced (primary); others: 1 reproduced, 1 not reproduced, 1 underpowered"


def test_a_question_is_headlined_in_its_own_words(claim):
    found = [finding(name, N, kind=Kind.QUESTION) for name in "ab"]
    assert str(headline(claim, found)) == "not as predicted (primary); others: 1 not as predicted"
    assert str(headline(claim, found[1:])) == "not as predicted (primary)"


@pytest.mark.parametrize("why", [{"identity": True}, {"untestable": "no room"}, {"follows": "b"}])
def test_parts_that_say_nothing_of_their_own_are_not_counted(claim, why):
    found = [finding("a", N), finding("b"), finding("c"), finding("d")]
    said = headline(with_part(claim, "a", **why), found)
    assert str(said) == "reproduced (primary); others: 2 reproduced"


def test_other_claims_findings_are_ignored_and_the_primary_must_be_there(claim):
    found = [finding("a"), finding("b"), finding("c", N, claim="law")]
    assert str(headline(claim, found)) == "reproduced (primary); others: 1 reproduced"
    with pytest.raises(ClaimError, match="collapse: no finding of its primary sub-claim 'b'; measure the whole claim"):
        headline(claim, found[:1])


def test_every_claim_of_the_ledger_counts_more_than_it_leaves_out():
    for one in claims.load_ledger().claims:
        assert one.part(one.primary).counts
        assert 2 * sum(part.counts for part in one.subclaims) > len(one.subclaims), one.id


def test_equality_is_held_to_less_than_the_effect_that_it_is_compared_with():
    """Half of what harder training data change, in the records' own findings."""
    ledger = claims.load_ledger()
    law = ledger.claim("law")
    only = law.model_copy(update={"subclaims": tuple(law.part(f"hard_{coefficient}") for coefficient in "ab")})
    runs = [load(config) for arm in only.arms for config in load_profile("cpu").configs(arm)]
    found = {one.subclaim: one for one in claims.measure(only, runs)}
    for name, coefficient in itertools.product(("rloo", "reinforce_pp", "prime"), "ab"):
        margin = law.part(f"{name}_{coefficient}").criterion
        assert margin.at_most == -margin.at_least <= found[f"hard_{coefficient}"].estimate / 2 + 1e-3


# What stands beside a verdict.


def test_a_part_says_what_it_is(claim):
    claim = with_part(with_part(claim, "a", untestable="no room"), "c", follows="b")
    claim = with_part(claim, "d", identity=True)
    said = {name: claims.remarks(claim, finding(name), {}) for name in "abcd"}
    assert said == {
        "a": ["not counted: no room"],
        "b": ["primary"],
        "c": ['not counted: it fails with "Title of b"'],
        "d": ["not counted: an identity of mathematics, which checks the code"],
    }


@pytest.mark.parametrize(
    ("plotted", "criterion", "interval", "expected"),
    [
        (0.4, Criterion(at_least=0.5), (0.1, 0.2), "with the paper's figure, against its text"),
        (0.4, Criterion(at_least=0.5), (0.6, 0.7), "with the paper's text, against its figure"),
        (0.4, Criterion(at_least=0.5), (0.4, 0.7), "the paper's figure fails its text, and this does not decide"),
        (2.0, Criterion(at_least=0, at_most=1), (1.5, 1.7), "with the paper's figure, against its text"),
        (2.0, Criterion(at_least=0, at_most=1), (-2, -1), "neither"),
        (-1.0, Criterion(at_least=0, at_most=1), (1.5, 1.7), "neither"),
        (2.0, Criterion(at_most=1), (1.5, 1.7), "with the paper's figure, against its text"),
    ],
)
def test_where_the_papers_figure_fails_its_text_the_verdict_takes_sides(claim, plotted, criterion, interval, expected):
    part = claim.subclaims[0].model_copy(update={"plotted": plotted, "criterion": criterion})
    one = finding("a", low=interval[0], high=interval[1], verdict=criterion.verdict(*interval))
    assert side(part, one).startswith(expected)
    one = finding("a", N)
    assert claims.remarks(with_part(claim, "a", plotted=0.4), one, {}) == ["with the paper's figure, against its text"]


# How firm it is.


@pytest.mark.parametrize(
    ("criterion", "low", "high", "expected"),
    [
        (Criterion(at_least=0), 1, 3, 1),  # down by 1
        (Criterion(at_least=0), -3, -1, 1),  # up by 1
        (Criterion(at_least=0), -0.5, 1.5, 0.5),  # up by 0.5
        (Criterion(at_least=0), -1.5, 0.5, 0.5),  # down by 0.5
        (Criterion(at_most=0), -1.5, 0.5, 0.5),
        (Criterion(at_most=0), -6, -2, 1),  # up by 2, of a half-width of 2
        (Criterion(at_least=0, at_most=10), 4, 8, 1),  # up by 2
        (Criterion(at_least=0, at_most=10), -1, 3, 0.5),  # up by 1
        (Criterion(at_least=0, at_most=1), -1, 3, 1),  # wider than the range: reproduced nowhere, so up by 2
        (Criterion(at_least=0, at_most=1), -4, 2, 2 / 3),  # down by 2
        (Criterion(at_least=0), 0, 2, 0),
    ],
)
def test_the_margin_is_the_least_move_to_another_verdict(criterion, low, high, expected):
    assert margin(criterion, low, high) == pytest.approx(expected, abs=1e-6)
    # By search: no smaller move changes the verdict, and one a little larger does.
    half, now = (high - low) / 2, criterion.verdict(low, high)
    for share in np.linspace(-1, 1, 41) * (expected - 1e-3 if expected else 0):
        assert criterion.verdict(low + share * half, high + share * half) is now
    past = (expected + 1e-3) * half
    assert {criterion.verdict(low + move, high + move) for move in (-past, past)} != {now}


def test_borderline_is_near_another_verdict_or_has_another_word_elsewhere(claim):
    part = claim.subclaims[0]
    near, far = finding("a", low=0.52, high=0.72), finding("a", low=0.56, high=0.76)
    assert firmness(claim, part, near, {}).margin == pytest.approx(0.2) and firmness(claim, part, near, {}).borderline
    assert firmness(claim, part, far, {}).margin == pytest.approx(0.6) and BORDERLINE == 0.5
    key = ("collapse", "a")
    studies = {"one": {key: "reproduced"}, "two": {key: "reproduced"}, "three": {("law", "a"): "underpowered"}}
    firm = firmness(claim, part, far, studies)
    assert (firm.same, firm.studies, firm.borderline) == (2, 2, False)
    moved = firmness(claim, part, far, studies | {"four": {key: "underpowered"}})
    assert moved.borderline
    assert str(moved) == "0.6 half-widths from another verdict, the same word on 2 of 3 other machines"
    assert claims.remarks(claim, far, studies) == []
    assert claims.remarks(claim, near, {}) == ["borderline: 0.2 half-widths from another verdict"]


def test_verdicts_by_rule_and_exact_numbers_have_no_margin(claim):
    part = claim.subclaims[0]
    for one in (finding("a", n=2), finding("a", low=0.51, high=0.51), finding("a", low=None, high=None)):
        assert firmness(claim, part, one, {}).margin is None
    few = with_part(claim, "a", minimum_bases=3)
    assert firmness(few, few.subclaims[0], finding("a"), {}).margin is None


# Other machines' studies.


@pytest.fixture
def machines(monkeypatch, tmp_path, claim):
    """A ledger with the claim alone, and a folder for studies of the profile `cpu`."""
    ledger = claims.load_ledger().model_copy(update={"claims": (claim,)})
    monkeypatch.setattr("repro.claims.borderline.load_ledger", lambda: ledger)
    monkeypatch.setattr("repro.claims.comparison.results_dir", lambda: tmp_path)

    def study(name, content):
        folder = tmp_path / "machines" / name
        folder.mkdir(parents=True)
        kind = "verdicts" if "findings" in content else "words"
        (folder / f"{kind}_cpu.json").write_text(json.dumps({"profile": "cpu"} | content, default=str))

    return study


def test_other_studies_are_judged_by_todays_criteria(machines):
    there = [finding("a", low=0.55, high=0.9, verdict=N), finding("b", U, estimate=None), finding("gone")]
    there.append(finding("d", title="Another measure under an old name"))
    same = finding("c", N)
    without = [{k: v for k, v in dataclasses.asdict(one).items() if k != "bases"} for one in [*there, same]]
    machines("epyc", {"findings": without})
    here = [finding("a"), finding("b"), same, finding("d")]
    # Its verdict on a was by an older range; b has nothing to compare; c agrees to the last digit; d was other.
    assert claims.other_studies("cpu", here) == {"epyc": {("collapse", "a"): "reproduced"}}
    # What needs no runs is no machine's.
    assert claims.other_studies("cpu", [finding("a", n=0)]) == {"epyc": {}}


def test_of_words_those_count_whose_criterion_stands(monkeypatch, machines, claim):
    later = (Change(date=date(2026, 3, 1), reason="Too wide."),)
    changed = with_part(claim, "b", changed=later)
    before = {"written": date(2026, 2, 1)}
    newer = claim.model_copy(update={"id": "newer", "written": date(2026, 2, 28)})
    ledger = claims.load_ledger().model_copy(update={"claims": (changed.model_copy(update=before), newer)})
    words = {"collapse": {"a": "reproduced", "b": "reproduced", "gone": "reproduced"}, "newer": {"a": "reproduced"}}
    machines("old", {"date": "2026-02-27", "words": words})
    machines("new", {"date": "2026-03-01", "words": words})
    monkeypatch.setattr("repro.claims.borderline.load_ledger", lambda: ledger)
    studies = claims.other_studies("cpu", [*(finding(name) for name in "abcd"), finding("a", claim="newer")])
    assert studies == {
        "old": {("collapse", "a"): "reproduced"},
        "new": {("collapse", "a"): "reproduced", ("collapse", "b"): "reproduced", ("newer", "a"): "reproduced"},
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"words": {}}, r"not a file of words \('date'\); it needs profile, date and words"),
        ({"words": [], "date": "2026-02-28"}, r"not a file of words"),
        ({"words": {}, "date": "soon"}, r"not a file of words .*soon"),
        ({"words": {}, "date": "2026-02-28", "profile": "smoke"}, r"words of profile 'smoke', not of 'cpu'; name"),
    ],
)
def test_files_that_hold_no_words(machines, content, message):
    machines("odd", content)
    with pytest.raises(ClaimError, match=message):
        claims.other_studies("cpu", [])


def test_the_words_on_record_are_of_the_ledgers_sub_claims():
    _, words = claims.read_words("cpu", claims.recorded_words("cpu")["first"])
    ledger = {(claim.id, part.id): part for claim in claims.load_ledger().claims for part in claim.subclaims}
    assert len(set(words) & set(ledger)) > 0.9 * len(words)
    assert set(words.values()) <= {one.word(kind) for one in Verdict for kind in Kind}
