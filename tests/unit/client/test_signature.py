"""What a server says of a model becomes one signature, or one sentence that says why it is no image classifier."""

import pytest

from seresnext_client.signature import (
    CONTRACT_IMAGES,
    CONTRACT_PIXELS,
    EncodedInput,
    Layout,
    NotImageClassifier,
    PixelInput,
    signature_of,
)
from seresnext_client.transports.base import ModelConfiguration, ModelDescription, TensorMetadata

Tensor = tuple[str, str, tuple[int, ...]]
SCORES: Tensor = ("scores", "FP32", (-1, 1000))


def description(
    *inputs: Tensor, outputs: tuple[Tensor, ...] = (SCORES,), config: ModelConfiguration | None = None
) -> ModelDescription:
    return ModelDescription(
        inputs=tuple(TensorMetadata(*tensor) for tensor in inputs),
        outputs=tuple(TensorMetadata(*tensor) for tensor in outputs),
        config=config,
    )


@pytest.mark.parametrize(
    ("shape", "layout", "height", "width"),
    [
        ((-1, 3, 224, 224), Layout.NCHW, 224, 224),
        ((-1, 299, 299, 3), Layout.NHWC, 299, 299),
        ((-1, 192, 256, 3), Layout.NHWC, 192, 256),
        ((-1, 3, 192, 256), Layout.NCHW, 192, 256),
        ((-1, 3, -1, -1), Layout.NCHW, None, None),
        ((-1, -1, -1, 3), Layout.NHWC, None, None),
    ],
)
@pytest.mark.parametrize("datatype", ["UINT8", "FP16", "FP32"])
def test_pixels_have_a_layout_and_a_size(
    shape: tuple[int, ...], layout: Layout, height: int | None, width: int | None, datatype: str
) -> None:
    signature = signature_of(description(("x", datatype, shape)))
    assert signature.input == PixelInput(name="x", datatype=datatype, layout=layout, height=height, width=width)
    assert signature.has_batch_axis
    assert signature.output == "scores"


@pytest.mark.parametrize(
    ("tensor", "output", "axes", "has_batch_axis"),
    [
        (("x", "BYTES", (-1, 1)), (-1, 10), 1, True),
        (("x", "BYTES", (-1, 1, 1)), (-1, 10), 2, True),
        (("x", "BYTES", (-1,)), (-1, 10), 0, True),
        (("x", "BYTES", (-1,)), (10,), 1, False),
        (("x", "BYTES", (1,)), (10,), 1, False),
        (("x", "UINT8", (-1, -1)), (-1, 10), 1, True),
        (("x", "UINT8", (-1,)), (10,), 1, False),
    ],
)
def test_encoded_images_are_bytes_or_the_bytes_of_a_file(
    tensor: Tensor, output: tuple[int, ...], axes: int, has_batch_axis: bool
) -> None:
    signature = signature_of(description(tensor, outputs=(("y", "FP32", output),)))
    assert signature.input == EncodedInput(name="x", datatype=tensor[1], axes=axes)
    assert signature.has_batch_axis == has_batch_axis


def test_the_bytes_of_one_file_are_one_request() -> None:
    config = ModelConfiguration(max_batch_size=8)
    assert signature_of(description(("x", "UINT8", (-1, -1)), config=config)).max_batch_size == 1


def test_models_of_the_contract_have_the_signatures_of_the_contract() -> None:
    probabilities = (("probabilities", "FP32", (-1, 1000)),)
    assert signature_of(description(("image", "BYTES", (-1, 1)), outputs=probabilities)) == CONTRACT_IMAGES
    pixels = description(("pixels", "UINT8", (-1, 224, 224, 3)), outputs=probabilities)
    assert signature_of(pixels) == CONTRACT_PIXELS


@pytest.mark.parametrize(
    ("shape", "config", "max_batch_size"),
    [
        ((-1, 3, 224, 224), ModelConfiguration(max_batch_size=8), 8),
        ((-1, 3, 224, 224), ModelConfiguration(), None),
        ((1, 3, 224, 224), ModelConfiguration(), 1),
        ((3, 224, 224), ModelConfiguration(), 1),
        ((-1, 3, 224, 224), None, None),
    ],
)
def test_the_configuration_or_a_first_axis_of_one_bounds_the_batch_size(
    shape: tuple[int, ...], config: ModelConfiguration | None, max_batch_size: int | None
) -> None:
    assert signature_of(description(("x", "FP32", shape), config=config)).max_batch_size == max_batch_size


