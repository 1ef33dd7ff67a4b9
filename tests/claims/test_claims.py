"""The ledger, measurements of hand-made runs, verdicts, and what is stored and checked of them."""

import dataclasses
import itertools
import json
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from repro import claims, paths
from repro.analysis.intervals import Interval
from repro.claims import ClaimError, Criterion, Finding, Kind, NoEffect, SubClaim, Verdict, curves
from repro.claims.findings import judged
from repro.claims.measures import collapse
from repro.claims.registry import Measure, per_seed, pooled
from repro.runs.profiles import profile_names

LEDGER = paths.configs_dir() / "claims"
R, N, U = Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.UNDERPOWERED


@pytest.fixture
def ledger():
    return claims.load_ledger()


@pytest.fixture
def claim(ledger):
    return ledger.claim("collapse")


def finding(verdict=R, **fields):
    values = {
        "claim": "collapse",
        "kind": Kind.CLAIM,
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


def changed_entry(entry, **fields):
    """An entry of the ledger with other fields, unchecked."""
    return entry.model_copy(update=fields)


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


def test_recorded_verdicts_name_profiles(ledger):
    for part in itertools.chain.from_iterable(claim.subclaims for claim in ledger.claims):
        assert set(part.recorded) <= set(profile_names()), part.id


def test_unknown_claim_names_the_known_ones(ledger):
    with pytest.raises(ClaimError, match=r"'collaps'.*known: collapse"):
        ledger.claim("collaps")


# The ledger's schema: each change to a sound ledger is refused with the place, the value and what is allowed.


def changed(tmp_path, change) -> Path:
    """A folder with the files of paper and claim 1, after `change` to their content together."""
    files = {name: yaml.safe_load((LEDGER / name).read_text()) for name in ("paper.yaml", "01_collapse.yaml")}
    content = files["01_collapse.yaml"] | files["paper.yaml"]
    change(content)
    parts = {"paper.yaml": {"paper"} & set(content), "01_collapse.yaml": set(content) - {"paper"}}
    for name, keys in parts.items():
        (tmp_path / name).write_text(yaml.safe_dump({key: content[key] for key in keys}))
    return tmp_path


def first(content):
    return content["claims"][0]["subclaims"][0]


def second(content):
    return content["claims"][0]["subclaims"][1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("paper"), r"paper.yaml: paper is missing"),
        (lambda c: c.update(colour=1), r"01_collapse.yaml: 'colour' is unknown; known are claims"),
        (lambda c: c.update(claims={}), r"claims=\{\} \(dict\) is not allowed; it must be a valid tuple"),
        (lambda c: c["claims"].append(c["claims"][0]), r"01_collapse.yaml: claims: 'collapse' appears more than once"),
        (
            lambda c: c["claims"].append(3),
            r"claims.2=3 \(int\) .* must be a valid dict",
        ),
        (lambda c: c["claims"][0].pop("statement"), r"01_collapse.yaml: claims.collapse.statement is missing"),
        (lambda c: c["claims"][0].update(statement=" "), r"claims.collapse.statement: is empty"),
        (
            lambda c: c["claims"][0].update(number=True),
            r"number=True \(bool\) .* must be a valid integer",
        ),
        (
            lambda c: c["claims"][0].update(written="soon"),
            r"written='soon' \(str\) .* must be a valid date",
        ),
        (
            lambda c: c["claims"][0].update(minimum_seeds=1),
            r"minimum_seeds=1 .* greater than or equal to 2",
        ),
        (lambda c: c["claims"][0].update(subclaims=[]), r"subclaims=\[\] \(list\) .* must have at least 1 item"),
        (
            lambda c: c["claims"][0]["subclaims"].append(first(c)),
            r"claims.collapse.subclaims: 'entropy_twelfth' appears more than once",
        ),
        (
            lambda c: first(c).update(measure="entropy"),
            r"subclaims.entropy_twelfth.measure: no measure called 'entropy' \(known: entropy_share, ",
        ),
        (
            lambda c: first(c)["arguments"].pop("window"),
            r"takes the arguments fraction, minimum, until, window; got fraction, m",
        ),
        (lambda c: first(c)["arguments"].update(fraction="1/0"), r"arguments: fraction must be a number or a fraction"),
        (lambda c: first(c)["arguments"].update(fraction=[1]), r"arguments: fraction must be a number or a fraction"),
        (lambda c: first(c)["arguments"].update(fraction=1.5), r"fraction must lie between 0 and 1, got 1.5"),
        (lambda c: first(c)["arguments"].update(minimum=0), r"minimum must be positive, got 0"),
        (lambda c: first(c).update(criterion={}), r"entropy_twelfth.criterion: needs at_least, at_most or both"),
        (
            lambda c: first(c).update(criterion={"above": 1}),
            r"'above' is unknown; known are at_least, at_most",
        ),
        (lambda c: first(c).update(criterion={"at_least": ".inf"}), r"criterion.at_least: must be a number"),
        (lambda c: first(c).update(criterion={"at_least": 2, "at_most": 1}), r"at_least 2 is above at_most 1"),
        (
            lambda c: first(c).update(recorded={"cpu": "true"}),
            r"claims.collapse: entropy_twelfth: recorded.cpu must be one of reproduced, not reproduced, .*, got 'true'",
        ),
        (lambda c: c.update(claims=[]), r"no claims; they stand in files such as 01_collapse.yaml"),
        (lambda c: c["claims"][0].update(kind="guess"), r"kind: must be claim or question, got 'guess'"),
        (
            lambda c: c["claims"][0].update(kind="question"),
            r"recorded.\w+ must be one of as predicted, not as predicted, underpowered, got ",
        ),
        (lambda c: c["claims"][0].pop("arm"), r"entropy_twelfth: arms is missing, and the claim has no arm"),
        (lambda c: first(c).update(arms="grpo"), r"arms='grpo' \(str\) is not allowed; it must be a valid tuple"),
        (lambda c: first(c).update(arms=[8]), r"arms.0=8 \(int\) is not allowed; it must be a valid string"),
        (lambda c: first(c).update(arms=["a", "a"]), r"arms: 'a' appears more than once"),
        (lambda c: first(c).update(arms=["a", "b"]), r"entropy_share takes 1 arms, got a, b"),
        (lambda c: first(c).update(arms=[]), r"entropy_share takes 1 arms, got none"),
        (lambda c: first(c).update(figure=""), r"figure: is empty"),
        (lambda c: c["claims"][0].update(primary="late"), r"primary='late' is no sub-claim that counts \(those are e"),
        (lambda c: c["claims"][0].update(primary="late_gain"), r"primary='late_gain' is no sub-claim that counts"),
        (lambda c: first(c).update(identity=True), r"primary='entropy_twelfth' is no sub-claim that counts"),
        (lambda c: second(c).update(follows="late_gain"), r"gain_twelfth: follows='late_gain' is no sub-claim that co"),
        (
            lambda c: second(c).update(identity=True, follows="entropy_twelfth"),
            r"gain_twelfth: has both identity and follows; give the one reason that keeps it out of the tally",
        ),
        (lambda c: second(c).update(untestable=""), r"untestable: is empty"),
        (
            lambda c: first(c).update(again="law.fit"),
            r"entropy_twelfth: again='law.fit' is not in the ledger; name a c",
        ),
        (
            lambda c: second(c).update(again="collapse.entropy_third"),
            r"again='collapse.entropy_third' is measured by entropy_share; name a claim.sub_claim measured by g",
        ),
        (lambda c: first(c).update(plotted=0.57), r"plotted=0.57 lies inside the range; leave it out where the figure"),
        (lambda c: first(c).update(minimum_bases=1), r"minimum_bases=1 .* greater than or equal to 2"),
        (lambda c: first(c).update(minimum_seeds=1), r"minimum_seeds=1 .* greater than or equal to 2"),
        (lambda c: first(c).update(changed=[{"date": date(2026, 1, 1)}]), r"changed.0.reason is missing"),
        (
            lambda c: first(c).update(printed="73 %"),
            r"printed: must be a number or a fraction .*, got '73 %'",
        ),
    ],
)
def test_unsound_ledgers_are_refused(tmp_path, change, message):
    with pytest.raises(ClaimError, match=message):
        claims.load_ledger(changed(tmp_path, change))


