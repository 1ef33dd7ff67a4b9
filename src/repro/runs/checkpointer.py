"""A run's checkpoints as it trains: the trainer's own, every so many minutes, with what the study measured so far."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from repro.runs import ranks
from repro.runs.checkpoints import PREFIX, STUDY, newest, write_json


class Stateful(Protocol):
    """A part of a run that goes on from where it was. The state is plain values, as JSON has them."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Checkpointer(TrainerCallback):
    """Asks the trainer for checkpoints, completes them, and keeps the newest.

    Args:
        folder: the trainer's output folder, whose newest whole checkpoint a run goes on from.
        seconds: between two checkpoints; the first step after so many is followed by one.
        parts: what is to go on, by name.
        now: seconds of a clock.
    """

    def __init__(
        self, folder: Path, seconds: float, parts: dict[str, Stateful], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder, self.seconds, self.parts, self._now = folder, seconds, parts, now
        self._latest = now()

    def resume(self) -> Path | None:
        """Bring the parts to where the newest checkpoint has them, and return it; None where there is none."""
        checkpoint = newest(self.folder)
        if checkpoint is not None:
            states = json.loads((checkpoint / STUDY).read_text(encoding="utf-8"))
            for name, part in self.parts.items():
                part.load_state_dict(states[name])
        return checkpoint

    def on_step_end(self, args, state, control, **_):
        if state.global_step < state.max_steps and self._now() - self._latest >= self.seconds:
            control.should_save = True
        if ranks.several():
            # Their clocks differ, and all of them have to save at one step.
            control.should_save = ranks.same(control.should_save)

    def on_save(self, args, state, control, **_):
        if ranks.several():
            # A checkpoint is whole once every process has written its part.
            ranks.wait()
            self._latest = self._now()
            if not ranks.first():
                return
        checkpoint = self.folder / f"{PREFIX}{state.global_step}"
        write_json(checkpoint / STUDY, {name: part.state_dict() for name, part in self.parts.items()})
        for older in self.folder.glob(f"{PREFIX}*"):
            if older != checkpoint:
                shutil.rmtree(older)
        self._latest = self._now()
