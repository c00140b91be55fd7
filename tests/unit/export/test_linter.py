"""Broken repositories: the linter names the file and the cause, and never ends with a traceback."""

import json
import random
import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.support import provenances
from tests.support.broken_repositories import CASES
from typer.testing import CliRunner

from seresnext_client.contract import FormatName
from seresnext_client.provenance import EngineProfile
from seresnext_export import layout, linter, provenance, release
from seresnext_export.cli import app
from seresnext_export.errors import InvalidRepository
from seresnext_export.formats.tensorrt import plan_header
from seresnext_export.formats.tensorrt.options import EngineOptions
from seresnext_export.linter.model_directory import Finding, ModelDirectory, read

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
ONNX, TORCHSCRIPT, TENSORRT = FormatName.ONNX.network, FormatName.TORCHSCRIPT.network, FormatName.TENSORRT.network
EXPECTED = Path(__file__).parent / "expected"


@pytest.fixture
def models(small_repository: Path, tmp_path: Path) -> Path:
    """A repository that a test may break."""
    return shutil.copytree(small_repository, tmp_path / "models")


def test_a_built_repository_has_nothing_to_fix(small_repository: Path) -> None:
    assert linter.check(small_repository, on_cpu=True) == []


@pytest.mark.parametrize("name", CASES)
def test_a_defect_is_found_in_its_file(name: str, models: Path) -> None:
    case = CASES[name]
    case.damage(models)
    findings = [finding for finding in linter.check(models, on_cpu=True) if re.search(case.cause, finding.cause)]
    assert (case.file, case.fault) in {(finding.file, finding.fault) for finding in findings}
    assert all(finding.fix for finding in findings)


