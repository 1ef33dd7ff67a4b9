"""The audit of anybody's run: the law, its ceiling and their doubts, from a log."""

from typing import Any

from repro.audit.core import Answer, Audit, audit, audits
from repro.audit.readers import AuditError, Log, open_logs

__all__ = ["Answer", "Audit", "AuditCallback", "AuditError", "Log", "audit", "audits", "open_logs"]


def __getattr__(name: str) -> Any:
    """`AuditCallback` on first use, because transformers take seconds."""
    if name != "AuditCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from repro.audit.callback import AuditCallback

    return AuditCallback
