# The client, for Jobs: deploy/kubernetes/batch. `make image` builds it.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
ARG PIP_INDEX_URL
RUN --mount=type=bind,target=/context /context/deploy/pip_install.sh "/context[s3,gs,az,hf]" \
    && seresnext-client --version
USER 1000:1000
ENTRYPOINT ["seresnext-client"]
