"""Imports runtimes whose telemetry starts at the import: they write an id into the user's home and look up a host."""

import os
import sys
from importlib import import_module
from typing import Any


def import_without_telemetry(module: str) -> Any:
    """Return a module of ONNX Runtime or OpenVINO, imported with its telemetry switched off."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, when onnxruntime is imported
    # openvino has no switch; where this package cannot be imported, it takes a stub of its own.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: not importable
    return import_module(module)
