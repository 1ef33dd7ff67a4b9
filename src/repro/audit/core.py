"""What a log says about the law R = b - a e^H of its run, and what it does not say.

`audit` reads a log, pairs entropy with score, and answers six questions, each with an interval and a sentence, or says
what is missing. Entropy is in nats per token; the score, and all that is computed of it, stays in the log's unit.

The thresholds of `VERDICTS` are those of the claims ledger; the others were tuned on the even seeds of the recorded
runs, and `benchmarks.audit_calibration` says how they do on the odd ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import scipy

from repro.analysis.intervals import Interval, stretch_mean
from repro.analysis.law import FORMS, LawFit, Trajectory, fit_law, predict_rest
from repro.audit.columns import Column, listed, recognise
from repro.audit.readers import AuditError, Log, open_logs, table_log

LEVEL = 0.95
# An interval along a run needs as many points; a log with more is averaged into windows.
FEWEST_POINTS, MOST_POINTS = 8, 64
# Points of the sigmoid.
FEWEST_HALF = 5
# The law holds where it explains as much of the variance, and no third of the run is further off than this share of the
# fitted gain. Sub-claims fit_r2 and fit_pattern of the ledger.
LEAST_R2, LARGEST_PATTERN = 0.9, 0.05
# Shares of a run's own starting entropy.
COLLAPSED, EXPLODED = 0.1, 1.5
# Intervals from part of a run are too narrow, for the form is not exact: they are widened by these.
WIDER_CEILING, WIDER_FORECAST = 2.0, 2.0
# How the fall of entropy slows: 0 for a constant rate per step, 1 for one per doubling of steps.
SLOWING = 0.85
# Above it no mean per token in nats is: no vocabulary has e^20 tokens.
MOST_ENTROPY = 20.0
# What is beyond cannot be squared, and counts as infinite.
BEYOND = 1e100
# Entropies of base policies at the start, in nats: the paper's are from 0.3 to 1.4 (Fig. 1, Fig. 11).
USUAL_START = (0.05, 3.0)
SEED = 0


@dataclass(frozen=True)
class Answer:
    """The answer to one question: a verdict in a word, a sentence, numbers with intervals; or what is missing for it.

    `values` are single numbers by name, `intervals` estimates with an interval; scores are in the log's unit.
    """

    question: str
    sentence: str
    verdict: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found in one run's log.

    `columns` are those it used, `notes` what it did to them and what looks wrong, `points` the pairs of entropy and
    score that the law is fitted to (None without a score), `curve` the entropy as logged, columns `step` and `entropy`.
    """

    name: str
    format: str
    columns: tuple[Column, ...]
    notes: tuple[str, ...]
    answers: tuple[Answer, ...]
    curve: pd.DataFrame
    points: Trajectory | None
    fit: LawFit | None
    until: float

    def answer(self, question: str) -> Answer:
        """The answer to `law`, `ceiling`, `forecast`, `state`, `groups` or `truncation`."""
        return next(answer for answer in self.answers if answer.question == question)

    @property
    def state(self) -> str:
        """`collapsing`, `collapsed`, `holding`, `exploding`, or nothing where it cannot be said."""
        return self.answer("state").verdict


def audit(source: Log | pd.DataFrame | str | Path, **options) -> Audit:
    """Audits one run's log; see `audits` for the options.

    Args:
        source: a path, a table with a row per logged row, or a `Log`.

    Raises:
        AuditError: a log that cannot be read, columns that cannot be told apart, or several runs in one file.
    """
    found = audits(source, **options)
    if len(found) > 1:
        raise AuditError(f"{source} has {len(found)} runs, {listed([one.name for one in found])}; use audits")
    return found[0]


