"""Ways to break a repository of the small network, one for each kind of finding of the linter."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx

from seresnext_client.contract import PREPROCESSING_MODEL as PREPROCESS
from seresnext_client.contract import FormatName

ONNX, ENSEMBLE, TORCHSCRIPT = FormatName.ONNX.network, FormatName.ONNX.ensemble, FormatName.TORCHSCRIPT.network
GARBAGE = b"<html>not found</html>" * 10
Damage = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """What is done to a repository, in which file the linter finds it, and the cause that it names (a pattern)."""

    damage: Damage
    file: str
    cause: str
    fault: bool = True


def edit(file: str, old: str, new: str, count: int = 1) -> Damage:
    def damage(models: Path) -> None:
        text = (models / file).read_text()
        assert old in text
        (models / file).write_text(text.replace(old, new, count))

    return damage


def remove(file: str) -> Damage:
    def damage(models: Path) -> None:
        path = models / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def write(file: str, content: bytes) -> Damage:
    return lambda models: (models / file).write_bytes(content)


def fix_the_batch_axis(models: Path) -> None:
    path = models / ONNX / "1" / "model.onnx"
    model = onnx.load(path)
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, path)


def lose_the_weights(models: Path) -> None:
    path = models / ONNX / "1" / "model.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    path.with_name("weights.bin").unlink()


def config(model: str) -> str:
    return f"{model}/config.pbtxt"


CASES = {
    "no configuration": Case(remove(config(ONNX)), ONNX, "without config.pbtxt"),
    "a misspelt field": Case(edit(config(ONNX), "backend", "backened"), config(ONNX), "is not a model configuration"),
    "another name": Case(edit(config(ONNX), ONNX, "resnet50"), config(ONNX), "is the configuration of resnet50"),
    "an unknown backend": Case(
        edit(config(ONNX), "onnxruntime", "onnx"), config(ONNX), "names the backend 'onnx'"
    ),
    "another version": Case(edit(config(ONNX), "versions: [1]", "versions: [3]"), config(ONNX), "serves version 3"),
    "no artefact": Case(remove(f"{ONNX}/1/model.onnx"), f"{ONNX}/1/model.onnx", "is missing"),
    "an artefact that is not ONNX": Case(
        write(f"{ONNX}/1/model.onnx", GARBAGE), f"{ONNX}/1/model.onnx", "is not an ONNX model"
    ),
    "no weights": Case(lose_the_weights, f"{ONNX}/1/model.onnx", "keeps its weights in weights.bin"),
    "an artefact that is not TorchScript": Case(
        write(f"{TORCHSCRIPT}/1/model.pt", GARBAGE), f"{TORCHSCRIPT}/1/model.pt", "does not run"
    ),
    "no labels": Case(remove(f"{ONNX}/labels.txt"), f"{ONNX}/labels.txt", "holds the labels of probabilities"),
    "a single label": Case(write(f"{ONNX}/labels.txt", b"cat\n"), f"{ONNX}/labels.txt", "1 labels for", fault=False),
    "no warm-up image": Case(
        remove(f"{PREPROCESS}/warmup/picture"), f"{PREPROCESS}/warmup/picture", "is the data of the warm-up 'batch 1'"
    ),
    "no version": Case(remove(f"{ONNX}/1"), ONNX, "has no version directory"),
    "no version of an ensemble": Case(remove(f"{ENSEMBLE}/1"), ENSEMBLE, "has no version directory"),
    "another input": Case(edit(config(ONNX), "pixels", "image", 9), f"{ONNX}/1/model.onnx", "has the inputs pixels"),
    "another type": Case(
        edit(config(ONNX), "TYPE_UINT8", "TYPE_FP32", 9), f"{ONNX}/1/model.onnx", "pixels is TYPE_UINT8, and TYPE_FP32"
    ),
    "other dims": Case(
        edit(config(ONNX), "[224, 224, 3]", "[256, 256, 3]", 9), f"{ONNX}/1/model.onnx", r"has the dims \[224, 224, 3\]"
    ),
    "a fixed batch axis": Case(fix_the_batch_axis, f"{ONNX}/1/model.onnx", "pixels has a batch axis of 1"),
    "another argument": Case(
        edit(config(TORCHSCRIPT), "pixels", "x", 9), f"{TORCHSCRIPT}/1/model.pt", "takes pixels; the inputs"
    ),
    "other dims of TorchScript": Case(
        edit(config(TORCHSCRIPT), "dims: [1000]", "dims: [1001]"), f"{TORCHSCRIPT}/1/model.pt", r"the dims \[1000\]"
    ),
    "no preprocessing model": Case(
        remove(PREPROCESS), config(ENSEMBLE), "has the step seresnext101_preprocess, which is not in the repository"
    ),
    "larger batches than a step": Case(
        edit(config(ENSEMBLE), "max_batch_size: 4", "max_batch_size: 8"), config(ENSEMBLE), "takes 8 images at once"
    ),
    "a version that does not exist": Case(
        edit(config(ENSEMBLE), "model_version: -1", "model_version: 7"), config(ENSEMBLE), "runs version 7"
    ),
    "an input that a step does not have": Case(
        edit(config(ENSEMBLE), 'key: "image"', 'key: "photo"'), config(ENSEMBLE), "maps photo to .*_preprocess"
    ),
    "an output that a step does not have": Case(
        edit(config(ENSEMBLE), 'key: "probabilities"', 'key: "logits"'), config(ENSEMBLE), "maps the output logits"
    ),
    "a tensor that no step writes": Case(
        edit(config(ENSEMBLE), 'value: "image"', 'value: "photo"'), config(ENSEMBLE), "reads photo, which no step"
    ),
    "steps that differ": Case(
        edit(config(PREPROCESS), "dims: [224, 224, 3]", "dims: [3, 224, 224]"),
        config(ENSEMBLE),
        r"passes pixels as .* to .* which takes TYPE_UINT8",
    ),
    "an output of another type": Case(
        edit(config(ENSEMBLE), "TYPE_FP32", "TYPE_FP16"), config(ENSEMBLE), "has the output probabilities as TYPE_FP16"
    ),
    "a package that is missing": Case(
        edit(f"{PREPROCESS}/1/model.py", "import json\n", "import json\nimport cv2\n"),
        f"{PREPROCESS}/1/model.py",
        "imports cv2",
    ),
    "a preprocessing model that is not Python": Case(
        write(f"{PREPROCESS}/1/model.py", b"def"), f"{PREPROCESS}/1/model.py", "is not Python"
    ),
    "a GPU that is not there": Case(
        edit(config(ONNX), "count: 1", "count: 1\n  kind: KIND_GPU"), config(ONNX), "asks for KIND_GPU"
    ),
    "writable by every user": Case(
        lambda models: (models / PREPROCESS / "1" / "model.py").chmod(0o666),
        f"{PREPROCESS}/1/model.py",
        "every user may write it",
        fault=False,
    ),
}  # fmt: skip
