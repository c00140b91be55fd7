"""The builder's command line: exit codes, what errors say, and what reaches the library."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from seresnext_client.contract import PREPROCESSING_MODEL, FormatName
from seresnext_export import layout, pbtxt
from seresnext_export.checkpoints import random_weights
from seresnext_export.cli import app
from seresnext_export.network import Network


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def random_small(small_network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights are those of the two-block network."""
    monkeypatch.setattr(random_weights, "random_network", lambda: small_network)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def build(*arguments: str | Path) -> Result:
    return run("build", *arguments)


def test_a_build_prints_a_table_and_then_that_nothing_changed(random_small: None) -> None:
    arguments = ("--checkpoint", "random", "--format", "torchscript", "--max-batch-size", "4")
    first = build(*arguments)
    assert first.exit_code == 0, first.stderr
    assert "RANDOM" in first.stderr
    heading, *rows = first.stdout.splitlines()
    assert "agreement" in heading
    assert [row.split()[:2] for row in rows] == [
        [model, "built"]
        for model in (PREPROCESSING_MODEL, FormatName.TORCHSCRIPT.network, FormatName.TORCHSCRIPT.ensemble)
    ]
    second = json.loads(build(*arguments, "--output", "json").stdout)
    assert [model["published"] for model in second] == [False] * 3
    assert second[1]["provenance"]["inputs"]["checkpoint"]["source"] == "random"


def test_options_reach_the_configurations(random_small: None, tmp_path: Path) -> None:
    options = {
        "--queue-delay-us": "7",
        "--preprocess-instances": "2",
        "--preprocess-parameter": "threads=3",
        "--cudnn-algo-search": "heuristic",
        "--model-version": "5",
        "--repository": "other",
        "--max-batch-size": "2",
    }
    finished = build("--checkpoint", "random", "--format", "onnx", *(text for pair in options.items() for text in pair))
    assert finished.exit_code == 0, finished.stderr
    preprocessing, network = (
        pbtxt.parse(layout.config_path(tmp_path / "other", model).read_text())
        for model in (PREPROCESSING_MODEL, FormatName.ONNX.network)
    )
    assert preprocessing.instance_group[0].count == 2
    assert preprocessing.parameters["threads"].string_value == "3"
    assert network.dynamic_batching.max_queue_delay_microseconds == 7
    assert network.optimization.execution_accelerators.gpu_execution_accelerator
    assert list(network.version_policy.specific.versions) == [5]
    assert network.max_batch_size == 2


def test_a_missing_checkpoint_ends_with_3() -> None:
    finished = build("--checkpoint", "missing.pth")
    assert finished.exit_code == 3
    assert "missing.pth" in finished.stderr
    assert "--checkpoint" in finished.stderr


def test_a_file_that_is_not_a_checkpoint_ends_with_3_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_text("<html>")
    finished = build("--checkpoint", "weights.pth", "--format", "torchscript")
    assert finished.exit_code == 3
    assert finished.stderr.startswith("error: weights.pth is not a checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_a_failed_download_ends_with_5() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/weights.pth"
    finished = build("--checkpoint", url)
    assert finished.exit_code == 5
    assert finished.stderr.startswith(f"error: cannot download {url}: ")


def test_missing_images_are_reported_before_the_checkpoint_is_looked_for() -> None:
    finished = build("--checkpoint", "missing.pth", "--verify-images", "nowhere")
    assert finished.exit_code == 3
    assert finished.stderr.startswith("error: nowhere is not a folder of images")
    assert "--verify-images" in finished.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--format", "caffe"),
        ("--precision", "fp64"),
        ("--model-version", "0"),
        ("--max-batch-size", "0"),
        ("--unknown",),
        ("--preprocess-parameter", "unknown=1"),
        ("--preprocess-parameter", "threads=many"),
        ("--checkpoint", "random", "--ema"),
        ("--opt-batch-size", "4"),  # is an option of `engine`
    ],
)
def test_a_wrong_option_ends_with_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert build(*arguments).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_rollback_without_a_repository_ends_with_3() -> None:
    finished = run("rollback")
    assert finished.exit_code == 3
    assert finished.stderr.startswith("error: no network in model_repository")


@pytest.mark.parametrize("command", ["build", "engine", "check", "smoke", "rollback"])
def test_help_imports_no_library_of_a_format(command: str) -> None:
    program = (
        "import sys\n"
        "from seresnext_export.cli import app\n"
        f"try:\n    app(['{command}', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "print({'torch', 'onnx', 'onnxruntime', 'tensorrt'} & set(sys.modules))\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert finished.stdout.splitlines()[-1] == "set()", finished.stderr
    assert "Usage" in finished.stdout
