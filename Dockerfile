# syntax=docker/dockerfile:1

# --- build the wheel -------------------------------------------------------------------------------
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m pip install --no-cache-dir build==1.3.0
COPY pyproject.toml README.md LICENSE ./
COPY protos protos
COPY lab_core lab_core
COPY client client
COPY server server
RUN python -m build --wheel --outdir /dist

# --- the server ------------------------------------------------------------------------------------
FROM python:3.12-slim
# tini: trainers outlive a server that is killed, so somebody has to reap them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /dist/*.whl /tmp/
# The CUDA libraries come with torch; the driver comes from the host (docker run --gpus all).
# The version is that of the wheel just built.
# hadolint ignore=DL3013
RUN set -- /tmp/lab_train-*.whl \
    && python -m pip install --no-cache-dir "$1[postgresql]" \
    && rm "$1"
RUN useradd --system --uid 10001 --create-home lab \
    && install --directory --owner lab --group lab /var/lib/lab /var/lib/lab-data
USER lab
ENV LAB_HOME=/var/lib/lab \
    LAB_DATA_PATH=/var/lib/lab-data \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME ["/var/lib/lab", "/var/lib/lab-data"]
EXPOSE 50051 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["tini", "--", "lab-server"]
# --insecure: inside the container's own network. Publish to loopback (-p 127.0.0.1:50051:50051), or mount
# certificates and tokens and say so here (docs/operations.md).
CMD ["serve", "--grpc", "0.0.0.0:50051", "--http", "0.0.0.0:8080", "--insecure"]
