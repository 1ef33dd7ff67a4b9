"""The audits that the book works through, as `repro audit` prints them."""

from dataclasses import replace

from repro import paper
from repro.audit import Log, audits, readers, report
from repro.runs import Run


def worked(run: Run) -> dict[str, str]:
    """Fragments `audit-paper.md`, of the paper's baselines side by side, and `audit-ours.md`, of a run."""
    tables = readers.table_log(run.metrics, "metrics"), readers.table_log(run.evaluations, "evaluations")
    ours = readers.record_log(run.name, *tables)
    return {
        "audit-paper.md": _console("paper-32B.csv paper-7B.csv", baseline("32B"), baseline("7B")),
        "audit-ours.md": _console(f"build/runs/{run.name}", ours),
    }


def baseline(size: str) -> Log:
    """The paper's GRPO baseline of a size where it was validated, as a CSV of it would be read."""
    return replace(readers.table_log(paper.read_validations(size, "GRPO"), f"paper-{size}"), format="CSV")


def _console(arguments: str, *logs: Log) -> str:
    found = [one for log in logs for one in audits(log)]
    return f"```text\n$ repro audit {arguments}\n{report.as_text(found)}\n```\n"
