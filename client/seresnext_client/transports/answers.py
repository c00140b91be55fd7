"""The validated parse of what a server answers to an inference request, for both protocols.

A server is trusted with its labels and with nothing else: whatever is not the answer of an image classifier raises
MalformedAnswer, which the transports turn into InvalidAnswer.
"""

import struct
from itertools import chain
from typing import TYPE_CHECKING, Any

from seresnext_client.prediction import parse_prediction
from seresnext_client.transports.base import BatchPredictions, OutputTensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LENGTH = struct.Struct("<I")  # in front of each element of a BYTES tensor


class MalformedAnswer(ValueError):
    """An answer that is not the answer of an image classifier."""


def missing_output(name: str) -> MalformedAnswer:
    """Return the error for an answer without the output."""
    return MalformedAnswer(f"no output {name!r}")


def predictions_of(output: OutputTensor, batch_size: int, top: int) -> BatchPredictions:
    """Return the classes of each image from BYTES (N, top), or (top) for a model without a batch dimension.

    Raises MalformedAnswer for another datatype or shape, for more than `top` classes, and for a cell that is not
    `value:index:label` with a finite value.
    """
    if output.datatype != "BYTES":
        message = f"datatype {output.datatype!r}, not BYTES"
        raise MalformedAnswer(message)
    cells = _byte_strings(output, batch_size * top)
    width = len(cells) // batch_size
    shape = list(output.shape)
    if not 1 <= width <= top or (shape != [batch_size, width] and (batch_size, shape) != (1, [width])):
        message = f"{len(cells)} classes in shape {shape[:8]} for the {top} best of {batch_size} images"
        raise MalformedAnswer(message)
    if len(cells) != batch_size * width:
        message = f"{len(cells)} classes in shape {shape}"
        raise MalformedAnswer(message)
    try:
        return [
            tuple(parse_prediction(rank, cells[start + rank - 1]) for rank in range(1, width + 1))
            for start in range(0, len(cells), width)
        ]
    except ValueError as error:
        raise MalformedAnswer(str(error)) from error


def probabilities_of(output: OutputTensor, batch_size: int) -> "NDArray[np.float32]":
    """Return FP32 (N, classes). Raises MalformedAnswer for another datatype or shape, and where one is not finite."""
    import numpy as np

    shape = tuple(output.shape)
    if output.datatype != "FP32" or len(shape) != 2 or shape[0] != batch_size or shape[1] < 1:
        message = f"datatype {output.datatype!r}, shape {list(shape)[:8]}, not FP32 ({batch_size}, classes)"
        raise MalformedAnswer(message)
    try:
        if output.raw is not None:
            values = np.frombuffer(output.raw, "<f4").astype(np.float32)
        else:
            values = np.array(_flat(output), np.float32)
        values = values.reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedAnswer(str(error)) from error
    if not np.isfinite(values).all():
        message = "a probability is not a finite number"
        raise MalformedAnswer(message)
    return values


# The datatypes in which a classifier may give its scores, as they arrive.
SCORE_DATATYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}


def scores_of(output: OutputTensor, batch_size: int) -> "NDArray[np.float32]":
    """Return the scores of any classifier as FP32 (N, classes).

    The shape may lack the batch axis where N is 1, and may have further axes of one element. Raises MalformedAnswer
    for another datatype or shape, and where a score is not finite.
    """
    import numpy as np

    shape = tuple(output.shape)
    axes = [size for size in shape if size != 1]
    expected = ([batch_size] if batch_size > 1 else []) + axes[-1:]
    if output.datatype not in SCORE_DATATYPES or axes != expected or not axes or axes[-1] < 2:
        message = f"datatype {output.datatype!r}, shape {list(shape)[:8]}, not scores of {batch_size} images by class"
        raise MalformedAnswer(message)
    try:
        if output.raw is not None:
            values = np.frombuffer(output.raw, SCORE_DATATYPES[output.datatype])
        else:
            values = np.array(_flat(output), np.float64)
        scores = values.reshape(batch_size, axes[-1]).astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedAnswer(str(error)) from error
    if not np.isfinite(scores).all():
        message = "a score is not a finite number"
        raise MalformedAnswer(message)
    return scores


def _byte_strings(output: OutputTensor, most: int) -> list[bytes]:
    """Return the elements of a BYTES tensor: each a little-endian length and its bytes, or strings of JSON.

    Raises MalformedAnswer where they are more than `most`, before there is an object for each.
    """
    if output.raw is None:
        elements = _flat(output)
        if not all(isinstance(element, (bytes, str)) for element in elements):
            message = "an element is not a string"
            raise MalformedAnswer(message)
        return [element.encode() if isinstance(element, str) else element for element in elements]
    strings: list[bytes] = []
    raw, offset = output.raw, 0
    while offset < len(raw):
        if len(strings) == most:
            message = f"more than {most} classes"
            raise MalformedAnswer(message)
        if offset + _LENGTH.size > len(raw):
            message = "the output ends within a length"
            raise MalformedAnswer(message)
        (length,) = _LENGTH.unpack_from(raw, offset)
        offset += _LENGTH.size + length
        if offset > len(raw):
            message = "the output ends within an element"
            raise MalformedAnswer(message)
        strings.append(raw[offset - length : offset])
    return strings


def _flat(output: OutputTensor) -> list[Any]:
    """Return the elements, which JSON may nest as deep as the shape."""
    elements = list(output.elements)
    for _ in output.shape[1:8]:
        if elements and all(isinstance(element, list) for element in elements):
            elements = list(chain.from_iterable(elements))
    return elements
