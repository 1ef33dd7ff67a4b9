"""The study's primary numbers agree with a second computation that shares no code with it."""

from pathlib import Path

import numpy as np
import pytest

from repro import claims
from tests import recomputation


@pytest.fixture(scope="module")
def findings():
    return {f"{one.claim}/{one.subclaim}": one for one in claims.measure_profile("cpu", made=False)}


def test_the_primary_numbers_are_those_of_the_parquet_files(findings):
    again = dict(recomputation.primary())
    ledger = {f"{claim.id}/{claim.primary}" for claim in claims.load_ledger().claims}
    assert set(again) <= ledger
    for name, values in again.items():
        assert findings[name].values == pytest.approx(values, abs=2e-6), name
        mean, low, high = recomputation.mean_and_interval(values)
        assert (findings[name].estimate, findings[name].low, findings[name].high) == pytest.approx(
            (mean, low, high), abs=1e-5
        ), name


def test_ratios_are_those_of_the_parquet_files(findings):
    ledger = {f"{claim.id}/{claim.primary}" for claim in claims.load_ledger().claims}
    for name, gaps in recomputation.ratios():
        assert name in ledger
        again = np.exp(recomputation.mean_and_interval(gaps))
        assert (findings[name].estimate, findings[name].low, findings[name].high) == pytest.approx(again, rel=1e-5)


def test_nothing_of_the_package_is_used():
    source = Path(recomputation.__file__).read_text(encoding="utf-8")
    assert "import repro" not in source and "from repro" not in source
