#!/bin/sh
# Measures a server from NVIDIA's SDK image, which has perf_analyzer; the arguments are those of the command.
set -eu
python3 -m pip install --quiet --disable-pip-version-check --break-system-packages '.[report]'
key=$(cat /run/secrets/admin_key)
exec seresnext-client benchmark --header "triton-grpc-protocol-admin-key:$key" "$@"
