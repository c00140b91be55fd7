"""The commands of the project, as a shell runs them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

BIN = Path(sys.executable).parent
ANY_PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")


def run(
    program: str,
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    folder: Path | None = None,
    timeout_s: float = 120,
) -> "subprocess.CompletedProcess[str]":
    """Run a program of the virtual environment, and return its status and what it wrote."""
    completed = subprocess.run(
        [BIN / program, *arguments],
        input=stdin,
        capture_output=True,
        timeout=timeout_s,
        env={**os.environ, **(environment or {})},
        cwd=folder,
    )
    return subprocess.CompletedProcess(
        completed.args, completed.returncode, completed.stdout.decode(), completed.stderr.decode()
    )
