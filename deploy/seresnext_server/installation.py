"""Where the parts of the tritonserver from PyPI are, and the backend directory that is assembled from them."""

import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from seresnext_client.errors import MissingPrerequisite

BACKENDS = Path(__file__).parent / "backends"
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{PYTHON_VERSION}.so.1.0"
SUPPORTED_PYTHONS = ("3.11", "3.12")  # those that have wheels of numpy 1, which the python backend needs
REQUIRED_GLIBC = (2, 35)

# Freed memory stays with the process: taking it from the kernel again, page by page, costs as much as decoding a large
# image. Blocks that no decoder asks for (Pillow's are of 16 MB) go back at once, so one huge request leaves nothing.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
# Threads of GNU OpenMP, which torch uses, spin while they wait. Beside any other load the spinning ones hold back those
# that they wait for; a short spin keeps what a quiet machine gains by it (tests/benchmarks/contention.py).
OPENMP = {"GOMP_SPINCOUNT": "20000"}


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
        """The program in which the python backend runs a model: one for each version of Python."""
        return self.root / "python_backend_stubs" / PYTHON_VERSION / "triton_python_backend_stub"

    def assemble(self, folder: Path) -> None:
        """Make `folder` a backend directory: the python backend, and our backends that are written in Python.

        Triton runs `<backend directory>/<name>/model.py` where it finds no C++ library for a backend of that name.
        """
        python = folder / "python"
        shutil.copytree(self.root / "backends" / "python", python, symlinks=True)
        stub = python / "triton_python_backend_stub"
        shutil.copyfile(self.stub, stub)
        stub.chmod(0o755)
        for model in BACKENDS.glob("*/model.py"):
            (folder / model.parent.name).mkdir()
            shutil.copyfile(model, folder / model.parent.name / model.name)

    def environment(self) -> dict[str, str]:
        """Return the environment of the server: its stubs find this interpreter, its packages and its library."""
        return (
            os.environ
            | ALLOCATOR
            | OPENMP
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
    """Return the server that is installed; raises MissingPrerequisite for a part that is not there."""
    if PYTHON_VERSION not in SUPPORTED_PYTHONS:
        message = (
            f"the embedded server needs Python {' or '.join(SUPPORTED_PYTHONS)}, and this is {PYTHON_VERSION}: make a "
            "virtual environment with one of them (uv venv --seed --python 3.12), or serve with docker"
        )
        raise MissingPrerequisite(message)
    spec = find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        message = f"the embedded server is not installed: {_install_hint()}"
        raise MissingPrerequisite(message)
    if (numpy := _installed_version("numpy")) and not numpy.startswith("1."):
        message = f"the embedded server needs numpy 1, and {numpy} is installed: pip install 'numpy<2'"
        raise MissingPrerequisite(message)
    libpython = next(filter(os.path.isfile, _libpython_candidates()), None)
    if libpython is None:
        message = (
            f"{LIBPYTHON} is missing, which the embedded server loads: apt-get install libpython{PYTHON_VERSION} on "
            "Debian and Ubuntu, or use a Python with a shared library, such as those of uv"
        )
        raise MissingPrerequisite(message)
    package = Path(spec.submodule_search_locations[0])
    installed = Installation(package / "tritonserver", package.parent / "nvidia_pytriton.libs", Path(libpython))
    for part in (installed.binary, installed.stub):
        if not part.is_file():
            message = f"{part} is missing: reinstall nvidia-pytriton"
            raise MissingPrerequisite(message)
    return installed


def _install_hint() -> str:
    """Return how to install the server, or what of this system it does not run on."""
    library, number = platform.libc_ver()
    release = tuple(int(part) for part in number.split(".")[:2] if part.isdecimal())
    if sys.platform != "linux" or library != "glibc" or release < REQUIRED_GLIBC:
        system = f"{library} {number}" if library else platform.system()
        needed = ".".join(map(str, REQUIRED_GLIBC))
        return f"it needs Linux with glibc {needed} or newer, and this is {system}; serve with docker"
    return "pip install '.[server]'"


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _libpython_candidates() -> Iterator[str]:
    """Return where the library may be: beside this Python first, which may have been moved since it was built."""
    folders = [os.path.join(sys.base_prefix, "lib"), sysconfig.get_config_var("LIBDIR")]  # noqa: PTH118
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders += [os.path.join(prefix, multiarch or "") for prefix in ("/usr/lib", "/lib", "/usr/lib64")]  # noqa: PTH118
    return (os.path.join(folder, LIBPYTHON) for folder in folders if folder)  # noqa: PTH118