def test_the_format_decides_where_the_shape_does_not() -> None:
    for layout in Layout:
        config = ModelConfiguration(formats={"x": f"FORMAT_{layout}"})
        pixels = signature_of(description(("x", "FP32", (-1, 3, 224, 3)), config=config)).input
        assert isinstance(pixels, PixelInput)
        assert pixels.layout is layout


def test_optional_inputs_are_left_out() -> None:
    config = ModelConfiguration(optional_inputs=frozenset({"threshold"}))
    tensors: tuple[Tensor, ...] = (("x", "BYTES", (-1, 1)), ("threshold", "FP32", (-1, 1)))
    assert signature_of(description(*tensors, config=config)).input.name == "x"


@pytest.mark.parametrize(
    ("outputs", "name"),
    [
        ((("y", "FP16", (-1, 10)),), "y"),
        ((("y", "FP32", (-1, 1000, 1, 1)),), "y"),
        ((("y", "FP32", (1000,)),), "y"),
        ((("boxes", "FP32", (-1, 10, 4)), ("y", "FP32", (-1, 10))), "y"),
        ((("probabilities", "FP32", (-1, 10)), ("features", "FP32", (-1, 2048))), "probabilities"),
    ],
)
def test_the_output_with_a_row_of_scores_is_asked_for(outputs: tuple[Tensor, ...], name: str) -> None:
    assert signature_of(description(("x", "BYTES", (-1, 1)), outputs=outputs)).output == name


def test_of_several_rows_the_one_with_labels_is_asked_for() -> None:
    config = ModelConfiguration(labeled_outputs=frozenset({"classes"}))
    outputs = (("features", "FP32", (-1, 2048)), ("classes", "FP32", (-1, 10)))
    assert signature_of(description(("x", "BYTES", (-1, 1)), outputs=outputs, config=config)).output == "classes"


@pytest.mark.parametrize(
    ("inputs", "outputs", "config", "words"),
    [
        ([("a", "BYTES", (-1, 1)), ("b", "BYTES", (-1, 1))], (SCORES,), None, "takes 2 inputs .*a BYTES.*b BYTES"),
        ([("x", "BYTES", (-1, 1)), ("n", "INT64", (-1, 1))], (SCORES,), None, "takes 2 inputs"),
        ([("ids", "INT64", (-1, 128))], (SCORES,), None, r"takes ids INT64 \[-1,128\], and an image is"),
        ([("x", "FP32", (-1, 1, 28, 28))], (SCORES,), None, r"x FP32 \[-1,1,28,28\], and an image is"),
        ([("x", "FP32", (-1, 4))], (SCORES,), None, "an image is"),
        ([("x", "FP32", (8, 3, 224, 224))], (SCORES,), None, "exactly 8 images"),
        ([("x", "FP32", (-1, 3, 224, 3))], (SCORES,), None, "which axis"),
        ([("x", "FP32", (-1, -1, -1, -1))], (SCORES,), None, "which axis"),
        ([("x", "BYTES", (-1, 1))], (SCORES,), ModelConfiguration(is_sequence=True), "sequences"),
        ([("x", "BYTES", (-1, 1))], (("boxes", "FP32", (-1, 10, 4)),), None, "none of them is"),
        ([("x", "BYTES", (-1, 1))], (("a", "FP32", (-1, 9)), ("b", "FP32", (-1, 9))), None, "several of them"),
        ([("x", "BYTES", (-1, 1))], (("y", "INT64", (-1, 10)),), None, "none of them is"),
        ([], (SCORES,), None, "takes no input"),
    ],
)
def test_what_is_no_image_classifier_is_one_sentence_that_names_its_tensors(
    inputs: list[Tensor], outputs: tuple[Tensor, ...], config: ModelConfiguration | None, words: str
) -> None:
    with pytest.raises(NotImageClassifier, match=words) as caught:
        signature_of(description(*inputs, outputs=outputs, config=config))
    assert "\n" not in str(caught.value)
