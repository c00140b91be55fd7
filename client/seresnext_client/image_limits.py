"""Limits of an image, the reasons for which one is refused, and the memory budget that concurrent decoding shares.

A build copies this file beside the preprocessing model's `model.py`.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from .contract import MAX_DECODE_BYTES, MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS
else:
    from contract import MAX_DECODE_BYTES, MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS

# An image that costs less than both is quick: others hardly notice it.
QUICK_MEMORY = 32 << 20  # bytes
QUICK_CPU_S = 0.05
# The shares of `max_decode_bytes` for quick images, and for the encoded files of other images that wait.
QUICK_SHARE = WAITING_SHARE = 1 / 16
# The CPU time of an image is limited to a second for each megabyte of its file, but to no less than this ...
CPU_S_PER_BYTE = 1e-6
MIN_CPU_LIMIT_S = 1.0
# ... and to no more than `max_pixels` take at this rate.
SLOWEST_PIXELS_PER_S = 25e6


class Reason(StrEnum):
    """Why an image is refused."""

    EMPTY = "empty"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_COSTLY = "too_costly"
    UNKNOWN_FORMAT = "unknown_format"
    UNKNOWN_DEPTH = "unknown_depth"
    DAMAGED = "damaged"


class InvalidImage(ValueError):
    """An image that cannot be used; the text is one sentence."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Cost:
    """An upper estimate of what decoding an image takes."""

    memory: int  # bytes
    cpu_s: float

    @property
    def is_quick(self) -> bool:
        """Whether decoding is short and small enough not to delay other images."""
        return self.memory <= QUICK_MEMORY and self.cpu_s <= QUICK_CPU_S


@dataclass(frozen=True)
class Limits:
    """Limits that are checked before an image is decoded, and options of decoding."""

    max_bytes: int = MAX_IMAGE_BYTES
    max_pixels: int = MAX_IMAGE_PIXELS
    max_decode_bytes: int = MAX_DECODE_BYTES  # memory of all images that are decoded at once
    apply_exif_orientation: bool = True
    # Lets libjpeg decode large JPEGs at 1/2, 1/4 or 1/8, never below twice the 256: several times faster at 12 million
    # pixels, and no longer exact (off by a few levels of 255).
    scaled_jpeg_decoding: bool = False

    @property
    def quick_memory(self) -> int:
        """The budget of quick images, in bytes."""
        return int(self.max_decode_bytes * QUICK_SHARE)

    @property
    def waiting_memory(self) -> int:
        """The budget of encoded images that wait to be decoded, in bytes."""
        return int(self.max_decode_bytes * WAITING_SHARE)

    @property
    def slow_memory(self) -> int:
        """The budget of all other images while they are decoded, in bytes; a single image may use all of it."""
        return self.max_decode_bytes - self.quick_memory - self.waiting_memory

    def check_bytes(self, image: bytes) -> None:
        """Raise InvalidImage for a file that is empty or too large."""
        if not image:
            raise InvalidImage(Reason.EMPTY, "the image is empty")
        if len(image) > self.max_bytes:
            text = f"the image has {len(image)} bytes, more than the {self.max_bytes} allowed"
            raise InvalidImage(Reason.TOO_MANY_BYTES, text)

    def check_pixels(self, width: int, height: int) -> None:
        """Raise InvalidImage for an image of too many pixels."""
        if width * height > self.max_pixels:
            text = f"{width} x {height} pixels are more than the {self.max_pixels} allowed"
            raise InvalidImage(Reason.TOO_MANY_PIXELS, text)

    def check_cost(self, cost: Cost, file_bytes: int) -> None:
        """Raise InvalidImage for an image that takes too much memory, or too much time for the size of its file."""
        if cost.memory > self.slow_memory:
            text = f"decoding takes {cost.memory >> 20} MiB, more than the {self.slow_memory >> 20} MiB allowed"
            raise InvalidImage(Reason.TOO_COSTLY, text)
        limit_s = min(file_bytes * CPU_S_PER_BYTE, self.max_pixels / SLOWEST_PIXELS_PER_S)
        if cost.cpu_s > max(MIN_CPU_LIMIT_S, limit_s):
            text = f"decoding takes {cost.cpu_s:.1f} s, too much for an image of {file_bytes} bytes"
            raise InvalidImage(Reason.TOO_COSTLY, text)


DEFAULT_LIMITS = Limits()


class MemoryBudget:
    """Bytes that threads reserve; a thread waits until enough of them are free, first come, first served."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def free(self) -> int:
        """The bytes that are not reserved."""
        return self._free

    @property
    def waiting(self) -> int:
        """The number of threads that wait."""
        return len(self._waiting)

    def acquire(self, amount: int) -> None:
        """Wait for `amount` bytes and reserve them; an amount above the total reserves the total."""
        amount, ticket = min(amount, self.total), object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket and amount <= self._free)
            self._waiting.popleft()
            self._free -= amount
            self._changed.notify_all()  # the next thread may fit too

    def release(self, amount: int) -> None:
        """Release what `acquire` reserved."""
        with self._changed:
            self._free += min(amount, self.total)
            self._changed.notify_all()

    @contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Reserve `amount` bytes within the context."""
        self.acquire(amount)
        try:
            yield
        finally:
            self.release(amount)
