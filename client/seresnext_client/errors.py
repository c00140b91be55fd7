"""What can go wrong, and the exit code that each failure ends a command with.

SeresnextError                  the base that every command line catches
├── MissingPrerequisite         an extra, a GPU or a program that the work needs is not there   4
└── SeresnextClientError
    ├── InvalidOption           an option that cannot be used as it is                          2
    ├── ImageError              an image that cannot be read, decoded or accepted               3
    ├── InvalidDataset          labeled images, or labels, that cannot be used                  3
    ├── InvalidResults          a folder that holds no results of a benchmark                   3
    ├── OutputNotWritable       a file of results that cannot be written                        2
    ├── AccuracyBelowThreshold  a model that is less accurate than was asked for                5
    ├── BenchmarkFailed         perf_analyzer could not measure                                 5
    ├── ServerUnreachable       no connection, not ready, TLS                                   6
    │   ├── ModelNotReady       the server runs, none of our models is ready                    6
    │   └── ServerTimeout       no answer in time                                               6
    └── ServerRefused           the server refused the request                                  7
        ├── ModelNotFound       it does not have the model                                      7
        ├── ModelMismatch       it takes another input, or is no image classifier           7
        ├── InvalidAnswer       what it answered is not the answer of an image classifier   7
        ├── ServerOverloaded    its queue is full, or it is shutting down                       7
        └── InvalidImageBatch   it names invalid images of the request                          7
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """The exit codes of every command of the project; 6 and 7 outrank 3."""

    BUG = 1
    USAGE = 2
    INVALID_INPUT = 3
    MISSING = 4
    CHECK_FAILED = 5
    UNREACHABLE = 6
    REFUSED = 7


class SeresnextError(Exception):
    """A failure that a user can fix; its text says what happened, where, and how to fix it."""

    exit_code: ClassVar[ExitCode] = ExitCode.BUG


class MissingPrerequisite(SeresnextError):
    """An optional package, a program, a shared library or a GPU that the work needs is not there."""

    exit_code = ExitCode.MISSING


class SeresnextClientError(SeresnextError):
    """A failure of the client."""


class InvalidOption(SeresnextClientError):
    """An option, or an argument of a function, that cannot be used as it is."""

    exit_code = ExitCode.USAGE


class ImageError(SeresnextClientError):
    """An image that cannot be read, decoded or accepted."""

    exit_code = ExitCode.INVALID_INPUT


class InvalidDataset(SeresnextClientError):
    """Labeled images that cannot be used, or whose labels cannot."""

    exit_code = ExitCode.INVALID_INPUT


class InvalidResults(SeresnextClientError):
    """A folder that holds no results of a benchmark, or results that cannot be compared."""

    exit_code = ExitCode.INVALID_INPUT


class OutputNotWritable(SeresnextClientError):
    """A file of results that cannot be written."""

    exit_code = ExitCode.USAGE


class AccuracyBelowThreshold(SeresnextClientError):
    """A model that classifies a smaller share of images correctly than was asked for."""

    exit_code = ExitCode.CHECK_FAILED


class BenchmarkFailed(SeresnextClientError):
    """perf_analyzer could not measure."""

    exit_code = ExitCode.CHECK_FAILED


class ServerUnreachable(SeresnextClientError):
    """No server answers at the address, it is not ready, or it is too slow."""

    exit_code = ExitCode.UNREACHABLE


class ServerRefused(SeresnextClientError):
    """The server refused the request."""

    exit_code = ExitCode.REFUSED


class ModelNotReady(ServerUnreachable):
    """The server runs, and none of the models that were looked for is ready."""


class ServerTimeout(ServerUnreachable):
    """No answer in time."""


class ModelNotFound(ServerRefused):
    """The server does not have the model."""


class ModelMismatch(ServerRefused):
    """The model takes another input than was sent, or is no image classifier."""


class InvalidAnswer(ServerRefused):
    """The server's answer is not the answer of an image classifier."""


class ServerOverloaded(ServerRefused):
    """The server refuses for now: its queue is full, or it is shutting down."""


class InvalidImageBatch(ServerRefused):
    """The server names invalid images of a request."""
