"""What can go wrong while a repository is built, and the exit code that each failure ends the command with.

SeresnextError (of the client)
├── MissingPrerequisite         a package, a GPU or a program is not there (of the client)   4
└── SeresnextExportError
    ├── InvalidRequest          parts of a request that contradict each other                2
    │   └── NoCalibrationImages INT8 of trained weights without images to calibrate with     2
    ├── InvalidCheckpoint       not there, not a checkpoint, or of another network           3
    ├── NoVerificationImages    no image to verify with                                      3
    ├── InvalidRepository       a repository that cannot be read or written                  3
    ├── DownloadFailed          no network, a server that refuses, a full disk               5
    ├── ExportFailed            an exporter did not produce what was asked for               5
    └── VerificationFailed      outputs that differ from the reference outputs               5
"""

from seresnext_client.errors import ExitCode, SeresnextError


class SeresnextExportError(SeresnextError):
    """A failure of the builder."""

    exit_code = ExitCode.CHECK_FAILED


class InvalidRequest(SeresnextExportError):
    """Parts of a request that contradict each other, or a value that is not allowed."""

    exit_code = ExitCode.USAGE


class NoCalibrationImages(InvalidRequest):
    """INT8 of trained weights, and no images to calibrate with."""


class InvalidCheckpoint(SeresnextExportError):
    """A file that is not there, is not a checkpoint, or holds the weights of another network."""

    exit_code = ExitCode.INVALID_INPUT


class NoVerificationImages(SeresnextExportError):
    """No image to verify with."""

    exit_code = ExitCode.INVALID_INPUT


class InvalidRepository(SeresnextExportError):
    """A model repository that cannot be read or written."""

    exit_code = ExitCode.INVALID_INPUT


class DownloadFailed(SeresnextExportError):
    """The checkpoint could not be downloaded or stored."""


class ExportFailed(SeresnextExportError):
    """An exporter did not produce what was asked for."""


class VerificationFailed(SeresnextExportError):
    """The outputs of an artefact, or of a server, differ from the reference outputs."""
