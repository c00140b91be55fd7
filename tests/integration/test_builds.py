"""Builds that are killed, starved of disk, or compete leave whole models behind."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from tests.support.builder import BuildProcess, Options
from tests.support.files import snapshot

from seresnext_client.contract import PREPROCESSING_MODEL, FormatName, provenance_parameter
from seresnext_client.errors import ExitCode
from seresnext_client.provenance import Provenance
from seresnext_export import layout, pbtxt

ONNX_MODELS = {PREPROCESSING_MODEL, FormatName.ONNX.network, FormatName.ONNX.ensemble}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """Where a repository will be; nothing may be left beside it."""
    yield tmp_path / "models"
    assert {path.name for path in tmp_path.iterdir()} <= {"models"}


def is_whole(target: Path) -> bool:
    """Return whether every model in a repository is complete."""
    for config in target.glob("*/config.pbtxt"):
        parsed = pbtxt.parse(config.read_text())
        if parsed.backend == "onnxruntime":
            onnx.checker.check_model(config.parent / "1" / "model.onnx")
            mirrored = Provenance.from_json(parsed.parameters[provenance_parameter(1)].string_value)
            assert mirrored == Provenance.from_json((config.parent / "1" / layout.PROVENANCE).read_text())
    return all((path / layout.CONFIG).is_file() and (path / "1").is_dir() for path in target.iterdir())


def test_a_killed_build_leaves_whole_models_and_the_next_one_cleans_up(target: Path) -> None:
    for event in ("exporting onnx", "verifying onnx", "publishing", "published seresnext101_onnx"):
        process = BuildProcess(Options(target=target, stop_at=event, queue_delay_us=len(event)))
        assert process.wait_for(event), event
        process.kill()
        assert is_whole(target)
    assert (target.parent / ".models.staging").is_dir()
    assert BuildProcess(Options(target=target)).finish() == (0, "built")
    assert {path.name for path in target.iterdir()} == ONNX_MODELS
    assert is_whole(target)


def test_two_builds_at_once_take_turns(target: Path) -> None:
    first = BuildProcess(Options(target=target, stop_at="exporting onnx"))
    assert first.wait_for("exporting onnx")
    second = BuildProcess(Options(target=target))
    assert second.wait_for("waiting for another build")
    time.sleep(0.2)
    assert second.is_running()
    first.resume()
    assert first.finish() == (0, "built")
    assert second.finish() == (0, "unchanged"), "it finds what the first has built"


@pytest.mark.parametrize("name", [FormatName.TORCHSCRIPT, FormatName.ONNX])
def test_a_full_disk_ends_with_5_and_leaves_the_repository_as_it_was(
    name: FormatName, small_repository: Path, target: Path
) -> None:
    shutil.copytree(small_repository, target)
    before = snapshot(target)
    process = BuildProcess(Options(target=target, format=name, file_size_limit=100_000, force=True))
    code, last = process.finish()
    assert code == ExitCode.CHECK_FAILED
    assert "no space left" in last
    assert snapshot(target) == before
