"""What can go wrong while a server starts, and the exit code each failure ends the command with.

SeresnextError (of the client)
└── SeresnextServerError
    ├── PortTaken               another program listens there                           2
    ├── NothingToServe          a repository that is missing, empty or cannot be loaded  3
    ├── MissingPrerequisite     the server, its Python, its libpython or a GPU          4
    └── ServerDied              the server ended by itself                              6
"""

from seresnext_client.errors import ExitCode, SeresnextError


class SeresnextServerError(SeresnextError):
    """A failure of the embedded server."""


class PortTaken(SeresnextServerError):
    """Another program listens on a port that was asked for."""

    exit_code = ExitCode.USAGE


class NothingToServe(SeresnextServerError):
    """The repository is missing, empty, or none of its models can be loaded."""

    exit_code = ExitCode.UNUSABLE_INPUT


class MissingPrerequisite(SeresnextServerError):
    """The server, a Python that it runs on, that Python's shared library, or a GPU is not there."""

    exit_code = ExitCode.MISSING


class ServerDied(SeresnextServerError):
    """The server ended by itself, or was never ready."""

    exit_code = ExitCode.UNREACHABLE
