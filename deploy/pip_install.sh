#!/bin/sh
# Installs into the Python of a container image, in the pinned versions; arguments go to pip. Where deploy/wheels holds
# wheels, they are taken from there and no package index is asked.
set -eu
folder=$(dirname "$0")
if ls "$folder"/wheels/*.whl >/dev/null 2>&1; then
    set -- --no-index --find-links="$folder/wheels" "$@"
fi
exec python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --break-system-packages \
    --constraint "$folder/../constraints.txt" "$@"
