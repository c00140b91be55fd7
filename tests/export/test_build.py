"""Builds of a two-block network: what they change, what they leave alone, and what a failure leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from seresnext_client import preprocessing
from seresnext_export import pbtxt, photographs
from seresnext_export.build import build, require
from seresnext_export.errors import Disagreement, MissingPrerequisite, SeresnextExportError
from seresnext_export.formats.onnx import Onnx
from seresnext_export.network import Network
from seresnext_export.request import Request, Result, Weights
from seresnext_export.serving import FormatName, Serving

BUILDER = Path(__file__).with_name("builder.py")
TORCHSCRIPT = ("seresnext101_preprocess", "seresnext101_torchscript", "seresnext101_torchscript_ensemble")
ONNX = ("seresnext101_preprocess", "seresnext101_onnx", "seresnext101_onnx_ensemble")

Snapshot = dict[str, tuple[int, bytes]]


def quiet(_: str) -> AbstractContextManager[Any]:
    return nullcontext()


def nobody() -> None:
    pytest.fail("nobody else builds here")


@pytest.fixture
def request_(small_network: Network) -> Request:
    return Request(
        formats=(FormatName.TORCHSCRIPT,),
        weights=Weights(identity={"source": "small", "sha256": "0"}, load=lambda: small_network),
        pictures=tuple(photographs.shipped()[:3]),
        serving=Serving(max_batch_size=4),
    )


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "models"
    assert {path.name for path in tmp_path.iterdir()} <= {"models"}, "something was left beside the repository"


def run(request: Request, target: Path) -> dict[str, Result]:
    return {result.name: result for result in build(request, target, quiet, nobody)}


def snapshot(folder: Path) -> Snapshot:
    """Every file of a folder: its inode, which a rewrite changes, and its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.read_bytes()) for path in files}


def sizes(target: Path) -> dict[str, int]:
    return {path.parent.name: pbtxt.parse(path.read_text()).max_batch_size for path in target.glob("*/config.pbtxt")}


def test_a_build_writes_the_models_that_it_was_asked_for(request_: Request, target: Path) -> None:
    results = run(request_, target)
    assert tuple(results) == TORCHSCRIPT
    assert all(result.published for result in results.values())
    assert sorted(path.name for path in target.iterdir()) == sorted(TORCHSCRIPT)
    network = target / "seresnext101_torchscript"
    assert {path.name for path in network.rglob("*")} == {
        *("1", "model.pt", "provenance.json", "reference.npz", "labels.txt", "config.pbtxt")
    }
    assert (target / "seresnext101_torchscript_ensemble" / "1").is_dir()
    step = target / "seresnext101_preprocess"
    assert (step / "1" / "preprocessing.py").read_bytes() == Path(preprocessing.__file__).read_bytes()


def test_provenance_is_written_per_version_and_mirrored_in_the_config(request_: Request, target: Path) -> None:
    figures = run(request_, target)["seresnext101_torchscript"].provenance
    assert figures is not None
    assert figures["checkpoint"] == {"source": "small", "sha256": "0"}
    assert figures["verification"]["max_difference"] < figures["verification"]["tolerance"] == 1e-3
    assert figures["versions"]["torch"]
    config = pbtxt.parse((target / "seresnext101_torchscript" / "config.pbtxt").read_text())
    assert json.loads(config.parameters["provenance.1"].string_value) == figures


def test_the_same_build_again_changes_nothing(request_: Request, target: Path) -> None:
    run(request_, target)
    before = snapshot(target)
    results = run(replace(request_, weights=replace(request_.weights, load=pytest.fail)), target)
    assert not any(result.published for result in results.values())
    assert snapshot(target) == before


def test_byte_code_that_a_server_left_is_no_change(request_: Request, target: Path) -> None:
    run(request_, target)
    cache = target / "seresnext101_preprocess" / "1" / "__pycache__"
    cache.mkdir()
    (cache / "model.cpython-312.pyc").write_bytes(b"")
    assert not any(result.published for result in run(request_, target).values())


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "1" / "model.pt").write_bytes(b"damaged"),
        lambda folder: (folder / "1" / "provenance.json").write_text("[]"),
        lambda folder: (folder / "1" / "provenance.json").write_text('{"artefact": []}'),
        lambda folder: (folder / "1" / "model.pt").unlink(),
    ],
)
def test_what_somebody_changed_is_built_again(
    damage: Callable[[Path], object], request_: Request, target: Path
) -> None:
    run(request_, target)
    damage(target / "seresnext101_torchscript")
    assert run(request_, target)["seresnext101_torchscript"].exported_s > 0
    assert (target / "seresnext101_torchscript" / "1" / "model.pt").stat().st_size > 1000


