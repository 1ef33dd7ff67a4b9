"""Records for the repository: those of a profile, with the samples of tokens thinned to what is read of them."""

import math
import os
import shutil
from pathlib import Path

import pandas as pd

from repro.errors import ReproError
from repro.paths import checkout, results_dir
from repro.runs.profiles import Profile
from repro.runs.record import Run, fill, find, tables_of

SHORT = 20
"""Tokens of a response, on average, up to which every sampled step is kept; up to twice that, every second."""
HOW = "every n-th sampled step where responses are long; entropy and covariance of tokens at the first step only"


def keep(profile: Profile) -> list[Path]:
    """Copy the current records of a profile that lie in the build folder into the repository's ``results/``.

    Whatever a measure, figure or notebook reads stays to the bit, and so does the provenance, which gets the checksum
    of the full record. A record of the same folder that is there already is replaced; a copy that fails half-way leaves
    it as it was.

    Returns:
        The records' folders in ``results/``.

    Raises:
        ReproError: outside a checkout.
    """
    if checkout() is None:
        raise ReproError("`repro keep` needs a checkout of the repository: it adds to results/ there")
    kept = []
    for config in profile.own.all_configs():
        found = find(config)
        target = results_dir() / config.folder
        if found.status == "current" and found.path != target and target not in kept:
            draft = target.with_name(f".{config.folder}.{os.getpid()}.tmp")
            draft.mkdir(parents=True)
            try:
                _copy(Run(config, found.path), draft)
                shutil.rmtree(target, ignore_errors=True)
                draft.rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            kept.append(target)
    return kept


def _copy(run: Run, folder: Path) -> None:
    """Fill a folder with the thinned record of a run."""
    tables = {name: getattr(run, name) for name in tables_of(run.config)}
    made = dict(run.provenance)
    full = made.pop("checksum")
    fill(folder, run.config, {**tables, "tokens": thinned(run.tokens)}, {**made, "thinned": {"from": full, "how": HOW}})


def thinned(tokens: pd.DataFrame) -> pd.DataFrame:
    """A sample of tokens as `HOW` says."""
    if "covariance" not in tokens:
        return tokens
    steps = tokens["step"].unique()
    length = len(tokens) / len(tokens[["step", "sequence"]].drop_duplicates())
    tokens = tokens[tokens["step"].isin(steps[:: math.ceil(length / SHORT)])].reset_index(drop=True)
    first = tokens["step"] == steps[0]
    return tokens.assign(**{name: tokens[name].where(first) for name in ("covariance", "entropy") if name in tokens})
