"""Broken repositories, one for each finding: the linter names the file, and a real server agrees."""

import json
import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from seresnext_export import linter, pins, plan
from seresnext_export.cli import app
from seresnext_export.errors import UnusableRepository
from seresnext_server.errors import SeresnextServerError
from seresnext_server.server import Device, TritonServer

ONNX, ENSEMBLE, STEP = "seresnext101_onnx", "seresnext101_onnx_ensemble", "seresnext101_preprocess"
TORCHSCRIPT = "seresnext101_torchscript"


@dataclass(frozen=True)
class Case:
    """What is done to a repository, where the finding is, and what it says."""

    spoil: Callable[[Path], object]
    file: str
    cause: str
    fault: bool = True


def edit(file: str, old: str, new: str, count: int = 1) -> Callable[[Path], object]:
    def spoil(models: Path) -> None:
        text = (models / file).read_text()
        assert old in text
        (models / file).write_text(text.replace(old, new, count))

    return spoil


def remove(file: str) -> Callable[[Path], object]:
    def spoil(models: Path) -> None:
        path = models / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def write(file: str, content: bytes) -> Callable[[Path], object]:
    return lambda models: (models / file).write_bytes(content)


def graph(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], object]:
    def spoil(models: Path) -> None:
        path = models / ONNX / "1" / "model.onnx"
        model = onnx.load(path)
        change(model)
        onnx.save(model, path)

    return spoil


def fix_the_batch(model: onnx.ModelProto) -> None:
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_value = 1


def move_the_weights_out(models: Path) -> None:
    path = models / ONNX / "1" / "model.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    path.with_name("weights.bin").unlink()


def config(model: str) -> str:
    return f"{model}/config.pbtxt"


GARBAGE = b"<html>not found</html>" * 10
CASES = {
    "no config": Case(remove(config(ONNX)), ONNX, "without config.pbtxt"),
    "a misspelt field": Case(edit(config(ONNX), "backend", "backened"), config(ONNX), "is not a model configuration"),
    "another name": Case(edit(config(ONNX), ONNX, "resnet50"), config(ONNX), "is of resnet50"),
    "a backend that is none": Case(edit(config(ONNX), "onnxruntime", "onnx"), config(ONNX), "names the backend 'onnx'"),
    "another version": Case(edit(config(ONNX), "versions: [1]", "versions: [3]"), config(ONNX), "serves version 3"),
    "no artefact": Case(remove(f"{ONNX}/1/model.onnx"), f"{ONNX}/1/model.onnx", "is not there"),
    "no ONNX": Case(write(f"{ONNX}/1/model.onnx", GARBAGE), f"{ONNX}/1/model.onnx", "is not an ONNX model"),
    "no weights": Case(move_the_weights_out, f"{ONNX}/1/model.onnx", "keeps its weights in weights.bin"),
    "no TorchScript": Case(write(f"{TORCHSCRIPT}/1/model.pt", GARBAGE), f"{TORCHSCRIPT}/1/model.pt", "does not run"),
    "no labels": Case(remove(f"{ONNX}/labels.txt"), f"{ONNX}/labels.txt", "names the classes of probabilities"),
    "one label": Case(write(f"{ONNX}/labels.txt", b"cat\n"), f"{ONNX}/labels.txt", "1 labels for", fault=False),
    "no warm-up": Case(remove(f"{STEP}/warmup/picture"), f"{STEP}/warmup/picture", "is what 'batch 1' sends"),
    "no version": Case(remove(f"{ONNX}/1"), ONNX, "has no version directory"),
    "no version of an ensemble": Case(remove(f"{ENSEMBLE}/1"), ENSEMBLE, "has no version directory"),
    "another input": Case(edit(config(ONNX), "pixels", "image", 9), f"{ONNX}/1/model.onnx", "has the inputs pixels"),
    "another type": Case(
        edit(config(ONNX), "TYPE_UINT8", "TYPE_FP32", 9), f"{ONNX}/1/model.onnx", "pixels is TYPE_UINT8, and TYPE_FP32"
    ),
    "other dims": Case(
        edit(config(ONNX), "[224, 224, 3]", "[256, 256, 3]", 9), f"{ONNX}/1/model.onnx", r"has the dims \[224, 224, 3\]"
    ),
    "a fixed batch": Case(graph(fix_the_batch), f"{ONNX}/1/model.onnx", "pixels has a first dim of 1"),
    "another argument": Case(
        edit(config(TORCHSCRIPT), "pixels", "x", 9), f"{TORCHSCRIPT}/1/model.pt", "takes pixels, and the configuration"
    ),
    "other dims of TorchScript": Case(
        edit(config(TORCHSCRIPT), "dims: [1000]", "dims: [1001]"), f"{TORCHSCRIPT}/1/model.pt", r"the dims \[1000\]"
    ),
    "no step": Case(remove(STEP), config(ENSEMBLE), "has the step seresnext101_preprocess, which is not here"),
    "larger batches than the step": Case(
        edit(config(ENSEMBLE), "max_batch_size: 4", "max_batch_size: 8"), config(ENSEMBLE), "takes 8 at once"
    ),
    "a version that is not there": Case(
        edit(config(ENSEMBLE), "model_version: -1", "model_version: 7"), config(ENSEMBLE), "wants version 7"
    ),
    "an input that the step has not": Case(
        edit(config(ENSEMBLE), 'key: "image"', 'key: "picture"'), config(ENSEMBLE), "gives .*_preprocess picture"
    ),
    "an output that the step has not": Case(
        edit(config(ENSEMBLE), 'key: "probabilities"', 'key: "logits"'), config(ENSEMBLE), "has no output logits"
    ),
    "a tensor that nobody wrote": Case(
        edit(config(ENSEMBLE), 'value: "image"', 'value: "picture"'), config(ENSEMBLE), "reads picture, which nothing"
    ),
    "steps that differ": Case(
        edit(config(STEP), "dims: [224, 224, 3]", "dims: [3, 224, 224]"), config(ENSEMBLE), r"and .* takes TYPE_UINT8"
    ),
    "an answer of another type": Case(
        edit(config(ENSEMBLE), "TYPE_FP32", "TYPE_FP16"), config(ENSEMBLE), "answers probabilities as TYPE_FP16"
    ),
    "a package that is missing": Case(
        edit(f"{STEP}/1/model.py", "import json\n", "import json\nimport cv2\n"), f"{STEP}/1/model.py", "imports cv2"
    ),
    "a step that is no Python": Case(write(f"{STEP}/1/model.py", b"def"), f"{STEP}/1/model.py", "is not Python"),
    "a GPU that is not there": Case(
        edit(config(ONNX), "count: 1", "count: 1\n  kind: KIND_GPU"), config(ONNX), "asks for KIND_GPU"
    ),
    "open to everybody": Case(
        lambda models: (models / STEP / "1" / "model.py").chmod(0o666), f"{STEP}/1/model.py", "everybody", fault=False
    ),
}  # fmt: skip