def test_force_exports_again(request_: Request, target: Path) -> None:
    run(request_, target)
    assert run(replace(request_, force=True), target)["seresnext101_torchscript"].exported_s > 0


def test_other_weights_are_exported_again(request_: Request, target: Path) -> None:
    run(request_, target)
    other = replace(request_.weights, identity={"source": "small", "sha256": "1"})
    assert run(replace(request_, weights=other), target)["seresnext101_torchscript"].exported_s > 0


def test_another_queue_delay_changes_only_the_config(request_: Request, target: Path) -> None:
    run(request_, target)
    before = snapshot(target)
    changed = replace(request_, serving=replace(request_.serving, queue_delay_us=5))
    assert run(changed, target)["seresnext101_torchscript"].exported_s == 0
    after = snapshot(target)
    different = {name for name in before | after if before.get(name) != after.get(name)}
    assert {Path(name).name for name in different} <= {"config.pbtxt", "labels.txt"}  # artefacts are linked, not copied
    config = pbtxt.parse((target / "seresnext101_torchscript" / "config.pbtxt").read_text())
    assert config.dynamic_batching.max_queue_delay_microseconds == 5


def test_a_new_version_keeps_the_old_one(request_: Request, target: Path) -> None:
    run(request_, target)
    first = (target / "seresnext101_torchscript" / "1" / "model.pt").read_bytes()
    run(replace(request_, version=2), target)
    network = target / "seresnext101_torchscript"
    assert (network / "1" / "model.pt").read_bytes() == first
    assert (network / "2" / "model.pt").is_file()
    assert set(pbtxt.parse((network / "config.pbtxt").read_text()).parameters) == {"provenance.1", "provenance.2"}


def test_formats_are_added_to_a_repository_one_by_one(request_: Request, target: Path) -> None:
    run(request_, target)
    before = snapshot(target)
    run(replace(request_, formats=(FormatName.ONNX,)), target)
    assert {path.name for path in target.iterdir()} == {*TORCHSCRIPT, *ONNX}
    assert snapshot(target).items() >= before.items()


