"""Where the time of a run goes."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Seconds by phase. Phases nest; the time of an inner one is not counted in the outer one."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running: list[str] = []
        self._since = 0.0

    def _lap(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def state_dict(self) -> dict[str, float]:
        """Seconds by phase until now."""
        self._lap()
        return dict(self.seconds)

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on counting from those seconds; what was counted here so far is added."""
        self.seconds.update(state)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self._lap()
        self._running.append(phase)
        try:
            yield
        finally:
            self._lap()
            self._running.pop()
