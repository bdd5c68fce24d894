"""What the exit code of `headgate` says."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; docs/cli.md explains them to users."""

    OK = 0
    UNEXPECTED = 1
    CONFIGURATION = 2
    WEIGHTS = 3
    CALL_REFUSED = 4
    CALL_FAILED = 5
    INTERRUPTED = 130


class Failure(Exception):
    """Ends the command with a message on stderr and an exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
