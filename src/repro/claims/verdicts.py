"""Verdicts beside the built book: written from findings, read again, and held against those the ledger records."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from repro import paths
from repro.claims.errors import ClaimError
from repro.claims.findings import Finding
from repro.claims.headline import headline
from repro.claims.ledger import Kind, Ledger, Verdict
from repro.claims.reading import load_ledger


def verdicts_path(profile: str) -> Path:
    """Where the verdicts of a profile are stored."""
    return paths.build_dir() / profile / "verdicts.json"


def write_verdicts(profile: str, findings: Sequence[Finding]) -> Path:
    """Write findings and the claims' headlines as JSON, atomically, and return the path.

    Same findings give the same bytes: there is no time in the file.
    """
    path = verdicts_path(profile)
    measured = {one.claim for one in findings}
    claims = {one.id: str(headline(one, findings)) for one in load_ledger().claims if one.id in measured}
    content = {
        "profile": profile,
        "claims": claims,
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        try:
            json.dump(content, file, indent=1, allow_nan=False)
            file.write("\n")
            file.close()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    return path


# What JSON does not keep of a finding's types.
_STORED_KINDS = {"kind": Kind, "verdict": Verdict, "seeds": tuple, "values": tuple}


def read_verdicts(profile: str, path: Path | None = None) -> list[Finding]:
    """The findings stored by `write_verdicts` for a profile, here or, with `path`, in a file from elsewhere.

    Raises:
        ClaimError: the file is missing, is not one that `write_verdicts` made, or is another profile's.
    """
    path = path or verdicts_path(profile)
    remedy = f"make them with `make reproduce PROFILE={profile}`"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = [
            Finding(**row | {key: kind(row[key]) for key, kind in _STORED_KINDS.items()}) for row in content["findings"]
        ]
        if content["profile"] != profile:
            raise ClaimError(f"{path}: verdicts of profile {content['profile']!r}, not of {profile!r}; name that one")
        return found
    except FileNotFoundError:
        raise ClaimError(f"{path}: no verdicts for profile {profile!r}; {remedy}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ClaimError(f"{path}: not a verdicts file ({error}); {remedy}") from error


def read_words(profile: str, path: Path) -> tuple[date, dict[tuple[str, str], str]]:
    """A study of which only the words are kept: the day of its criteria, and the words by claim and sub-claim.

    Raises:
        ClaimError: the file is not such a one, or is another profile's.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        words = {(claim, part): word for claim, parts in content["words"].items() for part, word in parts.items()}
        if content["profile"] == profile:
            return date.fromisoformat(content["date"]), words
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClaimError(f"{path}: not a file of words ({error}); it needs profile, date and words") from error
    raise ClaimError(f"{path}: words of profile {content['profile']!r}, not of {profile!r}; name that one")


def check_verdicts(profile: str, findings: Sequence[Finding], ledger: Ledger | None = None) -> None:
    """Hold the verdicts of the repository's records against those that the ledger says they have.

    It is no check of runs that were trained anew: `repro.claims.comparison` says why, and compares those.

    Args:
        profile: name of the profile.
        findings: of its records.
        ledger: the ledger of the project if None.

    Raises:
        ClaimError: names every verdict that moved, that is not recorded, or that was not computed.
    """
    ledger = ledger or load_ledger()
    moved = []
    for claim in ledger.claims:
        computed = {finding.subclaim: finding.word for finding in findings if finding.claim == claim.id}
        for part in claim.subclaims:
            recorded, word = part.recorded, computed.get(part.id)
            if recorded.get(profile) != word:
                moved.append(
                    f"{claim.id}.{part.id}: recorded {recorded.get(profile, 'nothing')}, computed {word or 'nothing'}"
                )
    if moved:
        raise ClaimError(
            f"verdicts of profile {profile!r}: {len(moved)} differ from configs/claims/ ({'; '.join(moved)}); "
            "find out why, then record what the runs say"
        )