def test_ledgers_that_cannot_be_read(tmp_path):
    with pytest.raises(ClaimError, match=r"paper.yaml: cannot read the claims ledger \(No such file"):
        claims.load_ledger(tmp_path)
    folder = changed(tmp_path, lambda content: None)
    path = folder / "02_more.yaml"
    path.write_text("claims: [")
    with pytest.raises(ClaimError, match=r"02_more\.yaml: not valid YAML"):
        claims.load_ledger(folder)
    path.write_text("")
    with pytest.raises(ClaimError, match=r"02_more\.yaml: None .* must be a valid dictionary"):
        claims.load_ledger(folder)


def test_files_are_read_in_the_order_of_their_names(tmp_path):
    folder = changed(tmp_path, lambda content: None)
    text = (folder / "01_collapse.yaml").read_text()
    for name, claim_id in (("10_last", "last"), ("02_next", "next")):
        (folder / f"{name}.yaml").write_text(text.replace("id: collapse", f"id: {claim_id}"))
    ledger = claims.load_ledger(folder)
    assert [claim.id for claim in ledger.claims] == [
        "collapse",
        "collapse_length",
        "next",
        "next_length",
        "last",
        "last_length",
    ]
    (folder / "11_again.yaml").write_text(text)
    with pytest.raises(ClaimError, match="claims: 'collapse' appears more than once"):
        claims.load_ledger(folder)


