"""Runs over many images: the share of one process among several, and results that a later run continues."""

import fcntl
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from seresnext_client.errors import InvalidOption, OutputNotWritable
from seresnext_client.images import Source
from seresnext_client.paths import display_name

_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """The images of one process among `count`, numbered from 0.

    An image belongs to a shard by its name alone: processes agree even where they list different images.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            message = f"the shard {self.index}/{self.count} does not exist: the first of {self.count} is 0/{self.count}"
            raise InvalidOption(message)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard called `I/N`; raises InvalidOption."""
        match = _SHARD.fullmatch(text)
        if match is None:
            raise InvalidOption(f"{text!r} is not a shard: give I/N, such as 0/8 for the first of eight")
        return cls(int(match[1]), int(match[2]))

    def select(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Yield the images of this shard."""
        for source in sources:
            if zlib.crc32(display_name(source.name).encode()) % self.count == self.index:
                yield source


class ResultFile:
    """A file of results, one JSON object per line, that a run continues; a context manager, for one process at a time.

    Entering reads which images the file has, with classes or with an error, and removes a last line that was cut off.
    Raises OutputNotWritable, and InvalidOption for a file that holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self.file = self._path.open("a+", encoding="utf-8", newline="\n")
        except OSError as error:
            raise OutputNotWritable(f"cannot write {self._path}: {error.strerror}") from error
        try:
            self._lock()
            self._names = self._read()
        except BaseException:
            self.file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.file.close()

    file: TextIO

    def remaining(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Yield the images that the file had no result of when it was opened."""
        return (source for source in sources if display_name(source.name) not in self._names)

    def _lock(self) -> None:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputNotWritable(f"another process is writing {self._path}") from error
        except OSError as error:
            raise OutputNotWritable(f"cannot lock {self._path}: {error.strerror}") from error

    def _read(self) -> set[str]:
        names = set()
        with self._path.open("rb") as lines:
            complete = 0
            for line in lines:
                if not line.endswith(b"\n"):
                    self.file.truncate(complete)
                    break
                complete += len(line)
                try:
                    names.add(str(json.loads(line)["image"]))
                except (ValueError, KeyError, TypeError) as error:
                    raise InvalidOption(f"{self._path} holds other lines than results: {line[:80]!r}") from error
        return names
