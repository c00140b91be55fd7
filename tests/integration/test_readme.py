"""The README's quick start and its Python, as a reader runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.support.markdown import blocks, command_lines

from seresnext_export.checkpoints.download import NGC_FILE
from seresnext_export.checkpoints.random_weights import random_network

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BIN = Path(sys.executable).parent


@pytest.mark.triton
def test_the_python_of_the_readme_runs(small_repository: Path, grace_hopper: Path, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(grace_hopper.read_bytes())
    (code,) = blocks(README, "python")
    assert "localhost:8001" in code
    code = code.replace('"localhost:8001"', "")  # the server that runs beside it has a port of its own
    ports = [word for name in ("http", "grpc", "metrics") for word in (f"--{name}-port", "0")]
    command: list[str | Path] = [
        BIN / "seresnext-serve",
        "--repository",
        small_repository,
        *ports,
        "--",
        sys.executable,
        "-c",
        code,
    ]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.splitlines()) == 5


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_quick_start_works_in_a_fresh_clone(grace_hopper: Path, tmp_path: Path) -> None:
    clone, home = tmp_path / "clone", tmp_path / "home"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True, timeout=60)
    (clone / "cat.jpg").write_bytes(grace_hopper.read_bytes())
    # NVIDIA's catalog is not reached: the file lies where torch.hub would have put it.
    checkpoint = home / ".cache/torch/hub/checkpoints" / NGC_FILE
    checkpoint.parent.mkdir(parents=True)
    torch.save(random_network().state_dict(), checkpoint)
    # Up to the first block that needs docker or a GPU.
    commands = [line for line in command_lines(README) if not line.startswith(("make up", "kubectl"))]
    script = "\n".join(["set -euo pipefail", "trap 'kill $(jobs -p)' EXIT", *commands])
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    finished = subprocess.run(
        ["/bin/bash", "-c", script], cwd=clone, env=environment, capture_output=True, text=True, timeout=3500
    )
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-4000:]
    assert "cat.jpg" in finished.stdout