def test_smaller_batches_of_one_format_leave_the_others_loadable(request_: Request, target: Path) -> None:
    run(request_, target)
    run(replace(request_, formats=(FormatName.ONNX,), serving=Serving(max_batch_size=2)), target)
    assert sizes(target) == dict(zip(TORCHSCRIPT, (4, 4, 4), strict=True)) | dict(zip(ONNX[1:], (2, 2), strict=True))


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4)])
def test_a_build_that_is_cut_while_it_publishes_never_leaves_an_ensemble_that_asks_too_much(
    before: int, after: int, request_: Request, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton refuses an ensemble whose max_batch_size is larger than a step's."""
    from seresnext_export import repository

    publish, seen = repository.publish, []

    def watched(staged: Path, folder: Path) -> bool:
        published = publish(staged, folder)
        seen.append(sizes(folder))
        return published

    run(replace(request_, serving=Serving(max_batch_size=before)), target)
    monkeypatch.setattr(repository, "publish", watched)
    run(replace(request_, serving=Serving(max_batch_size=after)), target)
    assert len(seen) == 3
    for found in seen:
        assert found["seresnext101_torchscript_ensemble"] <= min(found.values())


def test_an_artefact_that_disagrees_is_not_published(
    request_: Request, target: Path, small_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(request_, target)
    before = snapshot(target)
    from seresnext_export.formats.torchscript import TorchScript

    load = TorchScript.load

    def mirrored(self: TorchScript, path: Path) -> Callable[[Any], Any]:
        predict = load(self, path)
        return lambda pixels: predict(pixels[:, :, ::-1].copy())

    monkeypatch.setattr(TorchScript, "load", mirrored)
    with pytest.raises(Disagreement, match="torchscript fp32 does not answer as the eager FP32 network does"):
        run(replace(request_, force=True), target)
    assert snapshot(target) == before


def test_an_interrupted_build_leaves_the_repository_as_it_was(request_: Request, target: Path) -> None:
    run(request_, target)
    before = snapshot(target)

    @contextmanager
    def interrupted(text: str) -> Iterator[None]:
        yield
        if text.startswith("verifying"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(replace(request_, force=True), target, interrupted, nobody)
    assert snapshot(target) == before


def loadable(target: Path) -> bool:
    """Whether every model that is there is there whole."""
    for config in target.glob("*/config.pbtxt"):
        model = pbtxt.parse(config.read_text())
        if model.backend == "onnxruntime":
            onnx.checker.check_model(config.parent / "1" / "model.onnx")
            provenance = json.loads((config.parent / "1" / "provenance.json").read_text())
            assert json.loads(model.parameters["provenance.1"].string_value) == provenance
    return all((path / "config.pbtxt").is_file() and (path / "1").is_dir() for path in target.iterdir())


def start(target: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(BUILDER), str(target), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_killed_build_leaves_whole_models_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    target = tmp_path / "models"
    for step in ("exporting onnx", "verifying onnx", "publishing", "published seresnext101_onnx"):
        process = start(target, "--stop-at", step, "--queue-delay-us", str(len(step)))
        assert process.stdout is not None
        reached = any(step.encode() in line for line in process.stdout)
        assert reached, step
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        assert loadable(target)
    assert (tmp_path / ".models.staging").is_dir()
    process = start(target)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    assert not (tmp_path / ".models.staging").exists()
    assert {path.name for path in target.iterdir()} == set(ONNX)
    assert loadable(target)


def test_two_builds_at_once_take_turns(tmp_path: Path) -> None:
    target = tmp_path / "models"
    first = start(target, "--stop-at", "exporting onnx")
    assert first.stdout is not None
    assert any(b"exporting onnx" in line for line in first.stdout)
    second = start(target)
    assert second.stdout is not None
    assert second.stdout.readline() == b"waiting\n"
    time.sleep(0.2)
    assert second.poll() is None
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=120)
    lines = second.communicate(timeout=120)[0].decode().splitlines()
    assert (first.returncode, second.returncode) == (0, 0)
    assert lines[-1] == "unchanged", "the second build found what the first had made"


@pytest.mark.parametrize("name", ["torchscript", "onnx"])
def test_a_full_disk_ends_with_5_and_leaves_the_repository_as_it_was(name: str, tmp_path: Path) -> None:
    target = tmp_path / "models"
    subprocess.run([sys.executable, str(BUILDER), str(target), "--format", name], check=True, timeout=120)
    before = snapshot(target)
    process = start(target, "--format", name, "--file-size-limit", "100000", "--queue-delay-us", "7", "--force")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 5, errors.decode()
    assert b"no space left for a new model" in errors
    assert snapshot(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_missing_package_is_found_out_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else True)
    require([FormatName.TORCHSCRIPT])
    with pytest.raises(MissingPrerequisite, match=r"needs onnxruntime: pip install 'seresnext-triton\[export,cpu\]'"):
        require([FormatName.TORCHSCRIPT, FormatName.ONNX])


def test_a_repository_that_is_a_file_is_refused(request_: Request, target: Path) -> None:
    target.write_text("")
    with pytest.raises(SeresnextExportError, match="is not a directory: give a directory with --repository"):
        run(request_, target)


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="needs a mount point that can be written")
def test_a_mount_point_is_refused_before_any_work(request_: Request) -> None:
    before = set(Path("/dev/shm").iterdir())
    with pytest.raises(SeresnextExportError, match="is a mount point"):
        run(request_, Path("/dev/shm"))
    assert set(Path("/dev/shm").iterdir()) <= before


def test_a_repository_may_be_a_link(request_: Request, target: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    real = tmp_path_factory.mktemp("real") / "models"
    real.mkdir()
    link = tmp_path_factory.mktemp("link") / "models"
    link.symlink_to(real)
    run(request_, link)
    assert {path.name for path in real.iterdir()} == set(TORCHSCRIPT)
    assert link.is_symlink()


def test_an_onnx_file_needs_nothing_beside_it(small_network: Network, tmp_path: Path) -> None:
    Onnx(small_network).export(tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    shutil.move(tmp_path / "model.onnx", tmp_path / "moved.onnx")
    Onnx(small_network).load(tmp_path / "moved.onnx")
