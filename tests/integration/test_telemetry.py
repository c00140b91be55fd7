"""Nothing of ours phones home: no command leaves anything in the user's home folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.commands import ANY_PORTS, BIN

ROOT = Path(__file__).parents[2]
BUILD = """
import sys
from dataclasses import replace
from pathlib import Path
from seresnext_client.contract import FormatName
from seresnext_export import sample_images
from seresnext_export.formats.base import Precision
from tests.support.small_network import build_small, small_request
from seresnext_export.build import build
folder = Path(sys.argv[1])
build_small(folder, FormatName.TORCHSCRIPT, FormatName.ONNX, FormatName.OPENVINO)
images = sample_images.bundled()[:3]
request = small_request(FormatName.ONNX, version=2)
build(replace(request, precision=Precision.INT8, calibration_images=images), folder)
"""


@pytest.mark.triton
def test_no_command_writes_into_the_home_folder(grace_hopper: Path, tmp_path: Path) -> None:
    home, models = tmp_path / "home", tmp_path / "models"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    environment = kept | {"HOME": str(home), "ORT_DISABLE_TELEMETRY": "0"}
    serve: list[str | Path] = [BIN / "seresnext-serve", "--repository", models, *ANY_PORTS, "--"]
    commands: list[list[str | Path]] = [
        [sys.executable, "-c", BUILD, models],
        [BIN / "seresnext-export", "check", "--repository", models],
        [*serve, BIN / "seresnext-client", "classify", grace_hopper],
        [*serve, BIN / "seresnext-client", "status"],
        [*serve, BIN / "seresnext-export", "smoke", "--repository", models],
    ]
    for command in commands:
        finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
        assert finished.returncode == 0, (command, finished.stderr)
        assert [path for path in home.rglob("*") if path.is_file()] == [], command
