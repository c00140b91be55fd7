#!/bin/sh
# Starts tritonserver for production: one ensemble, and administration only with a key. Arguments go to tritonserver.
#   MODEL           the ensemble to serve, with the models that it runs    [seresnext101_onnx_ensemble]
#   REPOSITORY      the model repository                                   [/models]
#   ADMIN_KEY_FILE  holds the key for loading models and reading statistics, which clients send as the header admin-key
#                   (gRPC: triton-grpc-protocol-admin-key); without the file these are disabled    [/run/secrets/admin_key]
#   GRPC_CONNECTION_AGE_MS
#                   after which a gRPC client has to connect again, so that a proxy or a load balancer which balances
#                   connections sends it to another server; requests in flight are answered    [300000]
#   OTEL_URL        of an OpenTelemetry collector (OTLP over HTTP), for traces of one request in OTEL_RATE    [no traces]
#   OTEL_RATE       [1000]
#   THREADS         of ONNX Runtime on a CPU, which does not detect the limit of a container    [all cores]
set -eu
: "${MODEL:=seresnext101_onnx_ensemble}" "${REPOSITORY:=/models}" "${ADMIN_KEY_FILE:=/run/secrets/admin_key}"
: "${GRPC_CONNECTION_AGE_MS:=300000}" "${OTEL_RATE:=1000}"

if [ -s "$ADMIN_KEY_FILE" ]; then
    key=$(cat "$ADMIN_KEY_FILE")
else
    key=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
fi
restricted="model-repository,statistics,shared-memory,logging,trace:admin-key=$key"

if [ -n "${OTEL_URL:-}" ]; then
    set -- --trace-config=mode=opentelemetry --trace-config=opentelemetry,url="$OTEL_URL" \
        --trace-config=opentelemetry,resource=service.name=seresnext-triton \
        --trace-config=level=TIMESTAMPS --trace-config=rate="$OTEL_RATE" "$@"
fi

if [ -n "${THREADS:-}" ]; then
    set -- --backend-config=onnxruntime,enable-global-threadpool=1 \
        --backend-config=onnxruntime,intra_op_thread_count="$THREADS" "$@"
fi

# Freed memory stays with the process: taking it from the kernel again costs as much as decoding a large image.
export MALLOC_MMAP_THRESHOLD_=67108864 MALLOC_TRIM_THRESHOLD_=268435456 MALLOC_TOP_PAD_=67108864

# Triton's HTTP library reads the body of a form (what curl sends unless told otherwise) into two arrays on the stack of a
# thread, each as large as the body, and a stack that is too small ends the server: server#5840. This one holds those of
# the largest request, 128 MiB. Without a limit it would be worse: threads then have 2 MB.
# shellcheck disable=SC3045  # the shells of Debian, Ubuntu and Red Hat have it
ulimit -S -s 307200 2>/dev/null ||
    echo "the stack cannot have 300 MiB here: a large request with the content type of a form ends the server" >&2

# A model that cannot be loaded leaves the server up and that model not ready, with the reason in the log.
exec tritonserver --model-repository="$REPOSITORY" --model-control-mode=explicit --load-model="$MODEL" \
    --exit-on-error=false --disable-auto-complete-config \
    --allow-sagemaker=false --allow-vertex-ai=false \
    --backend-config=tensorrt,version-compatible=true \
    --http-restricted-api="$restricted" --grpc-restricted-protocol="$restricted" \
    --grpc-max-connection-age="$GRPC_CONNECTION_AGE_MS" \
    --metrics-config=summary_latencies=true "$@"
