"""The header of a TensorRT plan, read without TensorRT and without a GPU."""

import struct
from dataclasses import dataclass
from pathlib import Path

from seresnext_export.errors import InvalidRepository

# As trtexec --getPlanVersionOnly reads it: https://github.com/NVIDIA/TensorRT, samples/common/sampleEngines.cpp
HEADER = struct.Struct("<II16x4B")
TAG, SERIALIZATION = 0x74727466, 0  # "ftrt", and the only layout so far


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A version of TensorRT."""

    major: int
    minor: int
    patch: int
    build: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def is_release_of(self, server: "Version") -> bool:
        """Return whether a server with TensorRT `server` loads a plan of this version: only the same release does."""
        return (self.major, self.minor, self.patch) == (server.major, server.minor, server.patch)

    def is_compatible_with(self, server: "Version") -> bool:
        """Return whether a server with TensorRT `server` loads a version-compatible plan: later minor versions do.

        Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html#version-compatibility
        """
        return self.major == server.major and self <= server


def parse(text: str) -> Version:
    """Return the version in `11.2.1` or `11.2.1.2`."""
    return Version(*(int(part) for part in text.split(".")[:4]))


def version(path: Path) -> Version:
    """Return the TensorRT that built a plan; raises InvalidRepository for a file that is not a plan."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER.size)
    except OSError as error:
        raise InvalidRepository(f"cannot read {path}: {error.strerror}") from error
    if len(header) < HEADER.size:
        raise InvalidRepository(f"{path} is not a TensorRT plan: it has {len(header)} bytes")
    tag, serialization, *parts = HEADER.unpack(header)
    if (tag, serialization) != (TAG, SERIALIZATION):
        raise InvalidRepository(f"{path} is not a TensorRT plan: it begins with {header[:8].hex(' ')}")
    return Version(*parts)
