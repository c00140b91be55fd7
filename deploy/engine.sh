#!/bin/sh
# Builds an engine in NVIDIA's TensorRT container image; the arguments are those of `seresnext-export engine`.
set -eu
python3 -c 'import tensorrt' || { echo "no TensorRT for Python here: use TENSORRT_IMAGE of deploy/triton.env" >&2; exit 4; }
# The image's own TensorRT has the server's version, and stays: nothing below depends on another.
deploy/pip_install.sh . cuda-bindings
seresnext-export engine "$@"
# Files that root wrote in the container go to the owner of the project.
chown -R "$(stat -c %u:%g .)" model_repository .cache 2>/dev/null || true