def test_arms_and_figures_of_sub_claims(tmp_path):
    def change(content):
        content["claims"][0].update(kind="question")
        for part in content["claims"][0]["subclaims"]:
            part.update(recorded={"cpu": "not as predicted"})
        first(content).update(arms=["kl_cov"], figure="fig-one", unit="")

    claim = claims.load_ledger(changed(tmp_path, change)).claims[0]
    assert claim.kind is Kind.QUESTION
    assert claim.subclaims[0].arms == ("kl_cov",)
    assert claim.subclaims[0].figure == "fig-one"
    assert claim.subclaims[0].recorded == {"cpu": "not as predicted"}
    assert claim.subclaims[1].arms == ("grpo",)
    assert claim.subclaims[1].figure is None
    assert claim.arms == ("kl_cov", "grpo")


def test_every_figure_of_the_ledger_is_in_a_notebook(ledger):
    notebooks = "".join(path.read_text() for path in (paths.root() / "notebooks").glob("*.py"))
    for part in itertools.chain.from_iterable(claim.subclaims for claim in ledger.claims):
        assert part.figure is None or f'"name": "{part.figure}"' in notebooks, part.id


# Curves and measures, on runs whose numbers follow by hand.


def test_entropy_is_averaged_over_a_rollouts_updates(make_run):
    run = make_run(max_steps=6, steps_per_generation=4, entropy=lambda x: np.array([4.0, 0, 2, 2, 1, 3]))
    curve = curves.curve(run, "entropy")
    # rollouts of steps 1-4 and 5-6: means 2 and 2, after (0+1+2+3)/4 = 1.5 and (4+5)/2 = 4.5 updates
    assert curve["entropy"].tolist() == [2, 2]
    assert curve["step"].tolist() == [1.5, 4.5]


@pytest.fixture
def straight(make_run):
    """24 steps of one update a rollout: entropy falls evenly from 1; accuracy rises from 0.2 to 0.8 by a third."""
    return make_run(
        max_steps=24,
        steps_per_generation=1,
        eval_steps=4,
        entropy=lambda x: 1 - x,
        accuracy=lambda x: 0.2 + 0.6 * np.minimum(1, 3 * x),
    )


def test_entropy_share_of_an_even_fall(straight):
    # The end is the mean over steps 23 to 24, where the last value, 1/24, holds: the whole fall is 23/24.
    # At 1/3 of training, step 8, entropy is 2/3: (1 - 2/3) / (23/24) = 8/23.
    share = collapse.entropy_share(straight, fraction=1 / 3, window=1 / 24, minimum=0.05)
    assert share == pytest.approx(8 / 23)
    assert collapse.entropy_left(straight, window=1 / 24) == pytest.approx(1 / 24)


