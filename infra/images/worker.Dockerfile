# Workers, and `restill deploy`: flows, training, measuring. Two targets: cpu, and gpu with CUDA's libraries on top.
#   docker build -f infra/images/worker.Dockerfile --target cpu -t restill-worker .
# Versions and digests of every package come from requirements/*.lock. The base image is named by tag; pin its digest
# for what you run (docs/deploying.md).
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY requirements requirements
RUN python -m pip install --no-cache-dir --require-hashes -r requirements/installer.lock \
    && python -m venv --without-pip /venv \
    && uv pip install --no-cache --python /venv/bin/python --require-hashes --no-deps -r requirements/worker.lock \
    && rm -r /venv/lib/python3.11/site-packages/tensorflow/include
COPY pyproject.toml README.md LICENSE ./
COPY infra infra
COPY restill restill
COPY tasks tasks
COPY flows flows
RUN uv build --wheel --require-hashes --build-constraints requirements/all.lock --out-dir dist \
    && uv pip install --no-cache --python /venv/bin/python --no-deps dist/*.whl

FROM build AS build-gpu
RUN uv pip install --no-cache --python /venv/bin/python --require-hashes --no-deps -r requirements/gpu.lock

FROM ${BASE} AS base
# git: the data set's version stands in a file that is committed. tini: reaps what a killed flow run leaves behind.
# Debian keeps one version a release, so none is named.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin restill \
    && install --directory --owner=restill --group=restill /project
COPY infra/images/entrypoint.sh /opt/prefect/entrypoint.sh
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    GX_ANALYTICS_ENABLED=false \
    DVC_NO_ANALYTICS=1 \
    TF_CPP_MIN_LOG_LEVEL=3 \
    RESTILL_ROOT=/project
USER 10001:10001
WORKDIR /project
ENTRYPOINT ["/usr/bin/tini", "-g", "--", "/opt/prefect/entrypoint.sh"]
CMD ["prefect", "worker", "start", "--pool", "cpu", "--type", "process", "--limit", "1", "--with-healthcheck"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/health', timeout=5)"]

FROM base AS cpu
COPY --from=build /venv /venv

FROM base AS gpu
# What the container toolkit puts into a container whose image is not CUDA's own.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-gpu /venv /venv
CMD ["prefect", "worker", "start", "--pool", "gpu", "--type", "process", "--limit", "1", "--with-healthcheck"]
