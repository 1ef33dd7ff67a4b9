"""Whether a checkpoint's tensors and its model are the same set."""

from collections.abc import Collection, Mapping
from pathlib import Path

from repro.errors import BaseError


def refuse_loose(found: Mapping[str, Collection[object]], folder: Path) -> None:
    """Refuse a checkpoint with tensors that have no place in the model, or another shape, or are not there.

    Args:
        found: transformers' loading info.
        folder: where the checkpoint is.

    Raises:
        BaseError: naming the first such tensor.
    """
    for what in ("missing", "unexpected", "mismatched"):
        names = sorted(str(name) for name in found[f"{what}_keys"])
        if names:
            raise BaseError(
                f"the weights in {folder} do not fit its config.json: {len(names)} {what} tensors, such as {names[0]}; "
                "put back the files that belong together"
            )
