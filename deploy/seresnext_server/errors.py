"""What can go wrong with the embedded server, and the exit code that each failure ends the command with.

SeresnextError                  (of the client)
├── MissingPrerequisite         the server, its Python, its libpython or a GPU is not there     4
└── SeresnextServerError
    ├── PortUnavailable         a port, or an address, that cannot be listened on               2
    ├── NotWritable             a log file, or a folder for temporary files                     2
    ├── NothingToServe          a repository that is missing, empty or cannot be loaded         3
    └── ServerExited            the server ended by itself, or was never ready                  6
"""

from seresnext_client.errors import ExitCode, SeresnextError


class SeresnextServerError(SeresnextError):
    """A failure of the embedded server."""


class PortUnavailable(SeresnextServerError):
    """A port that cannot be listened on: taken, privileged, or of an address that this machine does not have."""

    exit_code = ExitCode.USAGE


class NotWritable(SeresnextServerError):
    """A log file, or a folder for temporary files, that cannot be written."""

    exit_code = ExitCode.USAGE


class NothingToServe(SeresnextServerError):
    """The repository is missing, empty, or none of its models can be loaded."""

    exit_code = ExitCode.INVALID_INPUT


class ServerExited(SeresnextServerError):
    """The server ended by itself, or was never ready."""

    exit_code = ExitCode.UNREACHABLE
