"""The GPU of this machine and memory on it, through NVIDIA's bindings of the CUDA runtime (cuda-bindings)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from cuda.bindings import runtime as cuda
from numpy.typing import NDArray

from seresnext_client.errors import MissingPrerequisite
from seresnext_export.errors import ExportFailed

TO_DEVICE = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
TO_HOST = cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost


@dataclass(frozen=True, slots=True)
class Gpu:
    """A kind of GPU."""

    name: str
    compute_capability: str  # "9.0"


def current() -> Gpu:
    """Return the first GPU of CUDA; raises MissingPrerequisite where there is none."""
    error, count = cuda.cudaGetDeviceCount()
    if error != cuda.cudaError_t.cudaSuccess or not count:
        reason = f" ({error.name})" if error != cuda.cudaError_t.cudaSuccess else ""
        message = f"no GPU{reason}: an engine is built on the kind of GPU that will serve it, with an NVIDIA driver"
        raise MissingPrerequisite(message)
    properties = _call(cuda.cudaGetDeviceProperties, 0)
    return Gpu(properties.name.decode().rstrip("\0"), f"{properties.major}.{properties.minor}")


class Stream:
    """A queue of work on the GPU."""

    def __init__(self) -> None:
        self.handle = int(_call(cuda.cudaStreamCreate))

    def wait(self) -> None:
        """Wait until all work in the queue is done."""
        _call(cuda.cudaStreamSynchronize, self.handle)


@contextmanager
def copied(array: NDArray[Any]) -> Iterator[int]:
    """Yield the address of a copy of `array` on the GPU."""
    with allocated(array.nbytes) as address:
        _call(cuda.cudaMemcpy, address, array.ctypes.data, array.nbytes, TO_DEVICE)
        yield address


@contextmanager
def allocated(size: int) -> Iterator[int]:
    """Yield the address of `size` bytes on the GPU."""
    address = int(_call(cuda.cudaMalloc, size))
    try:
        yield address
    finally:
        _call(cuda.cudaFree, address)


def fetched(address: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a copy of the FP32 array of `shape` at an address of the GPU."""
    array = np.empty(shape, np.float32)
    _call(cuda.cudaMemcpy, array.ctypes.data, address, array.nbytes, TO_HOST)
    return array


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the CUDA runtime and return its result; raises ExportFailed for an error code."""
    error, *results = function(*arguments)
    if error != cuda.cudaError_t.cudaSuccess:
        raise ExportFailed(f"{function.__name__} failed: {error.name}")
    return results[0] if results else None
