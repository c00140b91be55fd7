"""Image classifiers as others publish them: ten Triton models, and one of our contract under another name.

All are the same network in other clothes, a linear layer over the mean color, so that a test can compute what each has
to answer from the pixels alone.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from seresnext_client.labels import IMAGENET_FILE

LABELS_FILE = "labels.txt"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
DATATYPES = {"UINT8": TensorProto.UINT8, "FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT}


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """A network in ONNX, and how its configuration presents it."""

    name: str
    input: str = "INPUT__0"
    output: str = "OUTPUT__0"
    datatype: str = "FP32"
    nhwc: bool = False
    size: int = 224
    classes: int = 1000
    has_softmax: bool = False
    labels: tuple[str, ...] = ()
    max_batch_size: int = 8
    declares_format: bool = False
    reshaped: bool = False  # the network has a batch axis, and the configuration hides it
    config: str = field(default="", compare=False)  # appended

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the scores of pixels, UINT8 (H, W, 3), that ImageNet's scaling is meant for where they are floats."""
        values = pixels.astype(np.float64)
        if self.datatype != "UINT8":
            values = (values / 255 - MEAN) / STD
        logits = values.mean(axis=(0, 1)) @ weights(self.classes) / (1 if self.datatype != "UINT8" else 64)
        return np.asarray(softmax(logits) if self.has_softmax else logits)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        scores = self.scores(pixels)
        return scores if self.has_softmax else softmax(scores)


IMAGENET = tuple(IMAGENET_FILE.read_text(encoding="utf-8").splitlines())
TEN = ("red", "green apple", "blue", "n0 not an id", "five", "six: seven", "eight", "nine", "ten", "eleven")

MODELS = (
    ForeignModel(name="bare_export"),
    ForeignModel(name="labeled_export", labels=IMAGENET, declares_format=True),
    ForeignModel(
        name="densenet_onnx", input="data_0", output="fc6_1", labels=IMAGENET, declares_format=True, max_batch_size=0,
        reshaped=True,
    ),
    ForeignModel(name="our_names_floats", input="pixels", output="probabilities", nhwc=True, has_softmax=True),
    ForeignModel(
        name="our_names_299", input="pixels", output="probabilities", datatype="UINT8", nhwc=True, size=299,
        has_softmax=True,
    ),
    ForeignModel(
        name="ten_classes", input="pixels", output="probabilities", datatype="UINT8", nhwc=True, classes=10, labels=TEN,
        has_softmax=True,
    ),
    ForeignModel(name="logits", input="pixels", output="probabilities", datatype="UINT8", nhwc=True),
    ForeignModel(
        name="no_batching", input="pixels", output="probabilities", datatype="UINT8", nhwc=True, max_batch_size=0,
        has_softmax=True,
    ),
    ForeignModel(name="half_precision", datatype="FP16", classes=10),
)  # fmt: skip
NETWORK = MODELS[1]  # what the two ensembles run
UINT8_ENSEMBLE, BYTES_ENSEMBLE = "bytes_as_uint8", "bytes"

PYTHON_MODEL = '''
import io

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image


class TritonPythonModel:
    """Decodes as the examples of the python backend do, without a recipe of ours."""

    def execute(self, requests):
        responses = []
        for request in requests:
            batch = []
            for element in pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy():
                encoded = element.tobytes() if element.dtype == np.uint8 else bytes(element.ravel()[0])
                image = Image.open(io.BytesIO(encoded)).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
                values = (np.asarray(image, np.float32) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
                batch.append(values.transpose(2, 0, 1).astype(np.float32))
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", np.stack(batch))]))
        return responses
'''


def write_repository(folder: Path) -> Path:
    """Write all models into a repository and return it."""
    for model in MODELS:
        write_model(folder, model)
    for ensemble, datatype, dims in ((UINT8_ENSEMBLE, "TYPE_UINT8", -1), (BYTES_ENSEMBLE, "TYPE_STRING", 1)):
        _write_decoder(folder, f"{ensemble}_decoder", datatype, dims)
        _write_ensemble(folder, ensemble, datatype, dims)
    return folder


def write_model(repository: Path, model: ForeignModel) -> None:
    folder = repository / model.name
    (folder / "1").mkdir(parents=True)
    onnx.save(graph(model), folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(config(model))
    if model.labels:
        (folder / LABELS_FILE).write_text("".join(f"{label}\n" for label in model.labels))


def weights(classes: int) -> NDArray[np.float64]:
    """Return the weights by color and class, with steep differences between classes."""
    return np.random.default_rng(classes).normal(0, 2, (3, classes)).astype(np.float32).astype(np.float64)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max())
    return np.asarray(exponentials / exponentials.sum())


def graph(model: ForeignModel) -> onnx.ModelProto:
    """Return the network: the mean color of each image, a linear layer, and perhaps a softmax."""
    colors_last = [model.size, model.size, 3]
    dims = colors_last if model.nhwc else [3, model.size, model.size]
    batch = "batch" if model.max_batch_size or not model.reshaped else 1
    shape = ([batch] if model.max_batch_size or model.reshaped else []) + dims
    output_shape = (
        [1, model.classes, 1, 1] if model.reshaped else ([batch] if model.max_batch_size else []) + [model.classes]
    )
    axes = [-3, -2] if model.nhwc else [-2, -1]
    scale = 1 / 64 if model.datatype == "UINT8" else 1
    constants = {
        "weights": (weights(model.classes) * scale).astype(np.float32),
        "axes": np.array(axes),
        "shape": np.array(output_shape if model.reshaped else [-1, model.classes]),
    }
    nodes = [
        helper.make_node("Cast", [model.input], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["colors"], keepdims=0),
        helper.make_node("MatMul", ["colors", "weights"], ["logits"]),
        helper.make_node("Softmax" if model.has_softmax else "Identity", ["logits"], ["scores"]),
        helper.make_node("Reshape", ["scores", "shape"], ["row"]) if model.reshaped
        else helper.make_node("Identity", ["scores"], ["row"]),
        helper.make_node("Cast", ["row"], [model.output], to=_output_type(model)),
    ]  # fmt: skip
    inputs = [helper.make_tensor_value_info(model.input, DATATYPES[model.datatype], shape)]
    outputs = [helper.make_tensor_value_info(model.output, _output_type(model), output_shape)]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, model.name, inputs, outputs, initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _output_type(model: ForeignModel) -> int:
    return TensorProto.FLOAT16 if model.datatype == "FP16" else TensorProto.FLOAT


