"""Which precisions a format has, and what INT8 is calibrated with."""

import logging
from pathlib import Path

import pytest
from tests.support.small_network import small_checkpoint

from seresnext_client.contract import FormatName
from seresnext_client.provenance import RANDOM, CheckpointIdentity
from seresnext_export import sample_images
from seresnext_export.build import build
from seresnext_export.checkpoints.source import Checkpoint, CheckpointSource
from seresnext_export.errors import InvalidRequest, NoCalibrationImages
from seresnext_export.formats.base import Precision, default_precision, precisions_of
from seresnext_export.network import Network
from seresnext_export.request import BuildRequest
from seresnext_export.serving import Serving

IMAGES = sample_images.bundled()


@pytest.mark.parametrize("name", FormatName)
def test_a_format_has_its_default_precision_and_refuses_those_that_it_does_not_have(name: FormatName) -> None:
    assert BuildRequest(formats=(name,), checkpoint=small_checkpoint()).precision_of(name) is default_precision(name)
    for precision in set(Precision) - set(precisions_of(name)):
        with pytest.raises(InvalidRequest, match=f"{name} has the precisions"):
            BuildRequest(formats=(name,), checkpoint=small_checkpoint(), precision=precision, calibration_images=IMAGES)


def test_trained_weights_are_not_calibrated_with_the_bundled_images() -> None:
    for location in ("ngc", "file.pt", "https://example.com/file.pt"):
        with pytest.raises(NoCalibrationImages):
            BuildRequest(
                formats=(FormatName.ONNX,), checkpoint=CheckpointSource.resolve(location), precision=Precision.INT8
            )


def test_a_download_that_may_end_in_random_weights_needs_no_calibration_images_yet() -> None:
    checkpoint = CheckpointSource.resolve("ngc", or_random=True)
    request = BuildRequest(formats=(FormatName.ONNX,), checkpoint=checkpoint, precision=Precision.INT8)
    assert request.int8_calibration_images(is_random=True) == IMAGES
    with pytest.raises(NoCalibrationImages):
        request.int8_calibration_images(is_random=False)


def test_calibration_images_are_for_int8_only() -> None:
    with pytest.raises(InvalidRequest, match="INT8 only"):
        BuildRequest(formats=(FormatName.ONNX,), checkpoint=small_checkpoint(), calibration_images=IMAGES)


def int8_request(checkpoint: Checkpoint, images: tuple[Path, ...] | None) -> BuildRequest:
    return BuildRequest(
        formats=(FormatName.ONNX, FormatName.OPENVINO),
        checkpoint=checkpoint,
        images=IMAGES[:3],
        precision=Precision.INT8,
        calibration_images=images,
        serving=Serving(max_batch_size=4),
    )


def test_one_int8_graph_serves_both_formats_and_follows_from_its_calibration_images(
    small_network: Network, tmp_path: Path
) -> None:
    repository, checkpoint = tmp_path / "models", small_checkpoint(small_network)
    first = build(int8_request(checkpoint, IMAGES[:3]), repository)
    onnx, openvino = (first.network(name).provenance for name in (FormatName.ONNX, FormatName.OPENVINO))
    assert onnx.artefact == openvino.artefact
    assert onnx.inputs.calibration_images is not None
    assert onnx.verification.tolerance is None
    assert not build(int8_request(checkpoint, IMAGES[:3]), repository).published
    again = build(int8_request(checkpoint, IMAGES[3:6]), repository).network(FormatName.OPENVINO)
    assert again.provenance.artefact.sha256 != openvino.artefact.sha256


def test_random_weights_are_calibrated_with_the_bundled_images_and_a_warning(
    small_network: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = Checkpoint(CheckpointIdentity(source=RANDOM, sha256=""), lambda: small_network)
    with caplog.at_level(logging.WARNING, logger="seresnext_export"):
        build(int8_request(checkpoint, None), tmp_path / "models")
    assert "only for them" in caplog.text
