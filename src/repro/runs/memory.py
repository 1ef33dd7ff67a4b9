"""The memory of a process that trains one run after the other."""

import atexit
import ctypes
import functools
import gc
import platform

# Parameters of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MOST = 2**31 - 1


@functools.cache
def settle() -> None:
    """Keep what is freed, and what is imported out of garbage collection; numbers stay the same to the bit.

    A step frees its activations and asks for as much again. glibc gives large blocks back to the system at once, and to
    touch new ones is work for it every time. A run's one full collection looks through all of torch, transformers and
    TRL, which shows where a run is short.
    """
    import repro.runs.training  # noqa: F401

    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, MOST)
    gc.freeze()
    # Extensions count at the end what was not collected, and complain.
    atexit.register(gc.unfreeze)