def test_gain_share_with_a_kink(straight):
    # At 1/12, step 2: between evaluations 0 (0.2) and 4 (0.5), so 0.35; (0.35 - 0.2) / 0.6 = 0.25.
    assert collapse.gain_share(straight, fraction=1 / 12, window=1 / 24, minimum=0.05) == pytest.approx(0.25)
    # At 1/3, step 8, over 7.5 to 8.5: means 0.78125 and 0.8 over half a step each, 0.790625; 0.590625 / 0.6.
    assert collapse.gain_share(straight, fraction=1 / 3, window=1 / 24, minimum=0.05) == pytest.approx(0.984375)
    assert collapse.late_gain(straight, fraction=1 / 3, window=1 / 24, minimum=0.05) == pytest.approx(0)


def test_a_fall_that_happens_at_once_is_wholly_over(make_run):
    run = make_run(steps_per_generation=1, entropy=lambda x: np.where(x == 0, 0.5, 0.0))
    assert collapse.entropy_share(run, fraction=1 / 12, window=1 / 24, minimum=0.05) == pytest.approx(1)
    assert collapse.entropy_left(run, window=1 / 24) == 0


def test_a_late_gain_is_late(make_run):
    run = make_run(accuracy=lambda x: 0.3 + 0.4 * (x > 0.8))
    assert collapse.late_gain(run, fraction=1 / 3, window=1 / 24, minimum=0.05) == pytest.approx(1)


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
        claims.MEASURES[measure].function(make_run(**curve), fraction=1 / 3, window=1 / 24, minimum=0.05)


def test_a_base_policy_without_entropy_has_nothing_to_keep(make_run):
    with pytest.raises(NoEffect, match=r"base policy's entropy is 0\.000 nat"):
        collapse.entropy_left(make_run(entropy=np.zeros_like), window=1 / 24)


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
    assert gain.note == "no effect to measure (seed 2: accuracy gained 0.000, less than 0.05)"
    assert gain.ours == "no effect"
    assert found["entropy_twelfth"].verdict == R


def test_other_arms_are_ignored_and_pools_must_be_pure(make_run, claim):
    runs = [make_run(0), make_run(1), make_run(2)]
    assert claims.measure(claim, [*runs, make_run(0, arm="kl_cov")]) == claims.measure(claim, runs)
    with pytest.raises(ClaimError, match="have the same seed"):
        claims.measure(claim, [*runs, make_run(1)])
    with pytest.raises(ClaimError, match="differ in more than the seed"):
        claims.measure(claim, [*runs, make_run(3, learning_rate=1e-5)])


# Measures of several arms.


@pytest.fixture
def registered(monkeypatch):
    """Lets a test register measures of its own; they are gone after it."""
    monkeypatch.setattr("repro.claims.registry.MEASURES", known := dict(claims.MEASURES))
    monkeypatch.setattr("repro.claims.findings.MEASURES", known)
    monkeypatch.setattr("repro.claims.ledger.MEASURES", known)
    return known


def asked(claim, measure, arms, **arguments):
    """Claim 1 with one sub-claim: `measure` of `arms`, at least 0.5."""
    part = changed_entry(
        claim.subclaims[0], measure=measure, arms=tuple(arms), arguments=arguments, criterion=Criterion(at_least=0.5)
    )
    return changed_entry(claim, arm=None, subclaims=(part,))


def level(value):
    """Constant entropy."""
    return lambda x: value + 0 * x


def entropy_of(run):
    return curves.end_level(run, "entropy", 1 / 24)


