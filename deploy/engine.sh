#!/bin/sh
# Builds an engine inside NVIDIA's TensorRT image; the arguments are those of `seresnext-export build`.
set -eu
python3 -c 'import tensorrt' || { echo "this image has no TensorRT for Python: use TENSORRT_IMAGE of deploy/triton.env" >&2; exit 4; }
# Over the image's own TensorRT, whose version is the server's: nothing here may bring another one.
python3 -m pip install --quiet --disable-pip-version-check --break-system-packages . cuda-bindings
seresnext-export build --format tensorrt "$@"
# What root made in the container belongs to whoever owns the project.
chown -R "$(stat -c %u:%g .)" model_repository .cache 2>/dev/null || true
