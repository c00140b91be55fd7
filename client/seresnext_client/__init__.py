"""Classify images with SE-ResNeXt101-32x4d on a Triton Inference Server.

from pathlib import Path

from seresnext_client import Classifier, connect

with Classifier(connect("localhost:8001")) as classifier:
    for prediction in classifier.classify(Path("cat.jpg").read_bytes()):
        print(prediction.label, prediction.probability)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not lazily: the module has the function's name, and would take its place in the package when it is imported later.
from seresnext_client.connect import connect

if TYPE_CHECKING:
    from seresnext_client.classifier import Classifier, Preprocess
    from seresnext_client.errors import SeresnextClientError, SeresnextError
    from seresnext_client.images import Source, sources
    from seresnext_client.prediction import Classification, Failure, Prediction, Result
    from seresnext_client.transports.base import Timeouts, Tls, WireProtocol

__all__ = [
    "Classification",
    "Classifier",
    "Failure",
    "Prediction",
    "Preprocess",
    "Result",
    "SeresnextClientError",
    "SeresnextError",
    "Source",
    "Timeouts",
    "Tls",
    "WireProtocol",
    "connect",
    "sources",
]

# The builder and the server import this package for its contract, and need none of these modules' libraries.
_LAZY_IMPORTS = {
    "Classification": "prediction",
    "Classifier": "classifier",
    "Failure": "prediction",
    "Prediction": "prediction",
    "Preprocess": "classifier",
    "Result": "prediction",
    "SeresnextClientError": "errors",
    "SeresnextError": "errors",
    "Source": "images",
    "Timeouts": "transports.base",
    "Tls": "transports.base",
    "WireProtocol": "transports.base",
    "sources": "images",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _LAZY_IMPORTS:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_LAZY_IMPORTS[name]}"), name)
