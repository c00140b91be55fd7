"""What can go wrong while a repository is built, and the exit code each failure ends the command with.

SeresnextError (of the client)
└── SeresnextExportError
    ├── UsageError              options that contradict each other                      2
    ├── UnusableCheckpoint      not there, not a checkpoint, or of another network      3
    ├── UnusablePictures        the folder of `--verify-images` holds no picture        3
    ├── UnusableRepository      a repository that cannot be read or written             3
    ├── MissingPrerequisite     an extra, a GPU or a program is not there               4
    ├── DownloadFailed          no network, a server that answers no, a full disk       5
    ├── ExportFailed            an exporter could not make what was asked for           5
    ├── Disagreement            an artefact differs from the eager network              5
    └── FaultyRepository        `check` found faults                                    5
"""

from seresnext_client.errors import ExitCode, SeresnextError


class SeresnextExportError(SeresnextError):
    """A failure of the builder."""

    exit_code = ExitCode.EXPORT_FAILED


class UsageError(SeresnextExportError):
    """Options that contradict each other."""

    exit_code = ExitCode.USAGE


class UnusableCheckpoint(SeresnextExportError):
    """A file that is not there, is no checkpoint, or holds the weights of another network."""

    exit_code = ExitCode.UNUSABLE_INPUT


class UnusablePictures(SeresnextExportError):
    """No picture to verify with."""

    exit_code = ExitCode.UNUSABLE_INPUT


class UnusableRepository(SeresnextExportError):
    """A model repository that cannot be read or written."""

    exit_code = ExitCode.UNUSABLE_INPUT


class MissingPrerequisite(SeresnextExportError):
    """An optional package, a GPU or a program that the request needs is not there."""

    exit_code = ExitCode.MISSING


class DownloadFailed(SeresnextExportError):
    """The checkpoint could not be fetched or stored."""


class ExportFailed(SeresnextExportError):
    """An exporter could not make what was asked for."""


class Disagreement(SeresnextExportError):
    """An artefact does not answer as the eager network does."""


class FaultyRepository(SeresnextExportError):
    """The repository has faults that a server would stumble over."""
