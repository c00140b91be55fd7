"""What can go wrong, and the exit code each failure ends a command with.

SeresnextError                  the base that every command line catches
└── SeresnextClientError
    ├── UnusableImage           a picture that cannot be read or decoded            3
    ├── MissingExtra            an optional package or program is not installed     4
    ├── ServerUnreachable       no connection, not ready, too slow, TLS             6
    └── ServerRefused           the server answered no                              7
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """The exit codes of every command of the project; 6 and 7 outrank 3."""

    DONE = 0
    BUG = 1
    USAGE = 2
    UNUSABLE_INPUT = 3
    MISSING = 4
    EXPORT_FAILED = 5
    UNREACHABLE = 6
    REFUSED = 7


class SeresnextError(Exception):
    """A failure that a user can mend; its text says what, where and what to do."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG


class SeresnextClientError(SeresnextError):
    """A failure of the client."""


class UnusableImage(SeresnextClientError):
    """A picture that cannot be read, decoded or accepted."""

    exit_code = ExitCode.UNUSABLE_INPUT


class MissingExtra(SeresnextClientError):
    """An optional package or program is not installed."""

    exit_code = ExitCode.MISSING


class ServerUnreachable(SeresnextClientError):
    """No server answers there, it is not ready, or it is too slow."""

    exit_code = ExitCode.UNREACHABLE


class ServerRefused(SeresnextClientError):
    """The server answered, and the answer is no."""

    exit_code = ExitCode.REFUSED
