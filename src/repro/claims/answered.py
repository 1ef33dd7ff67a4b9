"""Which claims a profile answers: those all of whose arms it has, of the ones that it names if it names some."""

import difflib
from collections.abc import Sequence

from repro.claims.errors import ClaimError
from repro.claims.ledger import Claim, Ledger
from repro.claims.reading import load_ledger
from repro.runs.profiles import Profile, load_profile, profile_names


def answered(profile: Profile, ledger: Ledger | None = None) -> list[Claim]:
    """The ledger's entries that a profile answers, in the ledger's order.

    An entry that needs no runs comes with the others of its page, and is answered where one of those is.

    Raises:
        ClaimError: the profile names a claim that there is not, or one of whose arms it lacks.
    """
    ledger = ledger or load_ledger()
    ids = [claim.id for claim in ledger.claims]
    for name in profile.claims or ():
        if name not in ids:
            near = difflib.get_close_matches(name, ids, 1, 0)
            raise ClaimError(f"{profile.source}: claims: no claim called {name!r}; the nearest name is {near[0]}")
        if missing := [arm for arm in ledger.claim(name).arms if arm not in profile.arms]:
            raise ClaimError(
                f"{profile.source}: claims: {name} needs the arms {', '.join(missing)}, which the profile leaves out; "
                "add their groups, or leave the claim out"
            )
    named = set(ids if profile.claims is None else profile.claims)
    wanted = [one for one in ledger.claims if one.id in named and set(one.arms) <= set(profile.arms)]
    pages = {one.page for one in wanted if one.arms}
    return [one for one in wanted if one.page in pages]


def answering(entries: Sequence[Claim]) -> list[str]:
    """Names of the profiles that answer all of some entries of the project's ledger."""
    wanted = {claim.id for claim in entries}
    return [name for name in profile_names() if wanted <= {claim.id for claim in answered(load_profile(name))}]


def answers(profile: Profile) -> str:
    """What a profile answers, in a sentence."""
    ledger = load_ledger()
    found = answered(profile, ledger)
    if len(found) == len(ledger.claims):
        return f"Profile {profile.name} answers every claim and question."
    names = ", ".join(f"{one.number} ({one.id})" for one in found) or "none"
    return (
        f"Profile {profile.name} answers {len(found)} of the ledger's {len(ledger.claims)} entries: {names}. The "
        "others are left out."
    )
