"""Locks that hold between processes, on this machine's disks and on drives that several machines share.

On a disk it is the system's lock, which a process lets go of in whatever way it ends. On a network drive, where that
lock holds on one machine only or not at all, it is a lease (``filelock.SoftFileLease``): a file that its holder
refreshes, and that another may take once it has not been refreshed for ``LEASE`` seconds. So after a disconnect the
next session waits that long. A lease is weaker: a holder that was suspended for longer and wakes up is told so on
standard error, and goes on.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLease, Timeout

LEASE = 120.0
"""Seconds without a sign of life after which a lease is free."""
NETWORK = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "fuse", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs", "virtiofs")
)
"""File systems that several machines may share; any of ``fuse.*`` too, such as a mounted cloud drive."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


def on_network(path: Path) -> bool:
    """Whether a path lies on a drive that other machines may write too, as far as the system tells."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return is_network(path.resolve(), mounts)


def is_network(path: Path, mounts: list[str]) -> bool:
    """The same for lines of ``/proc/mounts``: of the mounts that a path lies under, the innermost and latest counts."""
    depth, kind = -1, ""
    for line in mounts:
        _, point, named, *_ = line.split()
        folder = Path(point.replace("\\040", " "))
        if path.is_relative_to(folder) and len(folder.parts) >= depth:
            depth, kind = len(folder.parts), named
    return kind in NETWORK or kind.startswith("fuse.")


@contextmanager
def hold(path: Path, busy: Callable[[str], None]) -> Iterator[list[int]]:
    """Hold a lock for as long as the block runs, and wait for it where another process has it.

    Args:
        path: its file, in a folder that exists.
        busy: called once with the process that has it, before the wait; it may raise instead.

    Yields:
        Descriptors for a child to inherit, with which the lock outlives this process as the child may; none of a lease.
    """
    if not on_network(path.parent):
        with path.open("a+", encoding="utf-8") as file:
            if _locked(file.fileno(), path, busy):
                file.truncate(0)
                print(os.getpid(), file=file, flush=True)
                yield [file.fileno()]
                return
    lease = SoftFileLease(
        path.with_name(f"{path.name}.lease"), lease_duration=LEASE, on_compromise=_say_lost, poll_interval=0.5
    )
    try:
        lease.acquire(timeout=0)
    except Timeout:
        busy(
            f"{lease.pid or 'unknown'}, perhaps of another machine or gone; it is free {LEASE:g} s after its last sign"
        )
        lease.acquire()
    try:
        yield []
    finally:
        lease.release()


def _locked(descriptor: int, path: Path, busy: Callable[[str], None]) -> bool:
    """Take the system's lock; False where the drive has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        busy(path.read_text(encoding="utf-8").strip() or "unknown")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _say_lost(lost: object) -> None:
    print(
        f"warning: another process may have taken over ({lost}): this one gave no sign of life for {LEASE:g} s",
        file=sys.stderr,
    )
