"""Fake interpreters: programs that say they are another Python than the one that runs them, and install nothing.

Code that they are given with `-c` is really run, with `sys` and `sysconfig` as the other Python has them. `-m venv`
makes a folder that looks like a virtual environment, `-m pip` succeeds or fails as it is told. Both write their
arguments to a log.
"""

import json
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

LOG = "FAKE_PYTHON_LOG"  # a file
PIP = "FAKE_PIP"  # PipSettings as JSON
UV = "FAKE_UV"  # the program that `pip install uv` installs
TOOLS = ("dirname", "grep", "ls", "sed", "sh", "touch")


@dataclass(frozen=True)
class PipSettings:
    """How the fake pip behaves."""

    failing: Sequence[str] = ()  # arguments that it fails with
    torch: str | None = None  # the version of torch that is installed


def add_tools(folder: Path) -> None:
    """Link the programs that our scripts use into `folder`, so that it can be the whole PATH: no Python is on it."""
    for tool in TOOLS:
        program = next(path for path in (Path("/usr/bin", tool), Path("/bin", tool)) if path.exists())
        (folder / tool).symlink_to(program)


def add_program(path: Path, script: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def add_python(path: Path, version: str, *, missing: Sequence[str] = (), libpython: bool = True) -> Path:
    """Write a fake interpreter; `missing` are modules that it cannot import."""
    library = path.parent / f"lib-{path.name}" / f"libpython{version}.so.1.0"
    library.parent.mkdir(parents=True, exist_ok=True)
    if libpython:
        library.touch()
    command = [sys.executable, __file__, path, version, library.parent, ",".join(missing)]
    return add_program(path, f'export SELF="$0"; exec {shlex.join(map(str, command))} "$@"')


def _main(path: Path, version: str, libraries: str, missing: str, *arguments: str) -> int:
    match arguments:
        case ["-I", "-c", code, *rest] | ["-c", code, *rest]:
            _become(path, version, libraries, missing.split(",") if missing else [])
            sys.argv = ["-c", *rest]
            exec(code, {"__name__": "__main__"})
        case ["-m", "venv", *_, folder]:
            _log("venv", *arguments[2:])
            if "ensurepip" in missing:
                return 1
            program = Path(folder) / "bin" / "python"
            program.parent.mkdir(parents=True, exist_ok=True)
            program.unlink(missing_ok=True)
            program.symlink_to(path)
            (Path(folder) / "pyvenv.cfg").touch()
        case ["-m", "pip", *command]:
            _log("pip", *command)
            if any(argument in _pip_settings().failing for argument in command):
                return 1
            if command[-1] == "uv":
                shutil.copy(os.environ[UV], Path(os.environ["SELF"]).with_name("uv"))
        case _:
            return 2
    return 0


def _become(path: Path, version: str, libraries: str, missing: list[str]) -> None:
    variables = {"LIBDIR": libraries, "MULTIARCH": None}
    major, minor = map(int, version.split("."))
    sys.version_info = (major, minor, 0, "final", 0)  # type: ignore[assignment]
    sys.base_prefix = "/nowhere"
    sys._base_executable = str(path)  # type: ignore[attr-defined]
    sysconfig.get_config_var = variables.get  # type: ignore[assignment]
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]  # None: cannot be imported

    def installed_version(distribution_name: str) -> str:
        torch = _pip_settings().torch
        if torch is None:
            raise metadata.PackageNotFoundError(distribution_name)
        return torch

    metadata.version = installed_version


def _pip_settings() -> PipSettings:
    return PipSettings(**json.loads(os.environ.get(PIP, "{}")))


def _log(*words: str) -> None:
    if LOG in os.environ:
        with Path(os.environ[LOG]).open("a") as log:
            log.write(f"{json.dumps(words)}\n")


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), *sys.argv[2:]))
