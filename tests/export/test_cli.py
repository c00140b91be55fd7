"""The builder's command line: what it refuses, with which sentence and which exit code."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seresnext_export.cli import app


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


def build(*arguments: str) -> tuple[int, str]:
    finished = CliRunner().invoke(app, ["build", *arguments])
    return finished.exit_code, finished.stderr


@pytest.fixture
def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/weights.pth"


def test_a_checkpoint_that_is_not_there_ends_with_3() -> None:
    code, said = build("--checkpoint", "nowhere.pth")
    assert (code, said) == (3, "error: no checkpoint at nowhere.pth: give a file, a URL, ngc or random\n")


def test_a_checkpoint_that_is_none_ends_with_3_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_text("<html>")
    code, said = build("--checkpoint", "weights.pth", "--format", "torchscript")
    assert code == 3
    assert said.startswith("error: weights.pth is not a checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_a_network_that_cannot_be_reached_ends_with_5(nobody: str) -> None:
    code, said = build("--checkpoint", nobody)
    assert code == 5
    assert said.startswith(f"error: cannot download {nobody}: ")


def test_random_weights_are_never_taken_silently(nobody: str, tmp_path: Path) -> None:
    code, said = build("--checkpoint", nobody, "--or-random", "--verify-images", str(tmp_path))
    assert code == 3, "there is no picture in the folder"
    assert "cannot download" in said
    assert "warning: the weights are RANDOM: the labels that this model answers mean nothing" in said


def test_a_digest_that_differs_ends_with_3(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"weights")
    code, said = build("--checkpoint", "weights.pth", "--sha256", "ab" * 32)
    assert code == 3
    assert f"not {'ab' * 32} as asked for" in said


def test_a_folder_of_pictures_that_is_none_ends_with_3(tmp_path: Path) -> None:
    assert build("--checkpoint", "random", "--verify-images", "nowhere")[0] == 3


@pytest.mark.parametrize(
    "arguments",
    [("--format", "caffe"), ("--precision", "bf16"), ("--version", "0"), ("--max-batch-size", "0"), ("--nothing",)],
)
def test_options_that_are_none_end_with_2(arguments: tuple[str, ...]) -> None:
    assert build(*arguments)[0] == 2


def test_help_imports_no_torch() -> None:
    program = (
        "import sys\n"
        "from seresnext_export.cli import app\n"
        "try:\n    app(['build', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "print({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert finished.stdout.splitlines()[-1] == "set()", finished.stderr