def test_arms_are_paired_by_seed(registered, make_run, claim):
    @per_seed
    def difference(run, other, *, factor: float):
        return factor * (entropy_of(run) - entropy_of(other))

    ours = [make_run(seed, arm="a", entropy=level(1 + seed)) for seed in (0, 1, 2, 5)]
    others = [make_run(seed, arm="b", entropy=level(seed / 2)) for seed in (7, 2, 1, 0)]
    [one] = claims.measure(asked(claim, "difference", ["a", "b"], factor=2), [*ours, *others])
    assert one.seeds == (0, 1, 2) and one.n == 3
    assert one.values == pytest.approx((2, 3, 4))
    assert one.estimate == pytest.approx(3)
    # t interval of 2, 3, 4: 4.302653 / sqrt(3) on either side
    assert one.high - one.low == pytest.approx(2 * 4.302653 / np.sqrt(3), abs=1e-5)
    assert one.verdict == R
    [swapped] = claims.measure(asked(claim, "difference", ["b", "a"], factor=2), [*ours, *others])
    assert swapped.estimate == pytest.approx(-3)
    [few] = claims.measure(asked(claim, "difference", ["a", "b"], factor=2), [*ours[:2], *others])
    assert (few.verdict, few.note) == (U, "2 of at least 3 seeds")
    [none] = claims.measure(asked(claim, "difference", ["a", "b"], factor=2), [*ours[3:], *others])
    assert (none.verdict, none.note, none.estimate, none.n) == (U, "no seed that a and b share", None, 0)


def test_pooled_measures_get_all_runs_of_each_arm(registered, make_run, claim):
    @pooled
    def sizes(*groups):
        return Interval(len(groups[0]) + len(groups[1]) / 10, 0.6, 9.0, 99, 0.95)

    runs = [make_run(seed, arm="a") for seed in range(4)] + [make_run(seed, arm="b") for seed in (2, 3, 8)]
    [one] = claims.measure(asked(claim, "sizes", ["a", "b"]), runs)
    assert (one.estimate, one.low, one.high) == (4.3, 0.6, 9)
    assert (one.n, one.seeds, one.values, one.verdict) == (3, (0, 1, 2, 3, 8), (), R)
    [few] = claims.measure(asked(claim, "sizes", ["a", "b"]), runs[:-1])
    assert (few.n, few.verdict, few.note) == (2, U, "2 of at least 3 seeds")


def test_pooled_measures_without_an_interval_or_an_effect(registered, make_run, claim):
    @pooled
    def pointless(runs):
        return Interval(0.7, None, None, 3, 0.95)

    @pooled
    def nothing(runs):
        raise NoEffect("all alike")

    runs = [make_run(seed, arm="a") for seed in range(3)]
    [one] = claims.measure(asked(claim, "pointless", ["a"]), runs)
    assert (one.estimate, one.low, one.verdict, one.note) == (0.7, None, U, "no interval")
    [one] = claims.measure(asked(claim, "nothing", ["a"]), runs)
    assert (one.estimate, one.verdict, one.note) == (None, U, "no effect to measure (all alike)")
    assert one.ours == "no effect"


def test_exact_numbers_need_no_seeds(registered, claim):
    values = {"exact": (0.5, 0.5, 0.5), "wide": (0.5, 0.4, 0.6)}

    @pooled
    def exact():
        return Interval(*values["exact"], 0, 0.95)

    @pooled
    def wide():
        return Interval(*values["wide"], 0, 0.95)

    [one] = claims.measure(asked(claim, "exact", []), [])
    assert (one.n, one.seeds, one.verdict, one.note, one.ours) == (0, (), R, "", "50 %")
    [one] = claims.measure(asked(claim, "wide", []), [])
    assert (one.verdict, one.note, one.ours) == (U, "the interval straddles the end of the range", "50 % (40 to 60 %)")


def test_a_missing_arm_is_underpowered_and_said_so(make_run, claim):
    findings = claims.measure(claim, [make_run(0, arm="kl_cov")])
    assert len(findings) == len(claim.subclaims)
    for one in findings:
        assert (one.verdict, one.note) == (U, "profile has no runs of arm grpo")
        assert (one.estimate, one.low, one.high, one.n, one.ours) == (None, None, None, 0, "not run")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_measure_that_gives_no_number_is_named(registered, make_run, claim, value):
    @per_seed
    def broken(run):
        return value

    @pooled
    def broken_end(runs):
        return Interval(1.0, value, 2.0, 1, 0.95)

    with pytest.raises(ClaimError, match=rf"collapse.entropy_twelfth: measure broken gave {value} for seed 4; it must"):
        claims.measure(asked(claim, "broken", ["a"]), [make_run(4, arm="a")])
    with pytest.raises(ClaimError, match=rf"measure broken_end gave {value} for the runs of a; it must"):
        claims.measure(asked(claim, "broken_end", ["a"]), [make_run(4, arm="a")])


