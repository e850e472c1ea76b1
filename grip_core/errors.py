"""Mistakes a user can make, told in one line: the rule, the value found, what to do."""

from __future__ import annotations


class UserError(Exception):
    """Shown without a traceback; the process exits with code 2."""


class ServerLost(UserError):
    """The process that holds the VLM has gone: no fault of whatever was asking it."""
