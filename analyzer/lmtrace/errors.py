"""What raises: a wrong setup or an input that cannot be used at all. Bad records are counted in ``troubles``."""

from __future__ import annotations


class LmtraceError(Exception):
    """Something the user can mend; the message says what, where and what to do. The command line exits with 2."""


class UsageError(LmtraceError):
    """An option, name or file argument that cannot be right."""


class CaptureError(LmtraceError):
    """A capture that cannot be read at all. The message names the byte offset or packet where it is known."""


class BindingError(LmtraceError):
    """A binding that does not fit the capture; the message names the role, the pattern and the nearest signals."""


class ConfigError(LmtraceError):
    """A configuration file that cannot be used."""
