"""Locks: one holder at a time, on disks and on drives without the system's lock, and none that a dead process keeps."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from repro.runs import locks

MOUNTS = [
    "/dev/vda / ext4 rw 0 0",
    "server:/home /home nfs4 rw,vers=4.2 0 0",
    "drive /content/my\\040drive fuse.drive rw 0 0",
    "/dev/sdb /home/me/scratch xfs rw 0 0",
    "//server/share /mnt cifs rw 0 0",
    "/dev/sdc /mnt ext4 rw 0 0",
]
# Holds a lease in the name of another machine until it is killed.
ELSEWHERE = """
import socket, sys, time
socket.gethostname = lambda: "elsewhere"
import platform
platform.node = lambda: "elsewhere"
from filelock import SoftFileLease
lease = SoftFileLease(sys.argv[1], lease_duration=float(sys.argv[2]))
lease.acquire()
print("held", flush=True)
time.sleep(20)
"""


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/var/build", False),
        ("/home/me/build", True),
        ("/home/me/scratch/build", False),
        ("/content/my drive/build", True),
        ("/content", False),
        ("/mnt/build", False),
    ],
)
def test_the_innermost_and_latest_mount_tells_a_network_drive(path, network):
    assert locks.is_network(Path(path), MOUNTS) is network


@pytest.fixture(params=["system", "network", "no locks"])
def drive(request, monkeypatch):
    """A drive with the system's lock, one of a network, and one that refuses it. Threads stand for processes."""
    monkeypatch.setattr(locks, "on_network", lambda path: request.param == "network")
    monkeypatch.setattr(locks, "LEASE", 1.0)
    if request.param == "no locks":

        def flock(*_):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(locks.fcntl, "flock", flock)
    return request.param


def test_one_holds_it_and_the_next_waits(drive, tmp_path):
    inside, most, told = [], [], []

    def work() -> None:
        with locks.hold(tmp_path / "lock", told.append):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.2)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1] and len(told) == 2
    # Who asks at once may find the holder's number not yet written.
    assert {holder.partition(",")[0] for holder in told} <= {str(os.getpid()), "unknown"}


def test_who_must_not_wait_raises(drive, tmp_path):
    def busy(holder):
        raise LookupError(holder)

    with locks.hold(tmp_path / "lock", busy) as inherited:
        assert len(inherited) == (drive == "system")
        with pytest.raises(LookupError, match=str(os.getpid())), locks.hold(tmp_path / "lock", busy):
            pass
    with locks.hold(tmp_path / "lock", busy):
        pass


def test_the_lease_of_a_machine_that_is_gone_is_free_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "on_network", lambda path: True)
    monkeypatch.setattr(locks, "LEASE", 1.0)
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "lock.lease"), "1.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        told = []

        def kill(who):
            told.append(who)
            holder.send_signal(signal.SIGKILL)

        began = time.monotonic()
        with locks.hold(tmp_path / "lock", kill):
            waited = time.monotonic() - began
    assert len(told) == 1 and "free 1 s after its last sign" in told[0]
    assert 0.5 < waited < 10


def test_an_error_that_is_not_about_locks_is_not_hidden(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"), locks.hold(tmp_path / "lock", print):
        pass
