"""Configurations as others write them: what a server loads, and what it refuses. Each is a repository of its own.

Most are models of the python backend, which every server has; a network in ONNX or TorchScript stands where its file is
compared with the configuration.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from tests.support import foreign_models

STUB = "class TritonPythonModel:\n    def execute(self, requests): ...\n"
INPUT = 'input { name: "x" data_type: TYPE_FP32 dims: [3, 8, 8] }\n'
OUTPUT = 'output { name: "y" data_type: TYPE_FP32 dims: [10] }\n'
HEAD = 'backend: "python"\nmax_batch_size: 8\ninstance_group { kind: KIND_CPU }\n'
TENSORS = INPUT + OUTPUT


@dataclass(frozen=True)
class ForeignCase:
    """What is written, and the cause that the linter names; none where there is nothing to fix."""

    write: Callable[[Path], object]
    cause: str = ""
    loads: tuple[str, ...] = ("model",)  # that a server is asked for; none where the embedded server is no judge


def stub(config: str, name: str = "model", source: str = STUB, **files: str) -> Callable[[Path], None]:
    """Return what writes a model of the python backend; `files` stand beside it (`a__b` is a/b.py)."""

    def write(repository: Path) -> None:
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(source)
        (folder.parent / "config.pbtxt").write_text(config)
        for path, text in files.items():
            file = folder / f"{path.replace('__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    return write


def ensemble(config: str, *models: Callable[[Path], None]) -> Callable[[Path], None]:
    """Return what writes an ensemble named `model` and the models that it runs."""

    def write(repository: Path) -> None:
        (repository / "model" / "1").mkdir(parents=True)
        (repository / "model" / "config.pbtxt").write_text('platform: "ensemble"\n' + config)
        for model in models:
            model(repository)

    return write


def steps(*texts: str) -> str:
    """Return the scheduling of steps written `model: input=tensor -> output=tensor`."""
    lines = []
    for text in texts:
        name, _, maps = text.partition(": ")
        sides = [side.split() for side in maps.split(" -> ")]
        entries = "".join(
            f'{kind} {{ key: "{pair.split("=")[0]}" value: "{pair.split("=")[1]}" }} '
            for kind, pairs in zip(("input_map", "output_map"), sides, strict=True)
            for pair in pairs
        )
        lines.append(f'step {{ model_name: "{name}" model_version: -1 {entries}}}')
    return f"ensemble_scheduling {{ {' '.join(lines)} }}\n"


def onnx_model(config: str, graph: Callable[[], onnx.ModelProto]) -> Callable[[Path], None]:
    def write(repository: Path) -> None:
        folder = repository / "model" / "1"
        folder.mkdir(parents=True)
        onnx.save(graph(), folder / "model.onnx")
        (folder.parent / "config.pbtxt").write_text(config)

    return write


def torch_model(config: str, module: Callable[[], torch.nn.Module]) -> Callable[[Path], None]:
    def write(repository: Path) -> None:
        folder = repository / "model" / "1"
        folder.mkdir(parents=True)
        torch.jit.save(torch.jit.script(module()), folder / "model.pt")
        (folder.parent / "config.pbtxt").write_text(config)

    return write


def graph(
    inputs: dict[str, int], outputs: dict[str, int], *, weights: bool = False, dims: tuple[int | str, ...] = ("n", 4)
) -> Callable[[], onnx.ModelProto]:
    """Return what makes a graph whose outputs are zero times its first input, of any types."""

    def make() -> onnx.ModelProto:
        first = next(iter(inputs))
        nodes = [helper.make_node("Cast", [first], [name], to=kind) for name, kind in outputs.items()]
        values = [helper.make_tensor_value_info(name, kind, dims) for name, kind in inputs.items()]
        initializers = []
        if weights:
            initializers = [numpy_helper.from_array(foreign_models.weights(2), "w")]
            values.append(helper.make_tensor_value_info("w", TensorProto.DOUBLE, [3, 2]))
        infos = [helper.make_tensor_value_info(name, kind, dims) for name, kind in outputs.items()]
        made = helper.make_graph(nodes, "graph", values, infos, initializers)
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    return make


class Dictionary(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": x}


class Identifiers(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


class Pair(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x * 2


def _beside_a_hidden_directory(repository: Path) -> None:
    stub(HEAD + TENSORS)(repository)
    (repository / ".git").mkdir()


ONNX = 'backend: "onnxruntime"\nmax_batch_size: 8\ninstance_group { kind: KIND_CPU }\n'
TORCH = 'backend: "pytorch"\nmax_batch_size: 8\ninstance_group { kind: KIND_CPU }\n'
FLAT = 'input { name: "x" data_type: TYPE_FP32 dims: [4] }\noutput { name: "y" data_type: TYPE_FP32 dims: [4] }\n'
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
SEQUENCE = (
    'sequence_batching { control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START '
    "fp32_false_true: [0, 1] } ] } ] }\n"
)
TWO_STEPS = ('input { name: "a" data_type: TYPE_FP32 dims: [3, 8, 8] }\n' + OUTPUT, "max_batch_size: 8\n")
FIRST = stub(HEAD + INPUT + 'output { name: "m" data_type: TYPE_FP32 dims: [3, 8, 8] }\n', "first")
SECOND = stub(HEAD + TENSORS, "second")
HEADER = "max_batch_size: 8\n" + TENSORS

CLEAN = {
    "a reshape": ForeignCase(
        onnx_model(
            'backend: "onnxruntime"\ninstance_group { kind: KIND_CPU }\n'
            'input { name: "x" data_type: TYPE_FP32 dims: [4] reshape { shape: [1, 4] } }\n'
            'output { name: "y" data_type: TYPE_FP32 dims: [4] reshape { shape: [1, 4] } }\n',
            graph({"x": FLOAT}, {"y": FLOAT}, dims=(1, 4)),
        )
    ),
    "the controls of a sequence among the inputs of a graph": ForeignCase(
        onnx_model(ONNX + FLAT + SEQUENCE, graph({"x": FLOAT, "START": FLOAT}, {"y": FLOAT})), loads=()
    ),
    "weights among the inputs of a graph": ForeignCase(
        onnx_model(ONNX + FLAT, graph({"x": FLOAT}, {"y": FLOAT}, weights=True))
    ),
    "fewer outputs than the graph": ForeignCase(onnx_model(ONNX + FLAT, graph({"x": FLOAT}, {"y": FLOAT, "z": FLOAT}))),
    "doubles": ForeignCase(onnx_model(ONNX + FLAT.replace("FP32", "FP64"), graph({"x": DOUBLE}, {"y": DOUBLE}))),
    "free dims of an ensemble": ForeignCase(
        ensemble(
            HEADER.replace("[3, 8, 8]", "[-1, -1, -1]") + steps("first: x=x -> m=m", "second: x=m -> y=y"),
            FIRST,
            SECOND,
        )
    ),
    "an ensemble without a batch over models with one": ForeignCase(
        ensemble(
            'input { name: "x" data_type: TYPE_FP32 dims: [-1, 3, 8, 8] }\n'
            'output { name: "y" data_type: TYPE_FP32 dims: [-1, 10] }\n' + steps("second: x=x -> y=y"),
            SECOND,
        )
    ),
    "steps in another order": ForeignCase(
        ensemble(HEADER + steps("second: x=m -> y=y", "first: x=x -> m=m"), FIRST, SECOND)
    ),
    "an optional input": ForeignCase(
        ensemble(
            HEADER + steps("second: x=x -> y=y"),
            stub(HEAD + TENSORS + 'input { name: "o" data_type: TYPE_FP32 dims: [1] optional: true }\n', "second"),
        )
    ),
    "a package beside the model": ForeignCase(
        stub(HEAD + TENSORS, source="from helpers.code import thing\n" + STUB, helpers__code="thing = 1\n")
    ),
    "an import that may fail": ForeignCase(
        stub(
            HEAD + TENSORS,
            source="try:\n    import missing_here\nexcept ImportError:\n    missing_here = None\n" + STUB,
        )
    ),
    "numbers for a TorchScript module": ForeignCase(
        torch_model(
            TORCH + 'input { name: "INPUT__0" data_type: TYPE_INT64 dims: [-1] }\n'
            'output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [-1] }\n',
            Identifiers,
        )
    ),
    "one of two outputs of a TorchScript module": ForeignCase(
        torch_model(TORCH + FLAT.replace('"x"', '"INPUT__0"').replace('"y"', '"OUTPUT__1"'), Pair),
        loads=(),
    ),
    "a hidden directory": ForeignCase(_beside_a_hidden_directory),
    "a backend by its file": ForeignCase(
        onnx_model(ONNX.replace('backend: "onnxruntime"\n', "") + FLAT, graph({"x": FLOAT}, {"y": FLOAT})), loads=()
    ),
    "another backend, and an ensemble over it": ForeignCase(
        ensemble(
            HEADER + steps("first: x=x -> m=m", "second: x=m -> y=y"),
            stub(
                HEAD.replace("python", "dali") + INPUT + OUTPUT.replace('"y"', '"m"').replace("[10]", "[3, 8, 8]"),
                "first",
            ),
            SECOND,
        ),
        loads=(),
    ),
}
DEFECTS = {
    "a dim of 0": ForeignCase(stub(HEAD + TENSORS.replace("[10]", "[0]")), "y has a dim of 0"),
    "no type": ForeignCase(stub(HEAD + TENSORS.replace("data_type: TYPE_FP32 ", "", 1)), "x has no data_type"),
    "a negative batch size": ForeignCase(stub(HEAD.replace("8", "-1") + TENSORS), "max_batch_size of -1"),
    "a reshape of another size": ForeignCase(
        stub(HEAD + TENSORS.replace("[10]", "[10] reshape { shape: [11] }")), "another size"
    ),
    "a preferred batch above the largest": ForeignCase(
        stub(HEAD + TENSORS + "dynamic_batching { preferred_batch_size: [4, 16] }\n"), "prefers batches of 16"
    ),
    "gpus of a CPU": ForeignCase(stub(HEAD.replace("KIND_CPU", "KIND_CPU gpus: [0]") + TENSORS), "gpus for KIND_CPU"),
    "a format of one dim": ForeignCase(
        stub(HEAD + TENSORS.replace("dims: [3, 8, 8]", "format: FORMAT_NCHW dims: [3]")), "a format and 1 dims"
    ),
    "a warm-up without its input": ForeignCase(
        stub(
            HEAD + TENSORS + 'input { name: "z" data_type: TYPE_FP32 dims: [1] }\n'
            'model_warmup { name: "w" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [3, 8, 8] '
            "zero_data: true } } }\n"
        ),
        "without the input z",
    ),
    "a version that begins with 0": ForeignCase(
        lambda repository: (
            stub(HEAD + TENSORS)(repository),
            (repository / "model" / "1").rename(repository / "model" / "01"),
        ),
        "begins with 0",
    ),
    "no class in model.py": ForeignCase(stub(HEAD + TENSORS, source="import json\n"), "no class TritonPythonModel"),
    "instances of an ensemble": ForeignCase(
        ensemble(HEADER + "instance_group { kind: KIND_CPU }\n" + steps("second: x=x -> y=y"), SECOND), "instance_group"
    ),
    "an ensemble that runs itself": ForeignCase(ensemble(HEADER + steps("model: x=x -> y=y")), "runs itself"),
    "steps that wait for each other": ForeignCase(
        ensemble(HEADER + steps("first: x=y2 -> m=m", "second: x=m -> y=y2"), FIRST, SECOND),
        "has the output y, which no",
    ),
    "an input that no step reads": ForeignCase(
        ensemble(HEADER + 'input { name: "z" data_type: TYPE_FP32 dims: [1] }\n' + steps("second: x=x -> y=y"), SECOND),
        "has the input z, which no step reads",
    ),
    "a tensor that is written twice": ForeignCase(
        ensemble(HEADER + steps("second: x=x -> y=y", "third: x=x -> y=y"), SECOND, stub(HEAD + TENSORS, "third")),
        "writes the tensor y twice",
    ),
    "a dictionary of a TorchScript module": ForeignCase(
        torch_model(TORCH + FLAT, Dictionary), r"returns 1 values \(dict\)", loads=()
    ),
}
