"""Classify pictures with SE-ResNeXt101-32x4d on a Triton Inference Server.

from seresnext_client import Classifier, connect

with Classifier(connect("localhost:8001")) as classifier:
    for prediction in classifier.classify(Path("cat.jpg").read_bytes()):
        print(prediction.label, prediction.probability)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seresnext_client.classifier import Classifier, Preprocess, connect
    from seresnext_client.errors import SeresnextClientError
    from seresnext_client.pictures import Source, sources
    from seresnext_client.prediction import Prediction, Result
    from seresnext_client.transports.base import Timeouts, Tls, WireProtocol

__all__ = [
    "Classifier",
    "Prediction",
    "Preprocess",
    "Result",
    "SeresnextClientError",
    "Source",
    "Timeouts",
    "Tls",
    "WireProtocol",
    "connect",
    "sources",
]

HOMES = {
    "classifier": ("Classifier", "Preprocess", "connect"),
    "errors": ("SeresnextClientError",),
    "prediction": ("Prediction", "Result"),
    "pictures": ("Source", "sources"),
    "transports.base": ("Timeouts", "Tls", "WireProtocol"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the preprocessing step imports this package, and needs none of it."""
    for home, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
