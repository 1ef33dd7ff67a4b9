"""From a pinned name to its files on this machine, each with the checksum that the lock has."""

from pathlib import Path

from repro.digests import sha256
from repro.errors import PinError
from repro.pins import hub
from repro.pins.lock import HUB, Kind, get


def resolve(kind: Kind, name: str) -> Path:
    """The folder that holds a pin's files, downloaded where they are not there, and checked.

    Raises:
        PinError: when the name is not pinned, files cannot be got, or one is not what was pinned.
    """
    pin = get(kind, name)
    folder = Path(pin.folder) if pin.folder else hub.snapshot(name.removeprefix(HUB), kind, pin)
    for file, expected in pin.files.items():
        path = folder / file
        try:
            found = sha256(path)
        except OSError as error:
            raise PinError(
                f"{kind} {name!r} is pinned, and {path} cannot be read ({error.strerror}); put it back, or pin it again"
            ) from None
        if found != expected:
            raise PinError(
                f"{path} is not the file that {kind} {name!r} is pinned to (sha256 {expected[:12]}...): put that back, "
                "or pin it again, which makes other runs of it"
            )
    return folder
