"""Build a Triton model repository from NVIDIA's SE-ResNeXt101-32x4d.

from pathlib import Path

from seresnext_client.contract import FormatName
from seresnext_export.build import build
from seresnext_export.checkpoints.source import CheckpointSource
from seresnext_export.request import BuildRequest

build(BuildRequest(formats=(FormatName.ONNX,), checkpoint=CheckpointSource.resolve("ngc")), Path("model_repository"))
"""
