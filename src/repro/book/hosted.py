"""What is the default for a notebook where it is opened."""

import os
import sys

from repro import pins
from repro.claims import answered, load_ledger
from repro.errors import ReproError
from repro.pins.lock import HUB
from repro.runs.profiles import Profile, load_profile

HERE, ELSEWHERE = "colab", "cpu"


def default_profile(page: str) -> str:
    """``colab`` in a session of Colab with a GPU, for a notebook that it answers, and else ``cpu``, which has records.

    What ``colab`` takes from the Hub is pinned first where it is not yet. Says which profile it is, and why.

    Args:
        page: of the book, that the notebook measures for.
    """
    if not ("google.colab" in sys.modules or any(name.startswith("COLAB_") for name in os.environ)):
        return ELSEWHERE
    profile = load_profile(HERE)
    ledger = load_ledger()
    answers = answered(profile, ledger)
    if any(claim.page == page and claim not in answers for claim in ledger.claims):
        reason = f"profile {HERE} does not have all of this notebook's runs"
    elif not _has_gpu():
        reason = f"there is no GPU, which profile {HERE} needs: Runtime > Change runtime type"
    else:
        try:
            _pin(profile)
        except ReproError as error:
            reason = f"profile {HERE} could not be pinned: {error}"
        else:
            print(f"Profile {HERE}: {profile.description}")
            print(f'With profile = "{ELSEWHERE}" this notebook shows the recorded runs and trains nothing.')
            return HERE
    print(f"Profile {ELSEWHERE}, which shows the recorded runs: {reason}.")
    return ELSEWHERE


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _pin(profile: Profile) -> None:
    """Pin the bases and the sets of problems that a profile takes from the Hub."""
    from repro.tasks import get_task

    tasks = {config.task for config in profile.own.all_configs()}
    sets = {one.pin for task in tasks for one in getattr(get_task(task), "sets", {}).values()}
    needed = [("model", name) for name in profile.bases] + [("dataset", name) for name in sorted(sets)]
    for kind, name in needed:
        if name.startswith(HUB) and name not in pins.read(kind):
            _, _, made, _ = pins.pin(name, kind=kind)
            print(f"Pinned {name.removeprefix(HUB)} at {made.revision}.")
