"""Two studies side by side: compatible or not by the interval of a difference, whatever the words of the verdicts."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from repro import claims, paths
from repro.analysis.intervals import over_seeds
from repro.claims import ClaimError, Finding, Kind, Verdict, compare
from repro.cli import main


def finding(values=(0.6, 0.7, 0.8), seeds=(0, 1, 2), name="one", **fields):
    """A finding with values by seed, and the interval that follows from them."""
    estimate, low, high, n, _ = over_seeds(values) if len(values) else (None, None, None, 0, None)
    made = {
        **{"claim": "claim", "kind": Kind.CLAIM, "subclaim": name, "title": f"Title of {name}", "printed": None},
        **{"printed_as": "", "estimate": estimate, "low": low, "high": high, "n": n, "unit": "share"},
        **{"criterion": "at least 50 %", "verdict": Verdict.REPRODUCED, "note": ""},
    }
    return Finding(**made | {"seeds": tuple(seeds), "values": tuple(values)} | fields)


def pooled(estimate, low, high, n=3, **fields):
    return finding((), (), estimate=estimate, low=low, high=high, n=n, **fields)


def only(first, second):
    [row] = compare([first], [second]).rows
    return row


def test_one_seed_in_two_studies_is_a_pair():
    # Differences of 0.01, 0.02 and 0.03: mean 0.02, half width 4.302653 * 0.01 / sqrt(3) = 0.024842.
    row = only(finding((0.6, 0.7, 0.8)), finding((0.61, 0.72, 0.83)))
    assert row.difference[:3] == pytest.approx((0.02, -0.004842, 0.044842), abs=1e-6)
    assert row.compatible and row.word == "yes"
    # Unpaired, the seeds' spread would hide ten times that difference; paired, it cannot be chance.
    row = only(finding((0.1, 0.5, 0.9)), finding((0.1501, 0.55, 0.95)))
    assert row.compatible is False and row.clear and row.word == "clearly not"


def test_pairs_are_of_the_same_seed_in_whatever_order():
    row = only(finding((0.6, 0.7, 0.8), (0, 1, 2)), finding((0.9, 0.8, 0.7), (7, 2, 1)))
    # Only seeds 1 and 2 are in both, and there is no difference between them.
    assert row.difference[:3] == pytest.approx((0, 0, 0), abs=1e-12)
    assert row.compatible


def test_other_seeds_are_independent():
    row = only(finding((0.6, 0.7, 0.8), (0, 1, 2)), finding((0.7, 0.9), (3, 4)))
    # Means 0.7 and 0.8; variances 0.01 / 3 and 0.02 / 2; df = 0.01333^2 / (0.00333^2 / 2 + 0.01^2 / 1) = 1.6842.
    assert row.difference.estimate == pytest.approx(0.1)
    assert row.difference.high - 0.1 == pytest.approx(5.1762 * np.sqrt(0.04 / 3), rel=1e-4)
    assert row.compatible


def test_pooled_intervals_imply_that_of_their_difference():
    # Ends that face each other: 2 - 1.6 = 0.4 below the second and 1.3 - 1 = 0.3 above the first, 0.5 together.
    row = only(pooled(1.0, 0.8, 1.3), pooled(2.0, 1.6, 3.0))
    assert row.difference.estimate == pytest.approx(1)
    assert row.difference.low == pytest.approx(0.5)
    assert row.difference.high == pytest.approx(1 + np.hypot(1.0, 0.2))
    assert row.compatible is False
    assert only(pooled(1.0, 0.8, 1.3), pooled(1.4, 1.0, 3.0)).compatible


def test_words_of_verdicts_have_no_part():
    first, second = finding((0.6, 0.7, 0.8)), finding((0.61, 0.69, 0.81), verdict=Verdict.NOT_REPRODUCED)
    assert only(first, second).word == "yes"


def test_what_cannot_be_compared_says_why():
    assert only(finding(), finding((), ())).word == "not measured in both"
    assert only(finding(), finding((0.7,), (0,))).word == "no interval in both"
    assert only(finding(), finding()).word == "the same"
    assert compare([finding(name="one")], [finding(name="another")]).rows == ()


def test_exact_numbers_agree_up_to_rounding():
    def exact(value):
        return pooled(value, value, value, n=0)

    assert only(exact(0.1), exact(0.1 + 1e-9)).word == "the same"
    assert only(exact(0.1), exact(0.101)).word == "clearly not"


def test_as_many_differ_as_chance_gives_and_hardly_one_is_clear():
    rng = np.random.default_rng(0)

    def study():
        return [finding(rng.normal(0.5, 0.1, 4), range(4), name=f"part{number}") for number in range(150)]

    found = [compare(study(), study()) for _ in range(20)]
    apart = sum(len(one.apart) for one in found)
    # 3000 differences at 95 %: 150 by chance, with a standard deviation of 12.
    assert 110 < apart < 190
    assert sum(bool(one.clear) for one in found) <= 4
    assert "150 compared at 95 %, of which" in found[0].summary()
    assert "where 7.5 would by chance" in found[0].summary()


def test_a_difference_that_chance_does_not_explain_is_named():
    first = [finding(name=f"part{number}") for number in range(50)]
    second = [finding((0.61, 0.69, 0.81), name=f"part{number}") for number in range(49)]
    moved = finding((0.9, 1.0001, 1.1), name="part49")
    found = compare(first, [*second, moved])
    assert [one.first.subclaim for one in found.apart] == [one.first.subclaim for one in found.clear] == ["part49"]
    assert "of which 1 differ, where 2.5 would by chance" in found.summary()
    assert "claim.part49 differs" in found.summary()
    table = found.table("here", "there")
    assert table.columns.tolist() == ["Sub-claim", "here", "there", "Difference", "Compatible"]
    assert table.iloc[49].tolist()[1:] == [
        "70 % (45 to 95 %)",
        "100 % (75 to 125 %)",
        "30 % (30 to 30 %)",
        "clearly not",
    ]


# Studies that are committed, and the command.


def test_committed_studies_have_the_ledgers_sub_claims_and_a_line_about_their_machine():
    studies = claims.recorded_studies("cpu")
    assert "amd-epyc" in studies
    readme = (paths.results_dir() / "machines" / "README.md").read_text(encoding="utf-8")
    parts = {(claim.id, part.id) for claim in claims.load_ledger().claims for part in claim.subclaims}
    for machine, path in studies.items():
        found = claims.read_verdicts("cpu", path)
        assert found and {(one.claim, one.subclaim) for one in found} <= parts
        assert f"| `{machine}` |" in readme
    with pytest.raises(ClaimError, match="verdicts of profile 'cpu', not of 'smoke'"):
        claims.read_verdicts("smoke", studies["amd-epyc"])


@pytest.fixture
def measured(monkeypatch):
    """What the records of the repository and of this machine say, in place of measuring them."""
    said = {"recorded": [finding()], "made": [finding((0.61, 0.69, 0.81))]}

    def measure_profile(profile, *, made=True, recorded=True):
        assert made is not recorded
        return said["made" if made else "recorded"]

    monkeypatch.setattr("repro.claims.measure_profile", measure_profile)
    monkeypatch.setattr("repro.claims.comparison.measure_profile", measure_profile)
    return said


def test_compare_sets_studies_side_by_side(measured, capsys, tmp_path):
    assert main(["compare", "--profile", "smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["Sub-claim", "recorded", "made", "here", "Difference", "Compatible"]
    assert lines[1].endswith("yes")
    assert lines[-1].startswith(
        "1 sub-claims: 0 the same in both, 0 without an interval in one of them, and 1 compared"
    )
    measured["made"] = [finding((0.9, 1.0001, 1.1))]
    assert main(["compare", "--profile", "smoke"]) == 1
    other = tmp_path / "verdicts.json"
    other.write_text(json.dumps({"profile": "smoke", "findings": [dataclasses.asdict(finding())]}))
    capsys.readouterr()
    assert main(["compare", "--profile", "smoke", str(other)]) == 0
    assert "the same" in capsys.readouterr().out
    assert main(["compare", "--profile", "smoke", str(tmp_path / "none.json")]) == 2
    assert "no verdicts for profile 'smoke'" in capsys.readouterr().err


def test_reproduce_ends_with_what_differs_of_the_claims_whose_runs_were_made_here(measured, monkeypatch, capsys):
    entries = [
        SimpleNamespace(id="claim", arms=("grpo", "elsewhere")),
        SimpleNamespace(id="shown", arms=("elsewhere",)),
    ]
    monkeypatch.setattr("repro.claims.answered", lambda profile: entries)
    monkeypatch.setattr("repro.cli._make", lambda target, arguments: None)
    monkeypatch.setattr("repro.runs.record.find", lambda config, made: type("Found", (), {"status": "current"}))
    made = [finding(), dataclasses.replace(finding(), claim="shown")]
    monkeypatch.setattr("repro.claims.read_verdicts", lambda profile: made)
    measured["recorded"] = list(made)
    assert main(["reproduce", "--profile", "smoke"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 sub-claims: 1 the same in both, 0 without an interval in one of them, and 0 compared at 95 %, of which 0 "
        "differ, where 0.0 would by chance. Allowing for so many, none differs.",
        "`python -m repro compare --profile smoke` lists them all",
    ]
    made[0] = finding((0.9, 1.0001, 1.1))
    assert main(["reproduce", "--profile", "smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Sub-claim") and lines[1].endswith("clearly not") and len(lines) == 4


def test_a_check_judges_the_repositorys_records_and_writes_nothing(measured, build, capsys):
    assert main(["verdicts", "--profile", "cpu", "--check"]) == 1
    assert "collapse.entropy_twelfth: recorded reproduced, computed nothing" in capsys.readouterr().err
    assert not build.exists()
