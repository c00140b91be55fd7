#!/bin/sh
# Measures a server from NVIDIA's SDK container image, which has perf_analyzer; the arguments are those of the command.
set -eu
deploy/pip_install.sh '.[report]'
key=$(cat /run/secrets/admin_key)
exec seresnext-client benchmark --header "admin-key:$key" --header "triton-grpc-protocol-admin-key:$key" "$@"
