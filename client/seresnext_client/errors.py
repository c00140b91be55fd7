"""What can go wrong, and the exit code each failure ends a command with.

SeresnextError                  the base that every command line catches
└── SeresnextClientError
    ├── UnusableImage           a picture that cannot be read or decoded            3
    ├── UnusableDataset         labelled pictures without labels, or without pictures   3
    ├── Unwritable              a file of results that cannot be written            2
    ├── LessAccurate            a model that knows less than was asked for          5
    ├── BenchmarkFailed         perf_analyzer could not measure                     5
    ├── MissingExtra            an optional package or program is not installed     4
    ├── ServerUnreachable       no connection, not ready, TLS                       6
    │   ├── ModelNotReady       the server is there, no model of ours is ready      6
    │   └── ServerTooSlow       no answer in time                                   6
    └── ServerRefused           the server answered no                              7
        ├── ModelMissing        it does not have the model                          7
        ├── ServerOverloaded    its queue is full, or it is going down              7
        └── InvalidPictures     it says what is wrong with the request              7
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


class UnusableDataset(SeresnextClientError):
    """Labelled pictures whose labels, or that themselves, cannot be used."""

    exit_code = ExitCode.UNUSABLE_INPUT


class Unwritable(SeresnextClientError):
    """A file of results that cannot be written."""

    exit_code = ExitCode.USAGE


class LessAccurate(SeresnextClientError):
    """A model that classifies fewer pictures rightly than was asked for."""

    exit_code = ExitCode.EXPORT_FAILED


class BenchmarkFailed(SeresnextClientError):
    """The program that measures could not."""

    exit_code = ExitCode.EXPORT_FAILED


class MissingExtra(SeresnextClientError):
    """An optional package or program is not installed."""

    exit_code = ExitCode.MISSING


class ServerUnreachable(SeresnextClientError):
    """No server answers there, it is not ready, or it is too slow."""

    exit_code = ExitCode.UNREACHABLE


class ServerRefused(SeresnextClientError):
    """The server answered, and the answer is no."""

    exit_code = ExitCode.REFUSED


class ModelNotReady(ServerUnreachable):
    """The server is there, and no model of ours is ready."""


class ServerTooSlow(ServerUnreachable):
    """No answer in time."""


class ModelMissing(ServerRefused):
    """The server does not have the model."""


class ServerOverloaded(ServerRefused):
    """The server refuses for now: its queue is full, or it is going down."""


class InvalidPictures(ServerRefused):
    """The server says what is wrong with the pictures of a request."""
