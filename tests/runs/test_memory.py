"""A process that trains keeps what it frees, and ends as quietly as any other."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import gc, resource, torch
from repro.runs import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(12_000_000)  # 48 MB, over what glibc keeps of itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
memory.settle()
faults()
print(before, faults(), gc.get_freeze_count())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_blocks_that_were_freed_are_used_again():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, after, frozen = map(int, done.stdout.split())
    assert after < before / 10
    assert frozen > 100_000
    assert "nanobind" not in done.stdout + done.stderr
