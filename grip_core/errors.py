"""Mistakes a user can make, told in one line: the rule, the value found, what to do."""

from __future__ import annotations


class UserError(Exception):
    """Shown without a traceback; the process exits with code 2."""


class BadSample(UserError):
    """One question or image that cannot be used; those beside it can."""


class ProcessLost(UserError):
    """A process that this one works with has gone: no fault of what they were at."""


class ServerLost(ProcessLost):
    """The process that holds the VLM has gone."""
