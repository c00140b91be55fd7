"""Builds of a two-block network: what they change, what they leave alone, and what a failure leaves behind."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.files import snapshot
from tests.support.small_network import small_request

from seresnext_client.contract import PREPROCESSING_MODEL, FormatName, provenance_parameter
from seresnext_client.errors import MissingPrerequisite
from seresnext_client.progress import NullPhase, Phase
from seresnext_client.provenance import CheckpointIdentity, Provenance
from seresnext_export import layout, pbtxt, provenance, repository
from seresnext_export.build import build
from seresnext_export.checkpoints.source import Checkpoint, CheckpointLocation
from seresnext_export.errors import InvalidCheckpoint, NoVerificationImages, VerificationFailed
from seresnext_export.formats.torchscript import TorchScript
from seresnext_export.network import Network
from seresnext_export.request import BuildRequest, BuildResult, NetworkResult
from seresnext_export.serving import PreprocessingParameters, Serving

TORCHSCRIPT, ONNX = FormatName.TORCHSCRIPT, FormatName.ONNX
TORCHSCRIPT_MODELS = (PREPROCESSING_MODEL, TORCHSCRIPT.network, TORCHSCRIPT.ensemble)


@pytest.fixture
def build_request(small_network: Network) -> BuildRequest:
    return small_request(TORCHSCRIPT, network=small_network)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """Where a repository will be; nothing may be left beside it."""
    yield tmp_path / "models"
    assert {path.name for path in tmp_path.iterdir()} <= {"models"}


@pytest.fixture
def built(small_repository: Path, target: Path) -> Path:
    """A repository in which `build_request` has nothing to do; it has ONNX, too."""
    return shutil.copytree(small_repository, target)


def exported(result: BuildResult, name: FormatName = TORCHSCRIPT) -> bool:
    return result.network(name).timings is not None


def batch_sizes(target: Path) -> dict[str, int]:
    return {path.parent.name: pbtxt.parse(path.read_text()).max_batch_size for path in target.glob("*/config.pbtxt")}


def test_a_build_writes_the_models_that_it_was_asked_for(build_request: BuildRequest, target: Path) -> None:
    result = build(build_request, target)
    assert tuple(model.model for model in result.models) == TORCHSCRIPT_MODELS
    assert all(model.published for model in result.models)
    assert sorted(path.name for path in target.iterdir()) == sorted(TORCHSCRIPT_MODELS)
    assert {path.name for path in (target / TORCHSCRIPT.network).rglob("*")} == {
        *("1", "model.pt", "provenance.json", "reference.npz", "labels.txt", "config.pbtxt")
    }
    assert (target / TORCHSCRIPT.ensemble / "1").is_dir()
    for file in layout.PREPROCESSING_FILES:
        copied = target / PREPROCESSING_MODEL / "1" / file
        assert copied.read_bytes() == (provenance.CLIENT_DIR / file).read_bytes()


def test_provenance_lies_in_each_version_and_in_the_configuration(build_request: BuildRequest, target: Path) -> None:
    network = build(build_request, target).network(TORCHSCRIPT)
    folder = target / TORCHSCRIPT.network
    assert network.provenance.inputs.checkpoint == CheckpointIdentity(source="small", sha256="1")
    verification = network.provenance.verification
    assert verification.tolerance == 1e-3
    assert verification.max_difference < verification.tolerance
    assert network.provenance.inputs.versions["torch"]
    assert provenance.read(folder / "1") == network.provenance
    config = pbtxt.parse((folder / layout.CONFIG).read_text())
    assert Provenance.from_json(config.parameters[provenance_parameter(1)].string_value) == network.provenance


def test_the_same_build_again_loads_no_weights_and_changes_nothing(build_request: BuildRequest, built: Path) -> None:
    before = snapshot(built)
    assert isinstance(build_request.checkpoint, Checkpoint)
    checkpoint = replace(build_request.checkpoint, load=pytest.fail)
    assert not build(replace(build_request, checkpoint=checkpoint), built).published
    assert snapshot(built) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.pt").write_bytes(b"damaged"),
        lambda folder: (folder / "provenance.json").write_text("[]"),
        lambda folder: (folder / "provenance.json").write_text('{"artefact": []}'),
        lambda folder: (folder / "model.pt").unlink(),
    ],
)
def test_an_artefact_that_was_changed_is_exported_again(
    damage: Callable[[Path], object], build_request: BuildRequest, built: Path
) -> None:
    folder = layout.version_folder(built, TORCHSCRIPT, 1)
    damage(folder)
    assert exported(build(build_request, built))
    assert (folder / "model.pt").stat().st_size > 1000


def test_force_exports_again(build_request: BuildRequest, built: Path) -> None:
    assert exported(build(replace(build_request, force=True), built))


def test_another_checkpoint_is_exported_again(build_request: BuildRequest, small_network: Network, built: Path) -> None:
    assert exported(build(small_request(TORCHSCRIPT, network=small_network, sha256="2"), built))


@pytest.mark.parametrize(
    ("file", "stale"),
    [
        *((file, True) for file in ("network.py", "formats/torchscript.py", "verify.py")),
        *((file, False) for file in ("cli.py", "linter/files.py", "formats/onnx.py", "assembly.py")),
    ],
)
def test_only_a_source_that_decides_the_artefact_makes_it_stale(
    file: str, stale: bool, build_request: BuildRequest, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = layout.PACKAGE_DIR / file
    assert changed.is_file()
    digest = repository.digest
    monkeypatch.setattr(provenance, "digest", lambda path: "changed" if path == changed else digest(path))
    assert exported(build(build_request, built)) is stale


def test_another_queue_delay_changes_only_the_configuration(build_request: BuildRequest, built: Path) -> None:
    before = snapshot(built)
    serving = replace(build_request.serving, queue_delay_us=5)
    assert not exported(build(replace(build_request, serving=serving), built))
    after = snapshot(built)
    different = {name for name in before | after if before.get(name) != after.get(name)}
    assert {Path(name).name for name in different} <= {"config.pbtxt", "labels.txt"}  # artefacts are linked, not copied
    config = pbtxt.parse((built / TORCHSCRIPT.network / layout.CONFIG).read_text())
    assert config.dynamic_batching.max_queue_delay_microseconds == 5


def test_the_parameters_of_the_preprocessing_model_are_written(build_request: BuildRequest, target: Path) -> None:
    parameters = PreprocessingParameters(scaled_jpeg_decoding=True, threads=3)
    build(replace(build_request, serving=Serving(max_batch_size=4, preprocessing=parameters)), target)
    config = pbtxt.parse(layout.config_path(target, PREPROCESSING_MODEL).read_text())
    written = {key: value.string_value for key, value in config.parameters.items()}
    assert written.items() >= {"scaled_jpeg_decoding": "true", "threads": "3"}.items()


def test_a_new_version_keeps_the_old_one(build_request: BuildRequest, built: Path) -> None:
    network = built / TORCHSCRIPT.network
    first = snapshot(network / "1")
    build(replace(build_request, version=2), built)
    assert snapshot(network / "1") == first
    assert (network / "2" / "model.pt").is_file()
    config = (network / layout.CONFIG).read_text()
    assert set(pbtxt.parse(config).parameters) == {"provenance.1", "provenance.2"}
    assert pbtxt.served_version(config) == 2


def test_a_format_is_added_without_touching_the_others(build_request: BuildRequest, target: Path) -> None:
    build(build_request, target)
    before = snapshot(target)
    build(replace(build_request, formats=(ONNX,)), target)
    assert {path.name for path in target.iterdir()} == {*TORCHSCRIPT_MODELS, ONNX.network, ONNX.ensemble}
    assert snapshot(target).items() >= before.items()


def test_smaller_batches_of_one_format_leave_the_others_loadable(
    build_request: BuildRequest, small_network: Network, target: Path
) -> None:
    build(build_request, target)
    build(small_request(ONNX, network=small_network, max_batch_size=2), target)
    assert batch_sizes(target) == dict.fromkeys(TORCHSCRIPT_MODELS, 4) | {ONNX.network: 2, ONNX.ensemble: 2}


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4)])
def test_while_a_build_publishes_no_ensemble_takes_larger_batches_than_its_models(
    before: int, after: int, small_network: Network, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton refuses such an ensemble, so a build that is killed in between must not leave one."""
    publish_model = repository.publish_model
    states: list[dict[str, int]] = []

    def observed(staged: Path, folder: Path) -> bool:
        published = publish_model(staged, folder)
        states.append(batch_sizes(folder))
        return published

    build(small_request(TORCHSCRIPT, network=small_network, max_batch_size=before), target)
    monkeypatch.setattr(repository, "publish_model", observed)
    build(small_request(TORCHSCRIPT, network=small_network, max_batch_size=after), target)
    assert len(states) == 3
    assert all(sizes[TORCHSCRIPT.ensemble] <= min(sizes.values()) for sizes in states)