def test_what_a_measure_takes_is_read_off_its_signature(registered, tmp_path):
    @pooled
    def many(*groups, quantity: str, count: int, share: float = 0.5):
        return None

    measure = claims.MEASURES["entropy_share"]
    assert (measure.arms, measure.pooled, sorted(measure.arguments)) == (
        1,
        False,
        ["fraction", "minimum", "until", "window"],
    )
    assert Measure(many, True).arms is None

    def ledger(arms, arguments):
        def change(content):
            first(content).update(measure="many", arms=arms, arguments=arguments)

        return claims.load_ledger(changed(tmp_path, change)).claims[0].subclaims[0]

    part = ledger(["a", "b", "c"], {"quantity": "entropy", "count": 3})
    assert isinstance(part, SubClaim) and part.arguments == {"quantity": "entropy", "count": 3}
    assert ledger([], {"quantity": "entropy", "count": 3, "share": "1/4"}).arguments["share"] == 0.25
    with pytest.raises(ClaimError, match=r"arguments: count must be an integer, got '3'"):
        ledger([], {"quantity": "entropy", "count": "3"})
    with pytest.raises(ClaimError, match=r"arguments: quantity must be text, got 3"):
        ledger([], {"quantity": 3, "count": 3})
    with pytest.raises(ClaimError, match=r"many takes the arguments count, quantity, share; got count"):
        ledger([], {"count": 3})

    @per_seed
    def any_arms(*runs):
        return 1.0

    with pytest.raises(ClaimError, match="any_arms is measured per seed and needs at least one arm"):
        claims.load_ledger(changed(tmp_path, lambda c: first(c).update(measure="any_arms", arms=[], arguments={})))


def test_measures_that_cannot_be_registered(registered):
    with pytest.raises(ValueError, match="two measures called late_gain; rename one"):
        per_seed(collapse.late_gain)
    with pytest.raises(TypeError, match="measure sets: argument names is annotated .*list.*; the ledger can give"):

        @pooled
        def sets(runs, *, names: list):
            return None


def test_levels_at_a_step(straight):
    # Entropy falls by 1/24 a step; the stretch around step 12 is symmetric, and that at the end is moved inside.
    assert curves.level_at(straight, "entropy", 1 / 2, 1 / 6) == pytest.approx(0.5)
    assert curves.level_at(straight, "entropy", 0, 1 / 6) == 1
    # Over steps 20 to 24: 1/6 to 1/24 evenly until 23, then 1/24.
    assert curves.end_level(straight, "entropy", 1 / 6) == pytest.approx((3 * 2.5 / 24 + 1 / 24) / 4)


def test_a_run_that_goes_on_and_one_that_ends_are_read_alike(make_run):
    def falling(steps, **fields):
        return make_run(max_steps=steps, steps_per_generation=8, entropy=lambda x: 1 - x * steps / 320, **fields)

    short, long = falling(160), falling(320)
    # Rollouts lie at 3.5, 11.5, ..., 155.5 updates made; the last of them holds until 160, whatever comes behind it:
    # over 140 to 160 there is a straight line to 155.5, whose middle is 147.75, and 4.5 steps at its value there.
    expected = 1 - (15.5 * 147.75 + 4.5 * 155.5) / 20 / 320
    assert curves.end_level(short, "entropy", 1 / 8) == pytest.approx(expected)
    assert curves.end_level(long, "entropy", 1 / 8, 160) == curves.end_level(short, "entropy", 1 / 8)
    # Nor does a rollout that the cut goes through see what is behind it: of 13 steps the second has five updates.
    assert curves.curve(long, "entropy", 13)["step"].tolist() == [3.5, 10]


