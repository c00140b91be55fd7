#!/bin/sh
# Starts tritonserver as production wants it: closed, and with one ensemble. Arguments are passed on to it.
#   MODEL           the ensemble to serve, with its steps    [seresnext101_onnx_ensemble]
#   REPOSITORY      where it is                              [/models]
#   ADMIN_KEY_FILE  whoever sends its content as the header admin-key (gRPC: triton-grpc-protocol-admin-key) may load
#                   models and read statistics; without it nobody may    [/run/secrets/admin_key]
#   THREADS         of ONNX Runtime on a CPU: it does not see a container's limit by itself    [all cores]
set -eu
: "${MODEL:=seresnext101_onnx_ensemble}" "${REPOSITORY:=/models}" "${ADMIN_KEY_FILE:=/run/secrets/admin_key}"

if [ -s "$ADMIN_KEY_FILE" ]; then
    key=$(cat "$ADMIN_KEY_FILE")
else
    key=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
fi
closed="model-repository,statistics,shared-memory,logging,trace:admin-key=$key"

if [ -n "${THREADS:-}" ]; then
    set -- --backend-config=onnxruntime,enable-global-threadpool=1 \
        --backend-config=onnxruntime,intra_op_thread_count="$THREADS" "$@"
fi

# Freed memory is kept for the next picture: returning it to the kernel costs as much as decoding a large one.
export MALLOC_MMAP_THRESHOLD_=67108864 MALLOC_TRIM_THRESHOLD_=268435456 MALLOC_TOP_PAD_=67108864

# A model that cannot be loaded leaves the server up and that model unready, with its reason in the log.
exec tritonserver --model-repository="$REPOSITORY" --model-control-mode=explicit --load-model="$MODEL" \
    --exit-on-error=false --disable-auto-complete-config \
    --allow-sagemaker=false --allow-vertex-ai=false \
    --http-restricted-api="$closed" --grpc-restricted-protocol="$closed" \
    --metrics-config=summary_latencies=true "$@"
