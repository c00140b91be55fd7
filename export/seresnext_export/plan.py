"""What the first bytes of a TensorRT plan say, read without TensorRT and without a GPU."""

import struct
from dataclasses import dataclass
from pathlib import Path

from seresnext_export.errors import UnusableRepository

# As trtexec --getPlanVersionOnly reads it: https://github.com/NVIDIA/TensorRT, samples/common/sampleEngines.cpp
HEADER = struct.Struct("<II16x4B")
TAG, SERIALIZATION = 0x74727466, 0  # "ftrt", and the one layout there has been


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A version of TensorRT."""

    major: int
    minor: int
    patch: int
    build: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def fits(self, server: "Version") -> bool:
        """Whether a server with TensorRT `server` loads a plan of this version: nothing but the same release does."""
        return (self.major, self.minor, self.patch) == (server.major, server.minor, server.patch)


def parse(text: str) -> Version:
    """Return the version in `11.2.1` or `11.2.1.2`."""
    return Version(*(int(part) for part in text.split(".")[:4]))


def version(path: Path) -> Version:
    """Return the TensorRT that built a plan; raises UnusableRepository for a file that is none."""
    with path.open("rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size:
        raise UnusableRepository(f"{path} is not a TensorRT plan: it has {len(head)} bytes")
    tag, serialization, *parts = HEADER.unpack(head)
    if (tag, serialization) != (TAG, SERIALIZATION):
        raise UnusableRepository(f"{path} is not a TensorRT plan: it begins with {head[:8].hex(' ')}")
    return Version(*parts)