def test_lengths_are_read_where_they_are_known(make_run):
    run = make_run(max_steps=16, steps_per_generation=8)
    run.metrics["completions/mean_length"] = [5.0, *[np.nan] * 7, 7.0, *[np.nan] * 7]
    curve = curves.curve(run, "length")
    assert curve["step"].tolist() == [3.5, 11.5]
    assert curve["length"].tolist() == [5, 7]
    with pytest.raises(ClaimError, match="no column 'completions/mean_length'"):
        curves.curve(make_run(0), "length")


# Verdicts.


def test_verdicts_of_questions_have_words_of_their_own():
    words = {verdict: finding(verdict, kind=Kind.QUESTION).word for verdict in Verdict}
    assert words == {R: "as predicted", N: "not as predicted", U: "underpowered"}
    assert [finding(verdict).word for verdict in Verdict] == [str(verdict) for verdict in Verdict]


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
        (Criterion(at_least=0.2, at_most=0.4), 0.25, 0.35, R),
        (Criterion(at_least=0.2, at_most=0.4), 0.1, 0.5, U),  # wider than the range
        (Criterion(at_least=0.2, at_most=0.4), 0.1, 0.15, N),
        (Criterion(at_least=0.2, at_most=0.4), 0.5, 0.6, N),
    ],
)
def test_criterion_verdicts(criterion, low, high, verdict):
    assert criterion.verdict(low, high) == verdict


def test_too_few_base_policies_are_underpowered_and_said_so(make_run, claim):
    part = changed_entry(claim.subclaims[0], minimum_bases=3)
    runs = [make_run(seed) for seed in range(3)]
    [one] = claims.measure(changed_entry(claim, subclaims=(part,)), runs)
    assert (one.verdict, one.bases, one.note) == (U, 1, "1 of at least 3 base policies an arm")
    assert one.estimate is not None
    # The arm with the fewest decides, and three are enough.
    assert judged(claim, part, dataclasses.replace(one, bases=3)).verdict == R


def test_a_sub_claim_may_need_another_number_of_seeds(make_run, claim):
    fewer = changed_entry(claim.subclaims[0], minimum_seeds=2)
    entry = changed_entry(claim, minimum_seeds=3, subclaims=(fewer, changed_entry(claim.subclaims[0], id="other")))
    own, others = claims.measure(entry, [make_run(0), make_run(1)])
    assert "seeds" not in own.note and own.n == 2
    assert others.note == "2 of at least 3 seeds"
    [one] = claims.measure(changed_entry(entry, subclaims=(fewer,)), [make_run(0)])
    assert one.note == "1 of at least 2 seeds"


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
        ((0.0123, -0.0004, 0.0251), "points", "1.2 points (0.0 to 2.5 points)"),
        ((11.96, 9.0, 14.23), "ratio", "12 x (9 to 14.2 x)"),
        ((0.5, 0.25, 0.75), "", "0.5 (0.25 to 0.75)"),
        ((0.5, 0.25, 0.75), "nat per step", "0.5 nat per step (0.25 to 0.75 nat per step)"),
        ((0.99987, 0.9996, 1.0), "", "0.99987 (0.99960 to 1)"),
        ((1.23456e-12, 1e-12, 1.0004), "nat", "1.23e-12 nat (1e-12 to 1 nat)"),
        ((1234.5, -4321.0, 2.5e7), "steps", "1234 steps (-4321 to 2.5e7 steps)"),
    ],
)
def test_spelled_intervals(interval, unit, text):
    assert claims.spell_interval(*interval, unit) == text


def test_criteria_in_words():
    assert Criterion(at_least=0.5).text("share") == "at least 50 %"
    assert Criterion(at_least=-0.027, at_most=1 / 12).text("share") == "at least -2.7 % and at most 8.33 %"
    assert Criterion(at_most=0.0135).text("points") == "at most 1.35 points"
    assert Criterion(at_most=2).text("ratio") == "at most 2 x"
    assert Criterion(at_least=0.1, at_most=0.25).text("nat") == "at least 0.1 nat and at most 0.25 nat"


def test_levels_behind_the_shares(straight):
    levels = collapse.describe([straight])
    assert levels["entropy_start"] == "1 nat (no interval)"
    assert levels["entropy_end"] == "0.0417 nat (no interval)"
    assert collapse.describe([straight, straight])["accuracy_gain"] == "60 % (60 to 60 %)"


