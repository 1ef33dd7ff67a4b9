"""How to redo a page: its notebook to take away or to open, and the commands that train its runs and build it again."""

from collections.abc import Sequence

from repro.book import links, panels
from repro.runs import Run
from repro.runs.profiles import Profile

COLAB = "https://colab.research.google.com/github/{repository}/blob/{branch}/notebooks/{notebook}.ipynb"


def fragment(profile: Profile, notebook: str, runs: Sequence[Run], remote: str | None) -> str:
    """What stands at the end of a claim's page, in MyST.

    Args:
        profile: what this copy shows.
        notebook: name of the page's notebook, without its ending.
        runs: those that the notebook reads.
        remote: the address of the checkout's git remote, None without one; Colab opens notebooks from there.
    """
    minutes = sum(run.provenance["seconds"] for run in runs) / 60
    trained_by = sorted({profile.arms[run.config.arm].shown or profile.name for run in runs})
    training = "\n".join(f"make reproduce PROFILE={name}" for name in trained_by)
    return (
        f"{ways(notebook, remote)}. {panels.origin(runs)}\n\n"
        "From the records, without training, in a minute or two:\n\n"
        f"```bash\nmake book PROFILE={profile.name}\n```\n\n"
        f"With runs of your own, of which this page's took {minutes:.0f} minutes of one core:\n\n"
        f"```bash\n{training}\n```\n"
    )


def ways(notebook: str, remote: str | None) -> str:
    """The ways to a notebook: executed, to take away, and in Colab where there is a remote to open it from."""
    found = [
        f"{{doc}}`/notebooks/{notebook}` (executed)",
        f"{{download}}`download it </_generated/{notebook}.ipynb>`",
    ]
    if colab := _colab(notebook, remote):
        found.append(f"[open it in Colab]({colab})")
    return ", ".join(found)


def _colab(notebook: str, remote: str | None) -> str | None:
    address = links.repository(remote)
    if address is None:
        return None
    return COLAB.format(repository=address.removeprefix("https://github.com/"), branch=links.BRANCH, notebook=notebook)
