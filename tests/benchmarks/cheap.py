"""A repository whose network costs nothing, to measure everything else: real server, real protocols, real backends."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from seresnext_export import photographs
from seresnext_export.build import build
from seresnext_export.network import Architecture
from seresnext_export.random_weights import random_network
from seresnext_export.request import Request, Weights
from seresnext_export.serving import FormatName, Serving

DEFAULTS = Serving()
ENSEMBLE = "seresnext101_onnx_ensemble"
# A step that looks at nothing: what is left is transport, server, stubs and client.
STEP = """
import numpy as np

from preprocessing_of_the_build import *  # noqa: F403

PIXELS = np.zeros((224, 224, 3), np.uint8)


def preprocess(image, limits=None):
    return PIXELS
"""


def repository(folder: Path, *, serving: Serving = DEFAULTS, free_step: bool = False) -> Path:
    """Build a repository, and put a graph in it that looks at one pixel; with `free_step` no picture is decoded."""
    weights = Weights(
        identity={"source": "cheap", "sha256": ""},
        load=lambda: random_network(architecture=Architecture(blocks=(1,), widths=(32,))),
    )
    pictures = tuple(photographs.shipped()[:3])
    request = Request(formats=(FormatName.ONNX,), weights=weights, pictures=pictures, serving=serving)
    build(request, folder, lambda _: nullcontext(), lambda: None)
    onnx.save(graph(), folder / "seresnext101_onnx" / "1" / "model.onnx")
    if free_step:
        step = folder / "seresnext101_preprocess" / "1"
        (step / "preprocessing.py").rename(step / "preprocessing_of_the_build.py")
        (step / "preprocessing.py").write_text(STEP)
    return folder


def graph() -> onnx.ModelProto:
    """Return a network of the deployed one's inputs and outputs that answers at once."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 224, 224, 3])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 1000])
    constants = {
        "axes": np.arange(1, 4),
        "spread": np.linspace(0.1, 0.9, 1000, dtype=np.float32)[None],
    }
    nodes = [
        helper.make_node("Slice", ["pixels", "starts", "ends", "axes"], ["corner"]),
        helper.make_node("Cast", ["corner"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["number", "column"], ["numbers"]),
        helper.make_node("Mul", ["numbers", "nothing"], ["zeros"]),
        helper.make_node("Add", ["zeros", "spread"], ["probabilities"]),
    ]
    constants |= {
        "starts": np.zeros(3, np.int64),
        "ends": np.ones(3, np.int64),
        "column": np.array([-1, 1]),
        "nothing": np.zeros(1, np.float32),
    }
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "cheap", [pixels], [answer], initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
