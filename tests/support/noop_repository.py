"""A repository whose network costs nothing, to measure everything else: real server, real protocols, real backends."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tests.support.small_network import ONE_BLOCK, small_checkpoint

from seresnext_client.contract import CLASSES, CROP, PIXELS, PREPROCESSING_MODEL, PROBABILITIES, FormatName
from seresnext_export import layout, sample_images
from seresnext_export.build import build
from seresnext_export.request import BuildRequest
from seresnext_export.serving import Serving

DEFAULTS = Serving()
ENSEMBLE = FormatName.ONNX.ensemble
# Takes the place of the real module and does not look at the image: transport, server, stubs and client are left.
NOOP_PREPROCESS = """
import numpy as np

from preprocessing_of_the_build import *  # noqa: F403

PIXELS = np.zeros((224, 224, 3), np.uint8)


def preprocess(image, limits=None):
    return PIXELS
"""


def noop_repository(folder: Path, *, serving: Serving = DEFAULTS, noop_preprocess: bool = False) -> Path:
    """Build a repository with a network that reads one pixel; with `noop_preprocess`, no image is decoded either."""
    request = BuildRequest(
        formats=(FormatName.ONNX,),
        checkpoint=small_checkpoint(architecture=ONE_BLOCK),
        images=sample_images.bundled()[:3],
        serving=serving,
    )
    build(request, folder)
    onnx.save(noop_graph(), layout.version_folder(folder, FormatName.ONNX, 1) / "model.onnx")
    if noop_preprocess:
        model = folder / PREPROCESSING_MODEL / "1"
        (model / "preprocessing.py").rename(model / "preprocessing_of_the_build.py")
        (model / "preprocessing.py").write_text(NOOP_PREPROCESS)
    return folder


def noop_graph() -> onnx.ModelProto:
    """Return a network with the inputs and outputs of the deployed one that reads the first pixel only."""
    pixels = helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ["batch", CROP, CROP, 3])
    probabilities = helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["batch", CLASSES])
    constants = {
        "starts": np.zeros(3, np.int64),
        "ends": np.ones(3, np.int64),
        "axes": np.arange(1, 4),
        "column": np.array([-1, 1]),
        "zero": np.zeros(1, np.float32),
        "constant_probabilities": np.linspace(0.1, 0.9, CLASSES, dtype=np.float32)[None],
    }
    nodes = [
        helper.make_node("Slice", [PIXELS, "starts", "ends", "axes"], ["first_pixel"]),
        helper.make_node("Cast", ["first_pixel"], ["float_pixel"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float_pixel", "column"], ["rows"]),
        helper.make_node("Mul", ["rows", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "constant_probabilities"], [PROBABILITIES]),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "noop", [pixels], [probabilities], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
