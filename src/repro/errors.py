"""Errors meant for the person at the keyboard: the message names the value and the remedy."""


class ReproError(Exception):
    """Base of every error that the command line, and a notebook too, shows as one line."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it in place of the traceback."""
        return [f"error: {' '.join(str(self).split())}"]


class ConfigError(ReproError, ValueError):
    """A setting that is unknown, of the wrong type or out of range. A ``ValueError``, as those of TRL are."""


class RecordError(ReproError):
    """A run record that is missing, damaged, stale or cannot be written."""


class BaseError(ReproError):
    """A base policy that is missing or damaged."""


class PinError(ReproError):
    """A model or data set that is not pinned, cannot be got, or is not what was pinned."""
