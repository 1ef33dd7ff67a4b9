"""The progress of a run: a bar in a terminal or notebook, a line every tenth of the run elsewhere."""

import sys
import time
from types import TracebackType
from typing import TextIO

from tqdm import tqdm


def _redraws(stream: TextIO) -> bool:
    """Whether a stream shows a carriage return as one: a terminal's does, and a notebook's."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return stream.isatty() or hasattr(shell, "kernel")


class Progress:
    """Shows step, entropy, accuracy and time left; a context manager whose value is called after each step."""

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self._name, self._stream = name, stream or sys.stderr
        self._live = _redraws(self._stream)
        self._bar: tqdm | None = None
        self._tenth = 0

    def __enter__(self) -> "Progress":
        self._started = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, step: int, steps: int, entropy: float, accuracy: float | None) -> None:
        """Report optimizer step ``step`` of ``steps``: entropy in nats, accuracy of the last evaluation or None."""
        measured = f"entropy {entropy:.3f}" + (f", accuracy {accuracy:.3f}" if accuracy is not None else "")
        if self._live:
            if self._bar is None:
                # The mean speed over the whole run, because evaluations make single steps slow.
                self._bar = tqdm(
                    total=steps, desc=self._name, unit="step", file=self._stream, smoothing=0, mininterval=0.5
                )
            self._bar.set_postfix_str(measured, refresh=False)
            self._bar.update(step - self._bar.n)
        elif 10 * step // steps > self._tenth:
            self._tenth = 10 * step // steps
            left = (time.monotonic() - self._started) / step * (steps - step)
            line = f"{self._name}: step {step}/{steps}, {measured}, {tqdm.format_interval(left)} left"
            print(line, file=self._stream, flush=True)
