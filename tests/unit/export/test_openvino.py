"""OpenVINO on the ONNX graphs of the two-block network, with the real runtime."""

import numpy as np
import openvino
import pytest
from tests.support.small_network import Export

from seresnext_client.contract import FormatName
from seresnext_export import verify
from seresnext_export.formats.base import Precision, precisions_of
from seresnext_export.reference import ReferenceOutputs


@pytest.mark.parametrize("precision", precisions_of(FormatName.OPENVINO))
def test_an_artefact_agrees_with_the_eager_network(
    precision: Precision, export: Export, reference: ReferenceOutputs
) -> None:
    artefact, path = export(FormatName.OPENVINO, precision)
    assert verify.verify(artefact.load(path), reference, precision, (1, 3, 8)).passed
    assert list(path.parent.iterdir()) == [path]  # one format, one file


@pytest.mark.parametrize("precision", precisions_of(FormatName.OPENVINO))
def test_an_answer_does_not_depend_on_the_batch(
    precision: Precision, export: Export, reference: ReferenceOutputs
) -> None:
    artefact, path = export(FormatName.OPENVINO, precision)
    predict, pixels = artefact.load(path), reference.pixels
    alone = verify.log_probabilities(predict, pixels, 1)
    np.testing.assert_allclose(alone, verify.log_probabilities(predict, pixels, 5), atol=0.05)


def test_answers_outlive_the_next_batch(export: Export, reference: ReferenceOutputs) -> None:
    artefact, path = export(FormatName.OPENVINO, Precision.BF16)
    predict = artefact.load(path)
    answers = predict(reference.pixels[:2])
    before = answers.copy()
    predict(reference.pixels[2:4])
    np.testing.assert_array_equal(answers, before)


def test_it_computes_in_bf16_if_the_cpu_has_it_and_otherwise_says_so(
    export: Export, reference: ReferenceOutputs, caplog: pytest.LogCaptureFixture
) -> None:
    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    artefact, path = export(FormatName.OPENVINO, Precision.BF16)
    predict = artefact.load(path)
    assert bool(caplog.records) is not has_bf16
    assert verify.verify(predict, reference, Precision.FP32, (8,)).passed is not has_bf16
