"""Computer algebra in a process of its own, which can be ended where it does not come to an end itself.

The limits of :mod:`repro.tasks.grading.limits` keep what it is asked small, so that an answer takes milliseconds. The
limit in seconds is there for what they overlook, and is so generous that a busy machine does not reach it; where it is
reached all the same, that is what the referee says.
"""

import atexit
import contextlib
import functools
import importlib.util
import json
import os
import selectors
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from repro.errors import ConfigError

SECONDS = 30.0
"""That one comparison may take."""
STARTING = 120.0
"""Seconds that the process may take to start, which imports computer algebra."""
UNDECIDED = "undecided"


def require() -> None:
    """Check that the library is there that answers are compared by.

    Raises:
        ConfigError: where it is not, with the command that installs it.
    """
    if importlib.util.find_spec("math_verify") is None:
        raise ConfigError(
            "answers in mathematics are compared by math-verify, which is not installed: "
            "`pip install 'math-verify>=0.9,<0.10'` installs it"
        )


class Referee:
    """Says whether two answers are equal as mathematics.

    Args:
        seconds: that one comparison may take.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def equal(self, answer: str, gold: str) -> bool | str:
        """True or False; ``undecided`` where time or memory did not suffice.

        Raises:
            ConfigError: where math-verify is not installed.
        """
        with self._lock:
            if self._process is None:
                self._process = self._start()
            verdict = self._ask(json.dumps([answer, gold]), self.seconds)
            if isinstance(verdict, bool):
                return verdict
            # After a lack of memory, too, only a new process is as good as new.
            self.close()
            return UNDECIDED

    def close(self) -> None:
        """End the process; the next question starts another one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):  # of a question that it did not read
                process.stdin.close()

    def _start(self) -> subprocess.Popen[str]:
        require()
        package = Path(__file__).resolve().parents[3]
        path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "repro.tasks.grading.worker"],
            env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        if self._answer(STARTING) != "ready":
            self.close()
            raise ConfigError(
                "the process that compares answers does not start: see what `python -m repro.tasks.grading.worker` says"
            )
        return self._process

    def _ask(self, question: str, seconds: float) -> Any:
        try:
            self._process.stdin.write(question + "\n")
        except BrokenPipeError:
            return None
        return self._answer(seconds)

    def _answer(self, seconds: float) -> Any:
        """The next line, or None where none came in time."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            if not ready.select(seconds):
                return None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None


@functools.cache
def referee() -> Referee:
    """The referee of this process."""
    made = Referee()
    atexit.register(made.close)
    return made


# A forked process must not share the pipes of its parent.
os.register_at_fork(after_in_child=referee.cache_clear)