def test_the_table_says_why_a_finding_is_underpowered(claim):
    second = finding(U, subclaim="gain_twelfth", note="2 of at least 3 seeds", n=2)
    rows = claims.table(claim, [finding(), second], {})
    assert rows["Verdict"].tolist() == ["reproduced (primary)", "underpowered (2 of at least 3 seeds)"]
    assert rows["Ours (95 % interval)"][0] == "70 % (60 to 80 %)"
    assert "Reproduced if" in rows and "Predicted" not in rows
    assert "Predicted" in claims.table(changed_entry(claim, kind=Kind.QUESTION), [finding(kind=Kind.QUESTION)], {})


# On disk and against the ledger.


def test_verdicts_survive_the_disk(build, make_run, claim):
    findings = claims.measure(claim, [make_run(seed) for seed in range(3)])
    path = claims.write_verdicts("smoke", findings)
    assert path == build / "smoke" / "verdicts.json"
    assert claims.read_verdicts("smoke") == findings
    before = path.read_bytes()
    claims.write_verdicts("smoke", findings)
    assert path.read_bytes() == before
    assert json.loads(before)["claims"] == {"collapse": "reproduced (primary); others: 4 reproduced"}
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


@pytest.fixture
def first_claim(ledger):
    """A ledger with claim 1 alone, whose sub-claims are all recorded as reproduced for `cpu`."""
    return changed_entry(ledger, claims=(ledger.claim("collapse"),))


def test_check_names_what_moved(first_claim):
    [claim] = first_claim.claims
    found = [finding(subclaim=part.id) for part in claim.subclaims]
    claims.check_verdicts("cpu", found, first_claim)
    moved = [dataclasses.replace(found[0], verdict=U), *found[1:]]
    with pytest.raises(ClaimError) as error:
        claims.check_verdicts("cpu", moved, first_claim)
    message = str(error.value)
    assert "profile 'cpu': 1 differ from configs/claims/" in message
    assert "collapse.entropy_twelfth: recorded reproduced, computed underpowered" in message


def test_check_names_what_is_not_recorded_and_what_was_not_computed(first_claim):
    [claim] = first_claim.claims
    unrecorded = [finding(U, subclaim=part.id) for part in claim.subclaims]
    with pytest.raises(ClaimError, match=r"collapse.late_gain: recorded nothing, computed underpowered"):
        claims.check_verdicts("paper", unrecorded, first_claim)
    with pytest.raises(ClaimError, match=r"collapse.late_gain: recorded reproduced, computed nothing"):
        claims.check_verdicts("cpu", [], first_claim)


def test_moved_verdicts_of_a_question_are_named_in_its_words(ledger, claim):
    part = changed_entry(claim.subclaims[0], recorded={"cpu": "as predicted"})
    question = changed_entry(claim, kind=Kind.QUESTION, subclaims=(part,))
    with pytest.raises(ClaimError, match=r"collapse.entropy_twelfth: recorded as predicted, computed not as predicted"):
        claims.check_verdicts(
            "cpu", [finding(N, kind=Kind.QUESTION)], changed_entry(claims.load_ledger(), claims=(question,))
        )


def test_each_run_of_a_profile_is_read_once(monkeypatch, make_run, claim):
    other = changed_entry(claim, id="other", subclaims=(changed_entry(claim.subclaims[0], arms=("kl",)),))
    profile = SimpleNamespace(
        claims=None,
        arms={"grpo": SimpleNamespace(shown=None)},
        configs=lambda arm: [make_run(seed, arm=arm) for seed in (0, 1)],
    )
    read = []
    monkeypatch.setattr("repro.claims.findings.load_profile", lambda name: profile)
    monkeypatch.setattr("repro.claims.findings.load", lambda config, **where: read.append(config) or config)
    findings = claims.measure_profile("small", changed_entry(claims.load_ledger(), claims=(claim, claim, other)))
    assert len(read) == 2
    # What the profile has no arm for is left out.
    assert [one.n for one in findings] == [2] * 2 * len(claim.subclaims)
