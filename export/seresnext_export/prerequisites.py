"""Finds out what is missing before any work is done."""

import importlib.util
from collections.abc import Collection, Mapping
from types import ModuleType

from seresnext_client.contract import FormatName
from seresnext_client.errors import MissingPrerequisite

# The packages whose versions decide an artefact: module to import, package that brings it.
TORCH = {"torch": "torch"}
ONNX = TORCH | {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"}
OPENVINO = ONNX | {"openvino": "openvino"}
TENSORRT = {"tensorrt": "tensorrt", "cuda.bindings": "cuda-bindings"}
PACKAGES = {
    FormatName.TORCHSCRIPT: TORCH,
    FormatName.ONNX: ONNX,
    FormatName.OPENVINO: OPENVINO,
    FormatName.TENSORRT: ONNX | TENSORRT,
}


def check_formats(formats: Collection[FormatName]) -> None:
    """Raise MissingPrerequisite where a package that exports or verifies one of `formats` is not installed."""
    modules = {module: package for name in formats for module, package in PACKAGES[name].items()}
    check_packages(modules, "export,gpu" if FormatName.TENSORRT in formats else "export,cpu")


def check_packages(modules: Mapping[str, str], extras: str) -> None:
    """Raise MissingPrerequisite, which names the extras to install, where a module cannot be found."""
    if missing := sorted(package for module, package in modules.items() if not _is_installed(module)):
        message = f"needs {', '.join(missing)}: pip install '.[{extras}]'"
        raise MissingPrerequisite(message)


def load_engine_builder() -> ModuleType:
    """Return the module that builds engines; raises MissingPrerequisite where TensorRT's libraries cannot be loaded."""
    try:
        from seresnext_export.formats.tensorrt import engine
    except (ImportError, OSError) as error:
        message = f"TensorRT is installed and cannot be loaded: {error}"
        raise MissingPrerequisite(message) from error
    return engine


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # a package above it is missing
        return False
