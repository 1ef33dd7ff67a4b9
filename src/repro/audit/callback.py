"""The audit of a run while it trains, in the trainer's own log."""

from typing import Any

import pandas as pd
from transformers import Trainer, TrainerCallback

from repro.audit.core import Audit, audit
from repro.audit.readers import AuditError
from repro.errors import ConfigError

STATES = {"collapsed": 0.0, "collapsing": 1.0, "holding": 2.0, "exploding": 3.0}


class AuditCallback(TrainerCallback):
    """Logs what an audit of the run so far says, with any trainer of transformers or TRL that logs an entropy.

        trainer = GRPOTrainer(...)
        AuditCallback.attach(trainer, every=20)
        trainer.train()

    Once in `every` logs it adds to the trainer's log, and so to what ``report_to`` names: ``audit/state`` (0 collapsed,
    1 collapsing, 2 holding, 3 exploding) and ``audit/share``, the entropy left of the start's; and where the law holds
    ``audit/ceiling`` and ``audit/forecast`` for the last step of training, with ``_low`` and ``_high``. `latest` is the
    last audit, None before there is one. Nothing else changes.

    Raises:
        ConfigError: when it is made in another way than by `attach`: transformers lets no callback add to a log.
    """

    def __init__(self, trainer: Trainer | None = None, every: int = 20, **options: Any) -> None:
        if trainer is None:
            raise ConfigError("AuditCallback made by itself cannot add to a log: call AuditCallback.attach(trainer)")
        if every < 1:
            raise ConfigError(f"every={every} is not allowed; audit once in 1 or more logs")
        self.trainer, self.every, self.options = trainer, every, options
        self.latest: Audit | None = None
        self._logs = 0

    @classmethod
    def attach(cls, trainer: Trainer, every: int = 20, **options: Any) -> "AuditCallback":
        """Watch the log of a trainer; `options` are those of `audits`.

        Raises:
            ConfigError: every < 1, or a trainer that is audited already.
        """
        if any(isinstance(one, cls) for one in trainer.callback_handler.callbacks):
            raise ConfigError(f"this {type(trainer).__name__} is audited already: attach only once")
        callback, log = cls(trainer, every, **options), trainer.log

        def audited_log(logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            log(logs | callback._metrics() if "loss" in logs else logs, *args, **kwargs)

        trainer.log = audited_log
        trainer.add_callback(callback)
        return callback

    def _metrics(self) -> dict[str, float]:
        """What to add to a log of training: mostly nothing."""
        self._logs += 1
        history = self.trainer.state.log_history
        if self._logs % self.every or not history:
            return {}
        table = pd.DataFrame([{name: row[name] for name in row if not name.startswith("audit/")} for row in history])
        try:
            self.latest = audit(table, **{"until": self.trainer.state.max_steps} | self.options)
        except AuditError:
            return {}
        return numbers(self.latest)


def numbers(found: Audit) -> dict[str, float]:
    """An audit as metrics."""
    metrics = {}
    if found.state:
        metrics |= {"audit/state": STATES[found.state], "audit/share": found.answer("state").values["share"]}
    for question, name in (("ceiling", "ceiling"), ("forecast", "score")):
        if interval := found.answer(question).intervals.get(name):
            ends = {"": interval.estimate, "_low": interval.low, "_high": interval.high}
            metrics |= {f"audit/{question}{end}": value for end, value in ends.items()}
    return metrics