def config(model: ForeignModel) -> str:
    dims = [model.size, model.size, 3] if model.nhwc else [3, model.size, model.size]
    output_type = "FP16" if model.datatype == "FP16" else "FP32"
    layout = f"format: FORMAT_{'NHWC' if model.nhwc else 'NCHW'}" if model.declares_format else ""
    labels = f'label_filename: "{LABELS_FILE}"' if model.labels else ""
    input_reshape = f"reshape {{ shape: {[1, *dims]} }}" if model.reshaped else ""
    output_reshape = f"reshape {{ shape: {[1, model.classes, 1, 1]} }}" if model.reshaped else ""
    return f"""
name: "{model.name}"
backend: "onnxruntime"
max_batch_size: {model.max_batch_size}
input {{ name: "{model.input}" data_type: TYPE_{model.datatype} dims: {dims} {layout} {input_reshape} }}
output {{
  name: "{model.output}" data_type: TYPE_{output_type} dims: [{model.classes}] {labels} {output_reshape}
}}
instance_group {{ kind: KIND_CPU }}
{model.config}
"""


def _write_decoder(repository: Path, name: str, datatype: str, dims: int) -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(PYTHON_MODEL)
    (folder.parent / "config.pbtxt").write_text(f"""
name: "{name}"
backend: "python"
max_batch_size: 8
input {{ name: "INPUT" data_type: {datatype} dims: [{dims}] }}
output {{ name: "OUTPUT" data_type: TYPE_FP32 dims: [3, 224, 224] }}
instance_group {{ kind: KIND_CPU }}
""")


def _write_ensemble(repository: Path, name: str, datatype: str, dims: int) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(f"""
name: "{name}"
platform: "ensemble"
max_batch_size: 8
input {{ name: "INPUT" data_type: {datatype} dims: [{dims}] }}
output {{ name: "OUTPUT" data_type: TYPE_FP32 dims: [{NETWORK.classes}] }}
ensemble_scheduling {{
  step {{
    model_name: "{name}_decoder" model_version: -1
    input_map {{ key: "INPUT" value: "INPUT" }} output_map {{ key: "OUTPUT" value: "floats" }}
  }}
  step {{
    model_name: "{NETWORK.name}" model_version: -1
    input_map {{ key: "{NETWORK.input}" value: "floats" }} output_map {{ key: "{NETWORK.output}" value: "OUTPUT" }}
  }}
}}
""")


def write_models_that_are_refused(repository: Path) -> None:
    """Write models that are no image classifiers, and models that the embedded server cannot serve."""
    for name, inputs in {
        "two_images": ("left TYPE_STRING 1", "right TYPE_STRING 1"),
        "text": ("ids TYPE_INT64 128",),
        "grayscale": ("x TYPE_FP32 1,28,28",),
    }.items():
        _write_python_model(repository, name, [_input(*tensor.split()) for tensor in inputs])
    _write_onnx_model(repository, "two_inputs", "ab", "a")
    _write_onnx_model(repository, "two_outputs", "a", "ab")
    _write_onnx_model(repository, "no_inputs", "", "a")
    (repository / "no_config" / "1").mkdir(parents=True)
    (repository / "no_version").mkdir()
    (repository / "no_version" / "config.pbtxt").write_text('backend: "onnxruntime"')


def _input(name: str, datatype: str, dims: str) -> str:
    return f'input {{ name: "{name}" data_type: {datatype} dims: [{dims}] }}'


def _write_python_model(repository: Path, name: str, inputs: list[str]) -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text("class TritonPythonModel:\n    def execute(self, requests): ...\n")
    config = [f'name: "{name}"', 'backend: "python"', "max_batch_size: 8", *inputs, "instance_group { kind: KIND_CPU }"]
    output = 'output { name: "y" data_type: TYPE_FP32 dims: [10] }'
    (folder.parent / "config.pbtxt").write_text("\n".join([*config, output]))


def _write_onnx_model(repository: Path, name: str, inputs: str, outputs: str) -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    shape: list[str | int | None] = ["batch", 4]
    nodes = [helper.make_node("Identity", [(inputs or "a")[0]], [f"y_{output}"]) for output in outputs]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, shape) for tensor in inputs or "a"],
        [helper.make_tensor_value_info(f"y_{tensor}", TensorProto.FLOAT, shape) for tensor in outputs],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    tensors = [f'input {{ name: "{tensor}" data_type: TYPE_FP32 dims: [4] }}' for tensor in inputs]
    tensors += [f'output {{ name: "{tensor}" data_type: TYPE_FP32 dims: [4] }}' for tensor in outputs]
    config = [f'name: "{name}"', 'backend: "onnxruntime"', "max_batch_size: 8", "instance_group { kind: KIND_CPU }"]
    (folder.parent / "config.pbtxt").write_text("\n".join([*config, *tensors]))
