"""Where the parts of the tritonserver from PyPI lie, and the backend directory that is assembled from them."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from seresnext_server.errors import MissingPrerequisite

BACKENDS = Path(__file__).parent / "backends"
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{PYTHON_VERSION}.so.1.0"

# Freed memory stays with the process: taking it from the kernel again, page by page, costs as much as decoding a large
# picture. Blocks that no decoder asks for (Pillow's are of 16 MB) go back at once, so one huge request leaves nothing.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


@dataclass(frozen=True, slots=True)
class Installation:
    """A tritonserver 2.51.0 as the package nvidia-pytriton brings it."""

    root: Path  # holds bin/tritonserver and backends/python
    libraries: Path
    libpython: Path

    @property
    def binary(self) -> Path:
        """The server's executable."""
        return self.root / "bin" / "tritonserver"

    @property
    def stub(self) -> Path:
        """The process in which the python backend runs a model: one executable per version of Python."""
        return self.root / "python_backend_stubs" / PYTHON_VERSION / "triton_python_backend_stub"

    def assemble(self, folder: Path) -> None:
        """Make `folder` a backend directory: the python backend, and our backends that are written in Python.

        Triton runs `<backend directory>/<name>/model.py` where it finds no C++ library for a backend of that name.
        """
        shutil.copytree(BACKENDS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        python = folder / "python"
        shutil.copytree(self.root / "backends" / "python", python, symlinks=True)
        stub = python / "triton_python_backend_stub"
        shutil.copyfile(self.stub, stub)
        stub.chmod(0o755)

    def environment(self) -> dict[str, str]:
        """Return the environment of the server: its stubs find this interpreter, its packages and its library."""
        return (
            os.environ
            | ALLOCATOR
            | {
                # A stub takes the packages of the python3 that is first on the path.
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
                "LD_LIBRARY_PATH": os.pathsep.join(
                    filter(None, [str(self.libraries), str(self.libpython.parent), os.environ.get("LD_LIBRARY_PATH")])
                ),
                "ORT_DISABLE_TELEMETRY": "1",
            }
        )


def find() -> Installation:
    """Return the server that is installed; raises MissingPrerequisite where a part of it is not."""
    spec = find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        message = "the embedded server is not installed: pip install 'seresnext-triton[server]' (Python 3.11 or 3.12)"
        raise MissingPrerequisite(message)
    package = Path(spec.submodule_search_locations[0])
    libpython = next((path for path in _libpythons() if path.is_file()), None)
    if libpython is None:
        message = (
            f"{LIBPYTHON} is not there: the server's python backend needs it; "
            f"apt-get install libpython{PYTHON_VERSION}, or use a Python that was built with --enable-shared"
        )
        raise MissingPrerequisite(message)
    found = Installation(package / "tritonserver", package.parent / "nvidia_pytriton.libs", libpython)
    if not found.stub.is_file():
        message = f"the embedded server does not run on Python {PYTHON_VERSION}: use 3.11 or 3.12"
        raise MissingPrerequisite(message)
    return found


def _libpythons() -> Iterator[Path]:
    folders = [sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix) / "lib"]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders += [Path(prefix, multiarch or "") for prefix in ("/usr/lib", "/lib", "/usr/lib64")]
    return (Path(folder, LIBPYTHON) for folder in folders if folder)
