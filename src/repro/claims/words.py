"""Numbers in words: values and intervals in the ledger's units, as pages and tables show them."""

import math
from collections.abc import Sequence

from repro.analysis.intervals import over_seeds

# Units that are not shown as they are written, by their factor and their sign.
_SHARE, _POINTS, _RATIO = "share", "points", "ratio"


def spell(value: float, unit: str) -> str:
    """A value in the ledger's unit.

    Shares are whole per cents ('73 %'), points are differences of fractions ('4.5 points'), ratios are times ('12 x'),
    and anything else has three figures and its unit ('0.52 nat'), or none where the unit is empty.
    """
    return f"{_figures(value, unit)} {_sign(unit)}".rstrip()


def spell_limit(value: float, unit: str) -> str:
    """An end of a range: as `spell`, but with three figures in shares and points too, as '2.7 %' and '0.5 points'."""
    if unit in (_SHARE, _POINTS):
        return f"{100 * value:.3g} {_sign(unit)}"
    return spell(value, unit)


def spell_interval(estimate: float | None, low: float | None, high: float | None, unit: str) -> str:
    """An estimate with its interval: '71 % (66 to 76 %)', '71 % (no interval)' or 'no effect'."""
    if estimate is None:
        return "no effect"
    if low is None or high is None:
        return f"{spell(estimate, unit)} (no interval)"
    return f"{spell(estimate, unit)} ({_figures(low, unit)} to {spell(high, unit)})"


def spell_seeds(values: Sequence[float], unit: str = "") -> str:
    """Mean over seeds with its interval, as `spell_interval`; 'no effect' without a value."""
    return spell_interval(*(over_seeds(values)[:3] if len(values) else (None,) * 3), unit)


def _sign(unit: str) -> str:
    return {_SHARE: "%", _RATIO: "x"}.get(unit, unit)


def _figures(value: float, unit: str) -> str:
    if unit == _SHARE:
        return str(round(100 * value))
    if unit == _POINTS:
        # Adding 0 turns -0.0 into 0.0.
        return f"{round(100 * value, 1) + 0:.1f}"
    return _three_figures(value)


def _three_figures(value: float) -> str:
    """Three significant figures without an exponent where that is readable: '1230', '0.00045', '1.2e-12'.

    Just below 1 there are as many as it takes not to read as 1.
    """
    size = abs(value)
    if 1000 <= size < 1e6:
        return f"{value:.0f}"
    if 0.9995 <= size < 1 - 1e-6:
        return f"{value:.{1 - math.floor(math.log10(1 - size))}f}"
    mantissa, exponent, power = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(power)}" if exponent else mantissa