def audits(
    source: Log | pd.DataFrame | str | Path,
    *,
    step: str | None = None,
    entropy: str | None = None,
    score: str | None = None,
    until: float | None = None,
    bits: bool = False,
) -> list[Audit]:
    """Audits every run of a log.

    Args:
        source: a path, a table with a row per logged row, or a `Log`.
        step, entropy, score: names of the columns; by default they are recognised.
        until: the step at which training is to end, for the forecast; by default twice the last one seen.
        bits: the entropy was logged in bits.

    Raises:
        AuditError: a log that cannot be read, or columns that cannot be told apart.
    """
    if isinstance(source, Log):
        logs = [source]
    elif isinstance(source, pd.DataFrame):
        logs = [table_log(source, "table")]
    else:
        logs = open_logs(source)
    return [_audit(log, {"step": step, "entropy": entropy, "score": score}, until, bits) for log in logs]


def _audit(log: Log, chosen: Mapping[str, str | None], until: float | None, bits: bool) -> Audit:
    roles = recognise(log.columns, chosen)
    if not roles["entropy"]:
        raise AuditError(f"{log.name} has no known column of entropy; name it with --entropy: {listed(log.columns)}")
    table = log.read(list(dict.fromkeys(column.name for columns in roles.values() for column in columns)))
    notes: list[str] = []
    if steps := roles["step"][0] if roles["step"] else None:
        order = table[steps.name].to_numpy()
    else:
        order = np.arange(len(table), dtype=np.float64)
        notes.append("no column of steps is known: rows are counted; name it with --step")
    curves = {
        role: [(one, _curve(order, table[one.name].to_numpy())) for one in found] for role, found in roles.items()
    }

    measured, (entropy, seen) = curves["entropy"][0]
    notes += [f"`{measured.name}`: {note}" for note in seen]
    if bits:
        entropy = entropy.assign(value=entropy["value"] * np.log(2))
        notes.append("entropy was said to be in bits and is multiplied by ln 2")
    notes += _check_entropy(log.name, measured, entropy)
    until = _horizon(until, float(entropy["step"].iloc[-1]))

    scored, score, missing = None, None, f"a column of scores; name it with --score: {listed(log.columns)}"
    if curves["score"]:
        enough = [one for one in curves["score"] if len(one[1][0]) >= FEWEST_POINTS]
        scored, (score, seen) = (enough or sorted(curves["score"], key=lambda one: -len(one[1][0])))[0]
        notes += [f"`{scored.name}`: {note}" for note in seen]
        if scored.name != curves["score"][0][0].name:
            few = curves["score"][0]
            notes.append(f"`{few[0].name}` has {len(few[1][0])} values, too few; `{scored.name}` is the score instead")
        missing = _mixed_units(scored, score["value"].to_numpy())
    points = None if missing else _pair(entropy, score)
    if points is None and not missing:
        missing = "steps with both entropy and score: there are none"
    fit, law = _law(points, missing)
    ceiling = _ceiling(points, fit, law)
    answers = [law, ceiling, _forecast(points, fit, entropy, until, ceiling.missing)]
    answers.append(_state(entropy, None if missing else score, until))
    used = [one for one in (steps, measured, scored) if one]
    for role in RIVALS:
        column, (logged, _) = curves[role][0] if curves[role] else (None, (None, ()))
        answers.append(_rival(role, logged))
        used += [column] if column else []
    curve = entropy.rename(columns={"value": "entropy"})
    return Audit(log.name, log.format, tuple(used), tuple(notes), tuple(answers), curve, points, fit, until)


