"""Breaks the code in small ways, one at a time, and tells whether a test notices.

    make mutants [ARGS="WORD ..."]

The mutants are in ``tests/mutants.py``; words choose those whose file or description has one of them. All happens in a
copy of the repository. The tests must pass there first, unbroken; then each mutant's tests run in a process of their
own, forked from one that has the libraries loaded already. A mutant is caught where a test fails, or runs for too long.
Exits with 1 where a mutant survives, and with 2 where nothing could be learnt: a text to replace does not occur exactly
once, the unbroken tests fail, or a mutant's tests cannot be run.
"""

import contextlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ["peft", "scipy.optimize", "scipy.stats", "seaborn", "torch", "transformers.trainer", "trl"]
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist")
# Some of the libraries are plugins of pytest, which it would rather load itself.
OPTIONS = ["-q", "-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
BASELINE_SECONDS, MUTANT_SECONDS = 1800, 300
WORDS = {pytest.ExitCode.OK: "SURVIVES", pytest.ExitCode.TESTS_FAILED: "caught", None: "too long"}


def drifted(mutants: Sequence[Mutant], root: Path) -> list[str]:
    """The mutants whose text does not occur exactly once, or whose tests are not there, a line each."""
    complaints = []
    for mutant in mutants:
        path = root / "src" / "repro" / mutant.file
        count = path.read_text(encoding="utf-8").count(mutant.old) if path.is_file() else 0
        if count != 1:
            complaints.append(f"{mutant.what}: {mutant.old!r} occurs {count} times in {mutant.file}")
        gone = [test for test in mutant.tests if not (root / test.split("::")[0]).exists()]
        if gone or not mutant.tests:
            complaints.append(f"{mutant.what}: no tests {', '.join(gone)}")
    return complaints


@contextlib.contextmanager
def broken(mutant: Mutant, root: Path) -> Iterator[None]:
    """Break the code in a folder, and mend it again."""
    path = root / "src" / "repro" / mutant.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


def run(tests: Sequence[str], root: Path, seconds: float) -> tuple[int | None, str]:
    """Exit status and output of pytest on tests in a folder, in a process of its own; None where it took longer."""
    log = root / "log"
    # Forked, not spawned: importing torch and TRL takes longer than most of the tests.
    process = multiprocessing.get_context("forkserver").Process(target=_pytest, args=(tests, root, log))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None, ""
    return process.exitcode, log.read_text(encoding="utf-8")


def _pytest(tests: Sequence[str], root: Path, log: Path) -> None:
    os.chdir(root)
    os.environ |= {"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        status = pytest.main([*OPTIONS, *tests])
    except Exception:
        # Python would exit with 1, as if a test had failed.
        traceback.print_exc()
        status = pytest.ExitCode.INTERNAL_ERROR
    sys.exit(status)


def judge(mutants: Sequence[Mutant], root: Path) -> int:
    """Run the tests on the code as it is and on each mutant, and print a table.

    Returns:
        What to exit with.
    """
    if complaints := drifted(mutants, root):
        print(*complaints, sep="\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(root, copy, ignore=NOT_COPIED)
        begun = time.monotonic()
        status, output = run(list(dict.fromkeys(test for one in mutants for test in one.tests)), copy, BASELINE_SECONDS)
        if status != pytest.ExitCode.OK:
            print(output[-4000:], "the tests fail, or take too long, although nothing is broken", sep="\n")
            return 2
        print(f"     unbroken  {time.monotonic() - begun:4.0f} s  all tests pass", flush=True)
        survivors = 0
        for number, mutant in enumerate(mutants, 1):
            begun = time.monotonic()
            with broken(mutant, copy):
                status, output = run(mutant.tests, copy, MUTANT_SECONDS)
            if status not in WORDS:
                print(output[-4000:], f"{mutant.what}: the tests cannot be run", sep="\n")
                return 2
            survivors += status == pytest.ExitCode.OK
            taken = time.monotonic() - begun
            print(f"{number:3}  {WORDS[status]:8}  {taken:4.0f} s  {mutant.file:24}  {mutant.what}", flush=True)
    print(f"{survivors} of {len(mutants)} survive")
    return int(survivors > 0)


def main(chosen: Sequence[str]) -> int:
    """Judge all mutants, or those whose file or description has one of these words."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(LIBRARIES)
    mutants = [one for one in MUTANTS if not chosen or any(word in f"{one.file} {one.what}" for word in chosen)]
    if not mutants:
        print(f"no mutant has {' or '.join(chosen)} in its file or description; tests/mutants.py has them all")
        return 2
    return judge(mutants, ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
