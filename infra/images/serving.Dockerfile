# The search service: no TensorFlow, no Prefect, no compiler, no shell tools beyond the base image's.
#   docker build -f infra/images/serving.Dockerfile -t restill-serving .
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY requirements requirements
RUN python -m pip install --no-cache-dir --require-hashes -r requirements/installer.lock \
    && python -m venv --without-pip /venv \
    && uv pip install --no-cache --python /venv/bin/python --require-hashes --no-deps -r requirements/serving.lock
COPY pyproject.toml README.md LICENSE ./
COPY infra infra
COPY restill restill
COPY tasks tasks
COPY flows flows
RUN uv build --wheel --require-hashes --build-constraints requirements/all.lock --out-dir dist \
    && uv pip install --no-cache --python /venv/bin/python --no-deps dist/*.whl

FROM ${BASE}
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin restill \
    && install --directory --owner=restill --group=restill /var/lib/restill
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RESTILL_ROOT=/var/lib/restill
USER 10001:10001
WORKDIR /var/lib/restill
EXPOSE 8000
CMD ["python", "-m", "restill.serving"]
# Alive; whether a model is loaded is /readyz, which a load balancer asks.
HEALTHCHECK --interval=10s --timeout=5s --start-period=1m --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=3)"]