def _curve(order: np.ndarray, values: np.ndarray) -> tuple[pd.DataFrame, list[str]]:
    """A column by step, columns `step` and `value`, the last value of each step; and what was done to it."""
    notes = []
    infinite = np.abs(values) > BEYOND
    if infinite.any():
        notes.append(f"{infinite.sum()} infinite values are left out")
    kept = np.isfinite(values) & ~infinite & np.isfinite(order)
    step, value = order[kept], values[kept]
    back = int((np.diff(step) < 0).sum())
    curve = pd.DataFrame({"step": step, "value": value})
    once = curve.drop_duplicates("step", keep="last").sort_values("step", ignore_index=True)
    if back or len(once) < len(curve):
        twice = len(curve) - len(once)
        notes.append(f"steps go back {back} times, {twice} values are logged again (a restart?): the last counts")
    if len(once) and order[np.isfinite(order)].max() > step.max() + 0.05 * np.ptp(step) + 1:
        last = order[np.isfinite(order)].max()
        notes.append(f"no number after step {step.max():g}, while the log goes on to {last:g} (NaN?)")
    return once, notes


def _check_entropy(name: str, column: Column, entropy: pd.DataFrame) -> list[str]:
    """What looks wrong with the entropy.

    Raises:
        AuditError: nothing there, negative steps, or values that no entropy per token in nats can have.
    """
    values = entropy["value"].to_numpy()
    if not values.size:
        raise AuditError(f"{name}: `{column.name}` has no number with a step; name others with --entropy, --step")
    if entropy["step"].iloc[0] < 0:
        raise AuditError(f"{name}: steps start at {entropy['step'].iloc[0]:g}; name a column of steps with --step")
    if values.min() < 0 or values.max() > MOST_ENTROPY:
        worst = values.min() if values.min() < 0 else values.max()
        raise AuditError(
            f"{name}: `{column.name}` is {worst:.4g} somewhere, which no mean entropy per token in nats is; is it a "
            "loss, a sum over tokens, or the wrong column? Name it with --entropy"
        )
    low, high = USUAL_START
    if low <= values[0] <= high:
        return []
    why = "is it in bits (--bits), a sum, or another quantity?" if values[0] > high else "has it collapsed before?"
    return [f"entropy starts at {values[0]:.3g}, and policies start from {low:g} to {high:g} nats per token: {why}"]


def _horizon(until: float | None, last: float) -> float:
    if until is not None and not (np.isfinite(until) and until >= last):
        raise AuditError(f"--until={until:g} is before the last step of the log, {last:g}; give a later one")
    return 2 * last if until is None else float(until)


def _mixed_units(column: Column, score: np.ndarray) -> str:
    """What is missing where a score is partly a fraction and partly percent, else nothing."""
    small, large = score[(score > 0) & (score <= 1)], score[score > 1]
    if min(small.size, large.size) < max(2, 0.05 * score.size) or not 20 < np.median(large) / np.median(small) < 500:
        return ""
    return (
        f"one unit for `{column.name}`: {small.size} of its values look like fractions (around {np.median(small):.2g}) "
        f"and {large.size} like percent (around {np.median(large):.3g})"
    )


def _pair(entropy: pd.DataFrame, score: pd.DataFrame) -> Trajectory | None:
    """Entropy and score at common steps: those of the sparser one, or windows of them where there are many.

    The denser one is averaged around each step, as far as half the way to the nearer neighbour.
    """
    sparse, dense = (entropy, score) if len(entropy) < len(score) else (score, entropy)
    if not len(sparse):
        return None
    step = sparse["step"].to_numpy()
    slack = np.median(np.diff(step)) / 2 if step.size > 1 else 0
    inside = (step >= dense["step"].iloc[0] - slack) & (step <= dense["step"].iloc[-1] + slack)
    if not inside.any():
        return None
    step = step[inside]
    half = np.minimum(np.diff(step, prepend=step[:1]), np.diff(step, append=step[-1:])) / 2
    if set(step) <= set(dense["step"]) and len(dense) < 2 * len(step):
        half[:] = 0
    around = [stretch_mean(dense["step"], dense["value"], at - h, at + h) for at, h in zip(step, half, strict=True)]
    own = sparse["value"].to_numpy()[inside]
    pairs = (around, own) if sparse is score else (own, around)
    return Trajectory(*(_windows(np.asarray(values)) for values in (step, *pairs)))


