"""The Hub, asked through huggingface_hub, whose variables hold: ``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN`` and more."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from repro.errors import PinError
from repro.pins.lock import Kind, Pin

KINDS: tuple[Kind, ...] = ("model", "dataset")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Listing:
    """A repository at a revision.

    Args:
        revision: the full commit.
        sha256: of each file where the Hub knows it, as it does of large ones; None for the others.
        stored: what most of a model's weights are stored in, as ``BF16``; None where the Hub does not say.
    """

    revision: str
    sha256: Mapping[str, str | None]
    stored: str | None


def listing(repository: str, kind: Kind | None, revision: str | None) -> tuple[Kind, Listing]:
    """What a repository has, and of which kind it is.

    Raises:
        PinError: when there is none of that kind, both kinds have the name, or the Hub does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api = HfApi(endpoint=_endpoint())
    found: dict[Kind, Any] = {}
    for one in KINDS if kind is None else (kind,):
        try:
            found[one] = _asked(
                repository,
                lambda one=one: api.repo_info(repository, repo_type=one, revision=revision, files_metadata=True),
            )
        except RepositoryNotFoundError:
            continue
    if not found:
        raise PinError(
            f"the Hub has no {kind or 'model or data set'} {repository!r} that you may read; correct the name, or log "
            "in with `hf auth login` where it is private or its licence has to be accepted"
        )
    if len(found) > 1:
        raise PinError(f"{repository!r} is a model and a data set on the Hub; pass --kind model or --kind dataset")
    ((kind, info),) = found.items()
    sizes = getattr(getattr(info, "safetensors", None), "parameters", None) or {}
    checksums = {one.rfilename: one.lfs.sha256 if one.lfs else None for one in info.siblings}
    return kind, Listing(info.sha, checksums, max(sizes, key=sizes.get, default=None))


def download(repository: str, kind: Kind, revision: str, name: str) -> Path:
    """One file, from the cache where it is there."""
    from huggingface_hub import hf_hub_download

    return Path(
        _asked(
            repository,
            lambda: hf_hub_download(repository, name, repo_type=kind, revision=revision, endpoint=_endpoint()),
        )
    )


def snapshot(repository: str, kind: Kind, pin: Pin) -> Path:
    """The folder with a pin's files, downloaded where they are not in the cache."""
    from huggingface_hub import snapshot_download

    return Path(
        _asked(
            repository,
            lambda: snapshot_download(
                repository, repo_type=kind, revision=pin.revision, allow_patterns=list(pin.files), endpoint=_endpoint()
            ),
        )
    )


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _asked(repository: str, ask: Callable[[], Answer]) -> Answer:
    """An answer of the Hub, its refusals in one line."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return ask()
    except RepositoryNotFoundError:
        raise
    except Exception as error:  # of the Hub, of the network below it, of the disk
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PinError(
            f"cannot get {repository!r} from the Hub ({type(error).__name__}: {reason}); check name and revision, "
            "connect to the network, or pin a folder that holds it"
        ) from error