class TwoOutputs(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return pixels.float().mean((1, 2)), pixels.float()


class ListOutput(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        return [pixels.float()]


class NumberOutput(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> int:
        return pixels.size(0)


@pytest.mark.parametrize(
    ("module", "cause"),
    [
        (TwoOutputs(), r"returns 2 values \(Tensor, Tensor\); the configuration has 1 outputs"),
        (ListOutput(), r"probabilities has the dims \[224, 224, 3\]"),
        (NumberOutput(), r"returns 1 values \(int\)"),
    ],
)
def test_a_torchscript_module_with_other_outputs_is_a_finding(
    module: torch.nn.Module, cause: str, models: Path
) -> None:
    torch.jit.save(torch.jit.script(module), models / TORCHSCRIPT / "1" / "model.pt")
    assert any(re.search(cause, finding.cause) for finding in linter.check(models, on_cpu=True))


def test_a_torchscript_module_with_two_outputs_may_be_configured(models: Path) -> None:
    torch.jit.save(torch.jit.script(TwoOutputs()), models / TORCHSCRIPT / "1" / "model.pt")
    config = models / TORCHSCRIPT / layout.CONFIG
    outputs = "\n".join(
        f'output {{ name: "{name}" data_type: TYPE_FP32 dims: {dims} }}'
        for name, dims in (("means", [3]), ("copies", [224, 224, 3]))
    )
    text = re.sub(r"^output \{.*?^\}", outputs, config.read_text(), flags=re.DOTALL | re.MULTILINE)
    config.write_text(text)
    assert not [finding for finding in linter.check(models) if finding.file.endswith("model.pt")]


HOSTILE = {
    "a file name outside the repository": ('default_model_filename: "model.onnx"', 'default_model_filename: "/etc/x"'),
    "a file name that is too long": ("labels.txt", "x" * 5000),
    "a file name with a NUL": ("labels.txt", r"\000"),
    "an unknown type": ("data_type: TYPE_FP32", "data_type: 77"),
    "a negative dim": ("dims: [1000]", "dims: [-7]"),
    "a huge dim": ("dims: [224, 224, 3]", "dims: [2000000000, 2000000000]"),
    "no dims": ("dims: [1000]", ""),
    "no output": (r"output {", "input {"),
}


@pytest.mark.parametrize("model", [ONNX, TORCHSCRIPT])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_configuration_is_a_finding(name: str, model: str, models: Path) -> None:
    old, new = HOSTILE[name]
    config = models / model / layout.CONFIG
    config.write_text(
        config.read_text().replace(old.replace("model.onnx", "model.pt") if model == TORCHSCRIPT else old, new)
    )
    assert linter.check(models, on_cpu=True)


def test_code_that_only_type_checkers_see_is_not_imported(models: Path) -> None:
    source = models / "seresnext101_preprocess" / "1" / "model.py"
    source.write_text(
        "from typing import TYPE_CHECKING\n"
        "class TritonPythonModel: ...\n"
        "if TYPE_CHECKING:\n    import missing_here\nelse:\n    import missing_there\n"
        "def late():\n    import missing_late\n"
    )
    causes = {finding.cause for finding in linter.check(models, on_cpu=True)}
    assert causes == {f"imports missing_{name}, which is not installed" for name in ("there", "late")}


@given(content=st.binary(max_size=500))
def test_any_configuration_is_a_model_or_a_finding(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("model")
    (folder / layout.CONFIG).write_bytes(content)
    result = read(folder)
    assert isinstance(result, Finding) == (not isinstance(result, ModelDirectory))
    if isinstance(result, Finding):
        assert result.fix


@pytest.fixture(scope="module")
def light_repository(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository without the artefact that takes long to load."""
    ignore = shutil.ignore_patterns("model.pt")
    return shutil.copytree(small_repository, tmp_path_factory.mktemp("light") / "models", ignore=ignore)


def test_no_damage_to_a_configuration_ends_in_a_traceback(light_repository: Path) -> None:
    """Lines of real configurations left out, doubled and exchanged, two hundred times."""
    expected = {finding.file for finding in linter.check(light_repository, on_cpu=True)}
    assert expected == {f"{TORCHSCRIPT}/1/model.pt"}
    configs = sorted(light_repository.glob("*/config.pbtxt"))
    noticed = 0
    for seed in range(200):
        chance = random.Random(seed)
        path = chance.choice(configs)
        original = path.read_text()
        lines = original.splitlines()
        for _ in range(chance.randint(1, 3)):
            first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
            match chance.randrange(3):
                case 0:
                    del lines[first]
                case 1:
                    lines.insert(first, lines[second])
                case _:
                    lines[first], lines[second] = lines[second], lines[first]
        path.write_text("\n".join(lines))
        noticed += {finding.file for finding in linter.check(light_repository, on_cpu=True)} != expected
        path.write_text(original)
    assert noticed > 100


@pytest.fixture
def with_plan(models: Path) -> Callable[[bytes], Path]:
    """Returns the repository with an engine of this content."""
    folder = models / TENSORRT

    def write(content: bytes) -> Path:
        (folder / "1").mkdir(parents=True)
        shutil.copy(EXPECTED / f"{TENSORRT}.pbtxt", folder / layout.CONFIG)
        shutil.copy(models / ONNX / layout.LABELS, folder)
        (folder / "1" / "model.plan").write_bytes(content)
        return models

    return write


def header(*version: int) -> bytes:
    return struct.pack("<II16x4B", 0x74727466, 0, *version) + bytes(100)


PINNED = plan_header.parse(release.read()["TENSORRT_VERSION"])


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (header(PINNED.major, PINNED.minor, PINNED.patch, 9), ""),
        (header(10, 16, 1, 11), "was built by TensorRT 10.16.1; Triton"),
        (header(PINNED.major, PINNED.minor, PINNED.patch + 1, 0), "was built by TensorRT"),
        (b"ftrt", "it has 4 bytes"),
        (b"", "it has 0 bytes"),
        (b"\x08\x09" + bytes(100), "it begins with 08 09"),
    ],
)
def test_a_plan_is_of_the_tensorrt_of_the_server(
    content: bytes, cause: str, with_plan: Callable[[bytes], Path]
) -> None:
    findings = linter.check(with_plan(content))
    assert [finding.file for finding in findings] == ([f"{TENSORRT}/1/model.plan"] if cause else [])
    assert all(cause in finding.cause for finding in findings)


@pytest.mark.parametrize(
    ("version", "faults"),
    [
        ((PINNED.major, PINNED.minor, PINNED.patch), []),
        ((PINNED.major, PINNED.minor - 1, 9), []),
        ((PINNED.major, PINNED.minor + 1, 0), ["was built by TensorRT"]),
        ((PINNED.major - 1, 9, 9), ["was built by TensorRT"]),
    ],
)
def test_a_version_compatible_plan_is_of_an_earlier_minor_version_and_needs_an_option_of_the_server(
    version: tuple[int, int, int], faults: list[str], with_plan: Callable[[bytes], Path]
) -> None:
    repository = with_plan(header(*version, 0))
    record = provenances.provenance("ngc", plans=1)
    (plan,) = record.plans
    engine = replace(
        plan.engine,
        options=EngineOptions(version_compatible=True).as_text(),
        profile=EngineProfile(min=1, opt=8, max=32),
    )
    plan = replace(plan, engine=engine, artefact=replace(plan.artefact, file="model.plan"))
    provenance.write(repository / TENSORRT / "1", replace(record, plans=(plan,)))
    findings = linter.check(repository)
    (risk,) = [finding for finding in findings if not finding.fault]
    assert "--backend-config=tensorrt,version-compatible=true" in risk.fix
    causes = [finding.cause for finding in findings if finding.fault]
    assert len(causes) == len(faults)
    assert all(fault in cause for fault, cause in zip(faults, causes, strict=True))


def test_an_engine_needs_a_gpu(with_plan: Callable[[bytes], Path]) -> None:
    (finding,) = linter.check(with_plan(header(PINNED.major, PINNED.minor, PINNED.patch, 0)), on_cpu=True)
    assert "without a GPU" in finding.cause


@pytest.fixture
def openvino_models(models: Path) -> Path:
    """A repository with an OpenVINO model, of the ONNX model's graph."""
    network, ensemble = models / FormatName.OPENVINO.network, models / FormatName.OPENVINO.ensemble
    shutil.copytree(models / ONNX, network)
    shutil.copytree(models / FormatName.ONNX.ensemble, ensemble)
    for folder in (network, ensemble):
        text = (EXPECTED / f"{folder.name}.pbtxt").read_text()
        (folder / "config.pbtxt").write_text(text.replace("max_batch_size: 32", "max_batch_size: 4"))
    return models


def test_a_network_that_triton_does_not_batch_fits_an_ensemble_that_does(openvino_models: Path) -> None:
    assert linter.check(openvino_models, on_cpu=True) == []


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("kind: KIND_CPU", "kind: KIND_AUTO", "may be placed on a GPU"),
        ("instance_group {\n  kind: KIND_CPU\n  count: 1\n}\n", "", "may be placed on a GPU"),
        ('name: "seresnext101_openvino"', 'max_batch_size: 4 name: "seresnext101_openvino"', "is batched by Triton"),
        ("dims: [-1, 1000]", "dims: [-1, 10]", "has the dims"),
        ("dims: [-1, 1000]", "dims: [-1, 1001]", "1000 labels for the 1001 classes"),
        ("dims: [-1, 224, 224, 3]", "dims: [224, 224, 3]", "has the dims"),
    ],
)
def test_what_the_openvino_backend_refuses_is_found(old: str, new: str, cause: str, openvino_models: Path) -> None:
    config = layout.config_path(openvino_models, FormatName.OPENVINO.network)
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    assert cause in " ".join(finding.cause for finding in linter.check(openvino_models))


def test_an_openvino_model_in_openvinos_own_format_is_not_read_as_onnx(openvino_models: Path) -> None:
    network = openvino_models / FormatName.OPENVINO.network
    config = network / "config.pbtxt"
    config.write_text(config.read_text().replace('default_model_filename: "model.onnx"\n', ""))
    (network / "1" / "model.onnx").rename(network / "1" / "model.xml")
    assert linter.check(openvino_models) == []


@pytest.mark.parametrize("name", ["empty", "missing", "file"])
def test_a_directory_without_models_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRepository):
        linter.check(tmp_path / name)


def test_the_command_ends_with_5_for_faults_and_prints_json(models: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["check", "--repository", str(models)]).stdout == f"{models}: nothing to fix\n"
    (models / ONNX / layout.LABELS).unlink()
    finished = runner.invoke(app, ["check", "--repository", str(models), "--output", "json"])
    assert finished.exit_code == 5
    (finding,) = json.loads(finished.stdout)
    assert set(finding) == {"file", "cause", "fix", "severity"}
    finished = runner.invoke(app, ["check", "--repository", str(models)])
    assert finished.stdout.startswith(f"fault: {ONNX}/labels.txt: ")