def _windows(values: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Means of neighbouring values, at most so many."""
    return np.array([part.mean() for part in np.array_split(values, min(most, len(values)))])


def _law(points: Trajectory | None, missing: str) -> tuple[LawFit | None, Answer]:
    """The fit, and whether it is one: explained variance, runs of the residuals' signs and their means by thirds."""
    if not missing and points.step.size < FEWEST_POINTS:
        missing = f"steps with both entropy and score: there are {points.step.size}, and {FEWEST_POINTS} are needed"
    if not missing and np.ptp(points.reward) == 0:
        missing = f"a score that changes: it is {points.reward[0]:g} throughout"
    if missing:
        return None, _refusal("law", missing)
    try:
        fit = fit_law(points.entropy, points.reward)
    except ValueError as error:
        return None, _refusal("law", str(error))
    first, last = fit.predict(points.entropy[[0, -1]])
    thirds = fit.diagnostics().thirds
    pattern = max(map(abs, thirds)) / max(abs(last - first), 1e-12)
    runs, expected, p = _runs_test(fit.residuals)
    verdict = "does not hold" if fit.a <= 0 or fit.r2 < 0.5 else "doubtful"
    if fit.a > 0 and fit.r2 >= LEAST_R2 and pattern <= LARGEST_PATTERN:
        verdict = "lawful"
    estimates = fit.interval(LEVEL, np.random.default_rng(SEED))
    shape = ", ".join(f"{third:+.2g}" for third in thirds)
    sentence = (
        f"R = {fit.b:.3g} - {fit.a:.3g} e^H explains {100 * fit.r2:.0f} % of the variance (rmse {fit.rmse:.2g}); mean "
        f"residuals of the thirds of the run are {shape}, {100 * pattern:.0f} % of the fitted gain at most; "
        f"{runs} runs of signs where {expected:.0f} are expected of noise (p = {p:.2g})"
    )
    values = {"r2": fit.r2, "rmse": fit.rmse, "pattern": pattern, "runs": runs, "runs_expected": expected, "runs_p": p}
    values |= dict(zip(("residual_first", "residual_middle", "residual_last"), thirds, strict=True))
    return fit, Answer("law", sentence, verdict, values, {"a": estimates.a, "b": estimates.b})


def _runs_test(residuals: np.ndarray) -> tuple[int, float, float]:
    """Runs of signs, those expected of noise, and the two-sided p (Wald and Wolfowitz, normal approximation)."""
    signs = residuals > 0
    above, n = int(signs.sum()), signs.size
    runs = 1 + int((np.diff(signs.astype(int)) != 0).sum())
    expected = 2 * above * (n - above) / n + 1
    spread = np.sqrt(max((expected - 1) * (expected - 2) / (n - 1), 0))
    return runs, expected, float(2 * scipy.stats.norm.sf(abs(runs - expected) / spread)) if spread else 1.0


def _ceiling(points: Trajectory | None, fit: LawFit | None, law: Answer) -> Answer:
    missing = law.missing
    if not missing and law.verdict == "does not hold":
        missing = "a law that holds: the score does not follow e^H in what is logged, so b - a bounds nothing"
    if missing:
        return _refusal("ceiling", missing)
    ceiling = _wider(fit.interval(LEVEL, np.random.default_rng(SEED)).ceiling, WIDER_CEILING)
    if ceiling.high - ceiling.low > 2 * np.ptp(points.reward):
        missing = "a longer stretch of falling entropy: the interval of b - a is twice as wide as all scores seen"
        return _refusal("ceiling", missing)
    now = float(_windows(points.reward, 8)[-1])
    start = float(fit.predict(points.entropy[0]))
    way = (now - start) / (ceiling.estimate - start)
    sentence = (
        f"{_range(ceiling)} at zero entropy; the run is at {now:.3g}, {ceiling.estimate - now:+.2g} from it, and "
        f"has gone {100 * way:.0f} % of the way from its start"
    )
    return Answer("ceiling", sentence, "", {"score_now": now, "way": way}, {"ceiling": ceiling})


def _forecast(
    points: Trajectory | None, fit: LawFit | None, entropy: pd.DataFrame, until: float, missing: str
) -> Answer:
    """The score at the horizon, beside what rivals say: the law at the entropy that is to come.

    Its interval has room for an entropy that stays as it is, and for one that falls on at the present rate.
    """
    if missing:
        return _refusal("forecast", missing)
    now, step, rate = _trend(entropy)
    # Entropy stays as it is, falls at the present rate but slows as runs do, or goes on at that rate.
    ahead = (0.0, _effective(step, until), until - step)
    ends = [float(min(now * np.exp(rate.estimate * steps), 3 * now)) for steps in ahead]
    spans = [fit.interval_at(end, LEVEL, np.random.default_rng(SEED)) for end in ends]
    law = spans[1]._replace(low=min(span.low for span in spans), high=max(span.high for span in spans))
    law = _wider(law, WIDER_FORECAST)
    sigmoid = float(FORMS["sigmoid in steps"](points)(np.array([until]), np.array([np.nan]))[0])
    last = float(points.reward[-1])
    errors = _backtest(points)
    sentence = (
        f"at step {until:g} {_range(law)} by the law, {last:.3g} by the last value seen, {sigmoid:.3g} by a sigmoid"
    )
    if errors:
        missed = (
            f"{errors['law']:.2g} (told its entropy), {errors['last value']:.2g} and {errors['sigmoid in steps']:.2g}"
        )
        sentence += f" in steps; fitted to the first half of what is logged they miss the rest by {missed}"
    values = {"until": until, "last_value": last, "sigmoid": sigmoid}
    values |= {f"error_{form.replace(' ', '_')}": error for form, error in errors.items()}
    return Answer("forecast", sentence, "", values, {"score": law})


def _backtest(points: Trajectory) -> dict[str, float]:
    """How far forms fitted to the first half miss the rest (RMSE); empty where that half can tell nothing."""
    half = points.step[max(points.step.size // 2, FEWEST_HALF) - 1]
    try:
        return {form: predict_rest(points, half, form).rmse for form in ("law", "last value", "sigmoid in steps")}
    except ValueError:
        return {}


def _trend(curve: pd.DataFrame) -> tuple[float, float, Interval]:
    """The level at the end of a curve, the step that it is for, and the rate of growth per step over the last third."""
    step, value = (_windows(curve[name].to_numpy()) for name in ("step", "value"))
    tail = slice(-max(len(step) // 3, 4), None)
    slope = scipy.stats.theilslopes(np.log(np.maximum(value[tail], 1e-9)), step[tail], alpha=LEVEL)
    rate = Interval(float(slope.slope), float(slope.low_slope), float(slope.high_slope), len(step[tail]), LEVEL)
    return float(_windows(value, 10)[-1]), float(_windows(step, 10)[-1]), rate


def _effective(step: float, later: float) -> float:
    """Steps at the present rate that do what the steps from one to a later one will.

    A rate that stays the same per step is an exponential, one that stays the same per doubling a power of steps; runs
    are between the two, at `SLOWING`.
    """
    return (1 - SLOWING) * (later - step) + SLOWING * max(step, 1) * np.log(max(later, 1) / max(step, 1))


def _date(step: float, share: float, rate: float) -> float:
    """The step at which a share of the starting entropy has fallen to `COLLAPSED`, infinite where it does not fall."""
    if rate >= 0 or share <= COLLAPSED:
        return step if share <= COLLAPSED else np.inf
    steps = np.log(COLLAPSED / share) / rate
    return scipy.optimize.brentq(lambda later: _effective(step, later) - steps, step, step + steps / (1 - SLOWING) + 1)


def _state(entropy: pd.DataFrame, score: pd.DataFrame | None, until: float) -> Answer:
    """Where entropy stands and goes, in shares of what it started from."""
    if len(entropy) < FEWEST_POINTS:
        missing = f"entropies: there are {len(entropy)} of them, and {FEWEST_POINTS} are needed"
        return _refusal("state", missing)
    start = float(entropy["value"].iloc[0])
    if start == 0:
        return _refusal("state", "an entropy to start from: the first one is 0")
    now, step, rate = _trend(entropy)
    share = now / start
    trend = _score_trend(score)
    date = Interval(*(_date(step, share, one) for one in rate[:3]), rate.n, LEVEL)
    if share <= COLLAPSED:
        verdict, when = "collapsed", "it is below a tenth of it"
    elif share >= EXPLODED and trend != "rising":
        verdict, when = "exploding", "it is far above it, and the score does not rise with it"
    elif date.estimate <= until and np.isfinite(date.high):
        verdict = "collapsing"
        span = f"{date.estimate:.0f} [{date.low:.0f}, {date.high:.0f}]"
        when = f"at the present rate, slowing as runs do, it is down to a tenth at step {span}"
    else:
        verdict, when = "holding", f"at the present rate, slowing as runs do, it is above a tenth at step {until:g}"
    sentence = (
        f"entropy is {now:.3g} nats, {100 * share:.0f} % of the {start:.3g} that it started from; {when}; the score is "
        f"{trend}"
    )
    values = {"start": start, "now": now, "share": share}
    intervals = {"rate": rate} | ({"date": date} if verdict == "collapsing" else {})
    return Answer("state", sentence, verdict, values, intervals)


def _score_trend(score: pd.DataFrame | None) -> str:
    """Whether the score rises, falls or is level over the last third, by a 95 % interval of its slope."""
    if score is None or len(score) < FEWEST_POINTS:
        return "not known"
    step, value = (_windows(score[name].to_numpy()) for name in ("step", "value"))
    tail = slice(-max(len(step) // 3, 4), None)
    slope = scipy.stats.theilslopes(value[tail], step[tail], alpha=LEVEL)
    return "rising" if slope.low_slope > 0 else "falling" if slope.high_slope < 0 else "level"


RIVALS = {
    "groups": (
        "groups without spread (TRL's frac_reward_zero_std)",
        "of the groups have no spread, and give no gradient",
        "a score that levels off may be a task that is solved, or never is, and not entropy that is spent",
    ),
    "truncation": (
        "truncation (TRL's completions/clipped_ratio)",
        "of the responses are cut at the length limit",
        "what is cut scores nothing, and its loss moves entropy for another reason",
    ),
}
# Shares from which a rival explanation is worth a sentence.
LARGE = {"groups": 0.5, "truncation": 0.1}


def _rival(role: str, curve: pd.DataFrame | None) -> Answer:
    what, sentence, so = RIVALS[role]
    if curve is None or not len(curve):
        return _refusal(role, f"{what} in the log")
    values = curve["value"].to_numpy()
    start, now = float(_windows(values, 10)[0]), float(_windows(values, 10)[-1])
    verdict = "large" if now >= LARGE[role] else "small"
    text = f"{100 * now:.0f} % {sentence}, from {100 * start:.0f} % at the start"
    return Answer(role, f"{text}: {so}" if verdict == "large" else text, verdict, {"start": start, "now": now})


def _refusal(question: str, missing: str) -> Answer:
    return Answer(question, f"not answered; what is missing is {missing}", missing=missing)


def _wider(interval: Interval, factor: float) -> Interval:
    low, high = (interval.estimate + factor * (end - interval.estimate) for end in (interval.low, interval.high))
    return interval._replace(low=low, high=high)


def _range(interval: Interval) -> str:
    return f"{interval.estimate:.3g} [{interval.low:.3g}, {interval.high:.3g}]"