@pytest.fixture
def models(small_repository: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_repository, tmp_path / "models")


def test_a_built_repository_has_nothing_to_mend(small_repository: Path) -> None:
    assert linter.check(small_repository, on_cpu=True) == []


@pytest.mark.parametrize("name", CASES)
def test_what_is_broken_is_found(name: str, models: Path) -> None:
    case = CASES[name]
    case.spoil(models)
    found = [finding for finding in linter.check(models, on_cpu=True) if re.search(case.cause, finding.cause)]
    assert (case.file, case.fault) in {(finding.file, finding.fault) for finding in found}
    assert all(finding.mend for finding in found)


@pytest.mark.triton
@pytest.mark.parametrize("name", CASES)
def test_a_server_agrees(name: str, models: Path) -> None:
    """What the linter calls a fault keeps an ensemble from being served; a risk does not."""
    CASES[name].spoil(models)
    assert _served(models) is not CASES[name].fault


def _served(models: Path) -> bool:
    try:
        with TritonServer(models, device=Device.CPU) as server:
            return not server.failed
    except SeresnextServerError:
        return False


@pytest.fixture
def with_a_plan(models: Path) -> Callable[[bytes], Path]:
    """A repository with an engine whose file begins like that."""
    folder = models / "seresnext101_tensorrt"
    expected = Path(__file__).parent / "expected" / "seresnext101_tensorrt.pbtxt"

    def write(content: bytes) -> Path:
        (folder / "1").mkdir(parents=True)
        shutil.copy(expected, folder / "config.pbtxt")
        shutil.copy(models / ONNX / "labels.txt", folder)
        (folder / "1" / "model.plan").write_bytes(content)
        return models

    return write


def header(*version: int) -> bytes:
    return struct.pack("<II16x4B", 0x74727466, 0, *version) + bytes(100)


PINNED = plan.parse(pins.read()["TENSORRT_VERSION"])


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (header(PINNED.major, PINNED.minor, PINNED.patch, 9), ""),
        (header(10, 16, 1, 11), "is of TensorRT 10.16.1, and Triton"),
        (header(PINNED.major, PINNED.minor, PINNED.patch + 1, 0), "is of TensorRT"),
        (b"ftrt", "it has 4 bytes"),
        (b"", "it has 0 bytes"),
        (b"\x08\x09" + bytes(100), "it begins with 08 09"),
    ],
)
def test_a_plan_is_of_the_servers_tensorrt(content: bytes, cause: str, with_a_plan: Callable[[bytes], Path]) -> None:
    found = linter.check(with_a_plan(content))
    if not cause:
        assert found == []
        return
    (finding,) = found
    assert finding.file == "seresnext101_tensorrt/1/model.plan"
    assert cause in finding.cause


def test_an_engine_needs_a_gpu(with_a_plan: Callable[[bytes], Path]) -> None:
    (finding,) = linter.check(with_a_plan(header(PINNED.major, PINNED.minor, PINNED.patch, 0)), on_cpu=True)
    assert finding.cause == "is an engine, and there is no GPU"


def test_what_is_no_repository_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UnusableRepository):
            linter.check(path)


def test_the_command_ends_with_5_for_faults_and_prints_json(models: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["check", "--repository", str(models)]).stdout == f"{models}: nothing to mend\n"
    (models / ONNX / "labels.txt").unlink()
    finished = runner.invoke(app, ["check", "--repository", str(models), "--output", "json"])
    assert finished.exit_code == 5
    (finding,) = json.loads(finished.stdout)
    assert set(finding) == {"file", "cause", "mend", "fault"}
    finished = runner.invoke(app, ["check", "--repository", str(models)])
    assert finished.stdout.startswith(
        f"fault: {ONNX}/labels.txt: names the classes of probabilities and is not there; "
    )
