"""The ledger, measurements of hand-made runs, verdicts, and what is stored and checked of them."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from repro import claims, paths
from repro.claims import ClaimError, Criterion, Finding, NoEffect, Verdict
from repro.profiles import profile_names

R, P, N, U = Verdict.REPRODUCED, Verdict.PARTLY, Verdict.NOT_REPRODUCED, Verdict.UNDERPOWERED


@pytest.fixture
def ledger():
    return claims.load_ledger()


@pytest.fixture
def claim(ledger):
    return ledger.claim("collapse")


def finding(verdict=R, **fields):
    values = {
        "claim": "collapse",
        "subclaim": "entropy_twelfth",
        "title": "Entropy",
        "printed": 0.73,
        "printed_as": "73 %",
        "estimate": 0.7,
        "low": 0.6,
        "high": 0.8,
        "n": 3,
        "unit": "share",
        "criterion": "at least 50 %",
        "verdict": verdict,
        "note": "",
        "seeds": (0, 1, 2),
        "values": (0.6, 0.7, 0.8),
    }
    return Finding(**values | fields)


# The ledger of the project.


def test_claim_1_has_the_printed_numbers(claim):
    printed = {part.id: part.printed for part in claim.subclaims}
    assert printed["entropy_twelfth"] == 0.73
    assert printed["gain_twelfth"] == 0.76
    assert printed["entropy_third"] == 0.94
    assert printed["gain_third"] == 0.93
    assert claim.minimum_seeds >= 2


def test_printed_numbers_meet_their_own_criteria(ledger):
    for part in itertools.chain.from_iterable(claim.subclaims for claim in ledger.claims):
        assert part.printed is None or part.criterion.holds(part.printed), part.id


def test_every_claim_has_its_page(ledger):
    for claim in ledger.claims:
        assert (paths.root() / "book" / f"{claim.page}.md").is_file()


def test_recorded_verdicts_fit_together_and_name_profiles(ledger):
    for claim in ledger.claims:
        for profile, verdict in claim.recorded.items():
            assert profile in profile_names()
            parts = [finding(part.recorded[profile], subclaim=part.id) for part in claim.subclaims]
            assert claims.claim_verdict(parts) == verdict


def test_unknown_claim_names_the_known_ones(ledger):
    with pytest.raises(ClaimError, match=r"'collaps'.*known: collapse"):
        ledger.claim("collaps")


# The ledger's schema: each change to a sound ledger is refused with the place, the value and what is allowed.


def changed(tmp_path, change) -> Path:
    content = yaml.safe_load((paths.configs_dir() / "claims.yaml").read_text())
    change(content)
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def first(content):
    return content["claims"][0]["subclaims"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("paper"), r"claims.yaml: 'paper' is missing"),
        (lambda c: c.update(colour=1), r"claims.yaml: unknown field colour \(known: claims, paper\)"),
        (lambda c: c.update(claims={}), r"claims must be list, got \{\}"),
        (lambda c: c["claims"].append(c["claims"][0]), r"claim 'collapse' appears more than once"),
        (lambda c: c["claims"].append(3), r"claims.yaml: entry 2: expected a mapping, got 3"),
        (lambda c: c["claims"][0].pop("statement"), r"collapse: 'statement' is missing"),
        (lambda c: c["claims"][0].update(statement=" "), r"collapse: statement is empty"),
        (lambda c: c["claims"][0].update(number=True), r"number must be int, got True"),
        (lambda c: c["claims"][0].update(written="soon"), r"written must be date, got 'soon'"),
        (lambda c: c["claims"][0].update(minimum_seeds=1), r"minimum_seeds must be at least 2, got 1"),
        (lambda c: c["claims"][0].update(subclaims=[]), r"subclaims is empty"),
        (lambda c: c["claims"][0]["subclaims"].append(first(c)), r"'entropy_twelfth' appears more than once"),
        (lambda c: first(c).update(measure="entropy"), r"no measure called 'entropy' \(known: entropy_share, "),
        (
            lambda c: first(c)["arguments"].pop("window"),
            r"takes the arguments fraction, minimum, window; got fraction, m",
        ),
        (lambda c: first(c)["arguments"].update(fraction="1/0"), r"arguments.fraction: must be a number or a fraction"),
        (lambda c: first(c)["arguments"].update(fraction=[1]), r"arguments.fraction: must be a number or a fraction"),
        (lambda c: first(c)["arguments"].update(fraction=1.5), r"fraction must lie between 0 and 1, got 1.5"),
        (lambda c: first(c)["arguments"].update(minimum=0), r"minimum must be positive, got 0"),
        (lambda c: first(c).update(criterion={}), r"criterion: needs at_least, at_most or both"),
        (lambda c: first(c).update(criterion={"above": 1}), r"criterion: unknown field above"),
        (lambda c: first(c).update(criterion={"at_least": ".inf"}), r"at_least: must be a number"),
        (lambda c: first(c).update(criterion={"at_least": 2, "at_most": 1}), r"at_least 2 is above at_most 1"),
        (lambda c: first(c).update(recorded={"cpu": "true"}), r"recorded.cpu must be one of reproduced, partly, "),
        (lambda c: first(c).update(recorded={"cpu": "partly"}), r"a sub-claim cannot be recorded as partly"),
        (lambda c: first(c).update(printed="73 %"), r"printed must be int or float or null, got '73 %'"),
    ],
)
def test_unsound_ledgers_are_refused(tmp_path, change, message):
    with pytest.raises(ClaimError, match=message):
        claims.load_ledger(changed(tmp_path, change))


def test_ledgers_that_cannot_be_read(tmp_path):
    with pytest.raises(ClaimError, match=r"none.yaml: cannot read the claims ledger \(No such file"):
        claims.load_ledger(tmp_path / "none.yaml")
    path = tmp_path / "claims.yaml"
    path.write_text("claims: [")
    with pytest.raises(ClaimError, match=r"claims\.yaml: not valid YAML"):
        claims.load_ledger(path)
    path.write_text("")
    with pytest.raises(ClaimError, match="expected a mapping, got None"):
        claims.load_ledger(path)


# Curves and measures, on runs whose numbers follow by hand.


def test_entropy_is_averaged_over_a_rollouts_updates(make_run):
    run = make_run(steps=6, updates_per_rollout=4, entropy=lambda x: np.array([4.0, 0, 2, 2, 1, 3]))
    curve = claims.entropy_curve(run)
    # rollouts of steps 1-4 and 5-6: means 2 and 2, after (0+1+2+3)/4 = 1.5 and (4+5)/2 = 4.5 updates
    assert curve["entropy"].tolist() == [2, 2]
    assert curve["step"].tolist() == [1.5, 4.5]


@pytest.fixture
def straight(make_run):
    """24 steps of one update a rollout: entropy falls evenly from 1; accuracy rises from 0.2 to 0.8 by a third."""
    return make_run(
        steps=24,
        updates_per_rollout=1,
        eval_every=4,
        entropy=lambda x: 1 - x,
        accuracy=lambda x: 0.2 + 0.6 * np.minimum(1, 3 * x),
    )


def test_entropy_share_of_an_even_fall(straight):
    # The end is the mean over steps 23 to 24, where the last value, 1/24, holds: the whole fall is 23/24.
    # At 1/3 of training, step 8, entropy is 2/3: (1 - 2/3) / (23/24) = 8/23.
    share = claims.entropy_share(straight, fraction=1 / 3, window=1 / 24, minimum=0.05)
    assert share == pytest.approx(8 / 23)
    assert claims.entropy_left(straight, window=1 / 24) == pytest.approx(1 / 24)


def test_gain_share_with_a_kink(straight):
    # At 1/12, step 2: between evaluations 0 (0.2) and 4 (0.5), so 0.35; (0.35 - 0.2) / 0.6 = 0.25.
    assert claims.gain_share(straight, fraction=1 / 12, window=1 / 24, minimum=0.05) == pytest.approx(0.25)
    # At 1/3, step 8, over 7.5 to 8.5: means 0.78125 and 0.8 over half a step each, 0.790625; 0.590625 / 0.6.
    assert claims.gain_share(straight, fraction=1 / 3, window=1 / 24, minimum=0.05) == pytest.approx(0.984375)
    assert claims.late_gain(straight, fraction=1 / 3, window=1 / 24, minimum=0.05) == pytest.approx(0)


def test_a_fall_that_happens_at_once_is_wholly_over(make_run):
    run = make_run(updates_per_rollout=1, entropy=lambda x: np.where(x == 0, 0.5, 0.0))
    assert claims.entropy_share(run, fraction=1 / 12, window=1 / 24, minimum=0.05) == pytest.approx(1)
    assert claims.entropy_left(run, window=1 / 24) == 0


def test_a_late_gain_is_late(make_run):
    run = make_run(accuracy=lambda x: 0.3 + 0.4 * (x > 0.8))
    assert claims.late_gain(run, fraction=1 / 3, window=1 / 24, minimum=0.05) == pytest.approx(1)


@pytest.mark.parametrize(
    ("measure", "curve", "message"),
    [
        ("gain_share", {"accuracy": lambda x: 0.5 + 0 * x}, r"accuracy gained 0.000, less than 0.05"),
        ("gain_share", {"accuracy": lambda x: 0.5 - 0.2 * x}, r"accuracy gained -0.196, less than 0.05"),
        ("late_gain", {"accuracy": lambda x: 0.5 + 0.04 * x}, r"accuracy gained 0.039, less than 0.05"),
        ("entropy_share", {"entropy": lambda x: 0.3 + 0.1 * x}, r"entropy fell by -0.\d+ nat, less than 0.05"),
    ],
)
def test_runs_without_an_effect_have_no_share(make_run, measure, curve, message):
    with pytest.raises(NoEffect, match=message):
        claims.MEASURES[measure](make_run(**curve), fraction=1 / 3, window=1 / 24, minimum=0.05)


def test_a_base_policy_without_entropy_has_nothing_to_keep(make_run):
    with pytest.raises(NoEffect, match=r"base policy's entropy is 0\.000 nat"):
        claims.entropy_left(make_run(entropy=np.zeros_like), window=1 / 24)


def test_records_that_lack_a_column_or_a_number_are_named(make_run, claim):
    run = make_run(entropy=lambda x: np.where(x == 0.5, np.nan, 1 - x))
    with pytest.raises(ClaimError, match=r"grpo-seed0: entropy/response_mean is not a finite number at step 121"):
        claims.measure(claim, [run])
    renamed = run.metrics.rename(columns={"entropy/response_mean": "entropy"})
    run = dataclasses.replace(run, metrics=renamed)
    with pytest.raises(ClaimError, match=r"no column 'entropy/response_mean' \(it has step, entropy\)"):
        claims.measure(claim, [run])


# From runs to findings.


def test_measure_gives_mean_interval_and_verdict(make_run, claim):
    runs = [make_run(seed) for seed in (2, 0, 1)]
    findings = claims.measure(claim, runs)
    assert [one.subclaim for one in findings] == [part.id for part in claim.subclaims]
    one = findings[0]
    assert one.seeds == (0, 1, 2)
    assert one.n == 3
    assert one.estimate == pytest.approx(np.mean(one.values))
    # t interval of three values: 4.302653 s / sqrt(3) on either side
    half = 4.302653 * np.std(one.values, ddof=1) / np.sqrt(3)
    assert (one.low, one.high) == pytest.approx((one.estimate - half, one.estimate + half), abs=1e-6)
    assert {each.verdict for each in findings} == {R}
    assert claims.claim_verdict(findings) == R
    assert not any(each.note for each in findings)


def test_an_even_decline_is_not_reproduced(make_run, claim):
    # Each seed a little different, so that the interval has a width.
    runs = [
        make_run(
            seed,
            entropy=lambda x, s=seed: 0.5 - (0.4 + s / 100) * x,
            accuracy=lambda x, s=seed: 0.3 + (0.4 + s / 100) * x,
        )
        for seed in range(4)
    ]
    findings = claims.measure(claim, runs)
    assert {one.verdict for one in findings} == {N}
    assert claims.claim_verdict(findings) == N


def test_too_few_seeds_are_underpowered_and_said_so(make_run, claim):
    one, two = (claims.measure(claim, [make_run(seed) for seed in range(n)]) for n in (1, 2))
    assert {each.verdict for each in (*one, *two)} == {U}
    assert {each.note for each in one} == {"1 of at least 3 seeds"}
    assert {each.note for each in two} == {"2 of at least 3 seeds"}
    assert one[0].low is None
    assert one[0].high is None
    assert one[0].estimate == one[0].values[0]
    assert two[0].low < two[0].estimate < two[0].high


def test_a_seed_without_an_effect_makes_its_shares_underpowered_not_nan(make_run, claim):
    runs = [make_run(0), make_run(1), make_run(2, accuracy=lambda x: 0.4 + 0 * x)]
    found = {one.subclaim: one for one in claims.measure(claim, runs)}
    gain = found["gain_twelfth"]
    assert gain.verdict == U
    assert gain.estimate is gain.low is gain.high is None
    assert gain.values[:2] == (pytest.approx(gain.values[0]), pytest.approx(gain.values[1]))
    assert gain.values[2] is None
    assert gain.note == "no effect to take a share of (seed 2: accuracy gained 0.000, less than 0.05)"
    assert gain.ours == "no effect"
    assert found["entropy_twelfth"].verdict == R
    assert claims.claim_verdict(list(found.values())) == U


def test_other_arms_are_ignored_and_pools_must_be_pure(make_run, claim):
    runs = [make_run(0), make_run(1), make_run(2)]
    assert claims.measure(claim, [*runs, make_run(0, arm="kl_cov")]) == claims.measure(claim, runs)
    with pytest.raises(ClaimError, match="have the same seed"):
        claims.measure(claim, [*runs, make_run(1)])
    with pytest.raises(ClaimError, match="differ in more than the seed"):
        claims.measure(claim, [*runs, make_run(3, learning_rate=1e-5)])
    with pytest.raises(ClaimError, match="needs runs of arm 'grpo' and was given none"):
        claims.measure(claim, [make_run(0, arm="kl_cov")])


# Verdicts.


@pytest.mark.parametrize(
    ("criterion", "low", "high", "verdict"),
    [
        (Criterion(at_least=0.5), 0.5, 0.9, R),  # ends belong to the range
        (Criterion(at_least=0.5), 0.499, 0.9, U),
        (Criterion(at_least=0.5), 0.1, 0.5, U),
        (Criterion(at_least=0.5), 0.1, 0.499, N),
        (Criterion(at_most=0.1), -0.2, 0.1, R),
        (Criterion(at_most=0.1), 0.0, 0.2, U),
        (Criterion(at_most=0.1), 0.11, 0.2, N),
        (Criterion(0.2, 0.4), 0.25, 0.35, R),
        (Criterion(0.2, 0.4), 0.1, 0.5, U),  # wider than the range
        (Criterion(0.2, 0.4), 0.1, 0.15, N),
        (Criterion(0.2, 0.4), 0.5, 0.6, N),
    ],
)
def test_criterion_verdicts(criterion, low, high, verdict):
    assert criterion.verdict(low, high) == verdict


def test_claim_verdicts_are_what_every_outcome_of_the_underpowered_would_give():
    decided = {frozenset({R}): R, frozenset({N}): N, frozenset({R, N}): P}
    for parts in itertools.product((R, N, U), repeat=4):
        outcomes = {
            decided[frozenset(outcome)]
            for outcome in itertools.product(*((R, N) if part == U else (part,) for part in parts))
        }
        expected = outcomes.pop() if len(outcomes) == 1 else U
        assert claims.claim_verdict([finding(part) for part in parts]) == expected, parts


def test_no_findings_no_verdict():
    with pytest.raises(ValueError, match="at least one finding"):
        claims.claim_verdict([])


# Words.


@pytest.mark.parametrize(
    ("interval", "unit", "text"),
    [
        ((0.714, 0.66, 0.763), "share", "71 % (66 to 76 %)"),
        ((0.01, -0.004, 0.02), "share", "1 % (0 to 2 %)"),
        ((0.01, -0.03, 0.05), "share", "1 % (-3 to 5 %)"),
        ((0.714, None, None), "share", "71 % (no interval)"),
        ((0.5123, 0.4, 0.6), "nat", "0.512 nat (0.4 to 0.6 nat)"),
        ((None, None, None), "share", "no effect"),
    ],
)
def test_spelled_intervals(interval, unit, text):
    assert claims.spell_interval(*interval, unit) == text


def test_criteria_in_words():
    assert Criterion(at_least=0.5).text("share") == "at least 50 %"
    assert Criterion(0.1, 0.25).text("nat") == "at least 0.1 nat and at most 0.25 nat"


def test_levels_behind_the_shares(straight):
    levels = claims.describe([straight])
    assert levels["entropy_start"] == ((1.0, None, None), "nat")
    assert levels["entropy_end"][0][0] == pytest.approx(1 / 24)
    (gain, low, high), unit = claims.describe([straight, straight])["accuracy_gain"]
    assert (gain, low, high) == pytest.approx((0.6, 0.6, 0.6))
    assert unit == "share"


def test_the_table_says_why_a_finding_is_underpowered():
    rows = claims.table([finding(), finding(U, note="2 of at least 3 seeds")])
    assert rows["Verdict"].tolist() == ["reproduced", "underpowered (2 of at least 3 seeds)"]
    assert rows["Ours (95 % interval)"][0] == "70 % (60 to 80 %)"


# On disk and against the ledger.


def test_verdicts_survive_the_disk(build, make_run, claim):
    findings = claims.measure(claim, [make_run(seed) for seed in range(3)])
    path = claims.write_verdicts("smoke", findings)
    assert path == build / "smoke" / "verdicts.json"
    assert claims.read_verdicts("smoke") == findings
    before = path.read_bytes()
    claims.write_verdicts("smoke", findings)
    assert path.read_bytes() == before
    assert json.loads(before)["claims"] == {"collapse": "reproduced"}
    assert [one.name for one in path.parent.iterdir()] == ["verdicts.json"]


def test_a_failed_write_leaves_the_old_verdicts(build, claim):
    path = claims.write_verdicts("smoke", [finding()])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        claims.write_verdicts("smoke", [finding(estimate=float("nan"))])
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["verdicts.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"findings": [{}]}', '{"findings": [{"verdict": "fine"}]}'])
def test_files_that_are_no_verdicts(build, content):
    path = build / "smoke" / "verdicts.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(ClaimError, match=r"not a verdicts file .*make reproduce PROFILE=smoke"):
        claims.read_verdicts("smoke")


def test_missing_verdicts(build):
    with pytest.raises(ClaimError, match=r"no verdicts for profile 'smoke'; make them with `make reproduce"):
        claims.read_verdicts("smoke")


def test_check_names_what_moved(build, ledger):
    [claim] = ledger.claims
    recorded = [finding(U, subclaim=part.id) for part in claim.subclaims]
    claims.check_verdicts("smoke", recorded)
    claims.write_verdicts("smoke", recorded)
    claims.check_verdicts("smoke")

    moved = [dataclasses.replace(recorded[0], verdict=N), *recorded[1:]]
    with pytest.raises(ClaimError) as error:
        claims.check_verdicts("smoke", moved)
    message = str(error.value)
    assert "profile 'smoke': 1 differ from configs/claims.yaml" in message
    assert "collapse.entropy_twelfth: recorded underpowered, computed not reproduced" in message
    assert not re.search(r"collapse: recorded", message)


def test_check_names_what_is_not_recorded_and_what_was_not_computed(ledger):
    [claim] = ledger.claims
    unrecorded = [finding(U, subclaim=part.id) for part in claim.subclaims]
    with pytest.raises(ClaimError, match="collapse: recorded nothing, computed underpowered"):
        claims.check_verdicts("paper", unrecorded)
    with pytest.raises(ClaimError, match="collapse: recorded underpowered, computed nothing"):
        claims.check_verdicts("smoke", [])