def test_an_artefact_that_disagrees_is_not_published(
    build_request: BuildRequest, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(built)
    load = TorchScript.load

    def load_mirrored(self: TorchScript, path: Path) -> Callable[[Any], Any]:
        predict = load(self, path)
        return lambda pixels: predict(pixels[:, :, ::-1].copy())

    monkeypatch.setattr(TorchScript, "load", load_mirrored)
    with pytest.raises(VerificationFailed, match="torchscript fp32 differs"):
        build(replace(build_request, force=True), built)
    assert snapshot(built) == before


def test_an_interrupted_build_leaves_the_repository_as_it_was(build_request: BuildRequest, built: Path) -> None:
    before = snapshot(built)

    class Interrupted:
        @contextmanager
        def phase(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Phase]:
            yield NullPhase()
            if name.startswith("verifying"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(replace(build_request, force=True), built, Interrupted())
    assert snapshot(built) == before


def test_progress_is_complete_when_a_phase_ends(build_request: BuildRequest, target: Path) -> None:
    class Counted(NullPhase):
        def __init__(self, total: float | None) -> None:
            self.total, self.completed = total, 0.0

        def advance(self, amount: float = 1) -> None:
            self.completed += amount

    phases: dict[str, Counted] = {}

    class Recorded:
        @contextmanager
        def phase(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Phase]:
            phases[name] = Counted(total)
            yield phases[name]

    build(build_request, target, Recorded())
    assert list(phases) == [
        *("reading weights", "exporting torchscript fp32", "computing reference outputs"),
        *("verifying torchscript fp32", "publishing"),
    ]
    counted = [phase for phase in phases.values() if phase.total]
    assert len(counted) == 2
    assert all(phase.completed == phase.total for phase in counted)


class Untouched(CheckpointLocation):
    """A checkpoint that a test must not get to."""

    def fetch(self, progress: object) -> Checkpoint:
        raise AssertionError("the checkpoint is fetched before everything else is checked")


def test_a_missing_package_is_found_before_the_checkpoint_is_fetched(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else True)
    request = BuildRequest(formats=(TORCHSCRIPT, ONNX), checkpoint=Untouched("ngc"), images=())
    with pytest.raises(MissingPrerequisite, match=r"needs onnxruntime: pip install '\.\[export,cpu\]'"):
        build(request, target)
    assert not target.exists()


def test_missing_images_are_found_before_the_checkpoint_is_fetched(target: Path, tmp_path: Path) -> None:
    request = BuildRequest(formats=(TORCHSCRIPT,), checkpoint=Untouched("ngc"), images=(tmp_path / "missing.jpg",))
    with pytest.raises(NoVerificationImages, match=r"missing\.jpg"):
        build(request, target)
    assert not target.exists()


def test_a_missing_checkpoint_leaves_no_repository(target: Path, tmp_path: Path) -> None:
    request = BuildRequest(formats=(TORCHSCRIPT,), checkpoint=CheckpointLocation(str(tmp_path / "missing.pth")))
    with pytest.raises(InvalidCheckpoint, match=r"missing\.pth"):
        build(request, target)
    assert not target.exists()


def test_images_that_cannot_be_decoded_are_named(
    build_request: BuildRequest,
    target: Path,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damaged = tmp_path_factory.mktemp("images") / "damaged.jpg"
    damaged.write_bytes(b"not an image")
    with caplog.at_level(logging.WARNING):
        build(replace(build_request, images=(damaged, *build_request.images)), target)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("1 of 4 images cannot be decoded")
    assert str(damaged) in message


def test_the_result_of_a_network_is_typed(build_request: BuildRequest, target: Path) -> None:
    result = build(build_request, target)
    network = result.network(TORCHSCRIPT)
    assert isinstance(network, NetworkResult)
    assert network.version == 1
    assert network.timings is not None
    assert network.timings.export_s > 0
    assert network.timings.verify_s > 0
    assert json.loads(network.provenance.to_json())["artefact"]["file"] == "model.pt"
    with pytest.raises(KeyError):
        result.network(ONNX)
