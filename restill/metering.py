"""Metrics of runs as a process that Prometheus reads, or as a file for node_exporter."""

from collections.abc import Callable
from pathlib import Path

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from restill import storage
from restill.errors import RestillError
from restill.files import write_whole
from restill.registry import Registry
from restill.run_metrics import RunMetrics
from restill.serving.gatekeeping import TokenOnly
from restill.serving.listening import listener, required_token
from restill.settings import Settings


def collected(settings: Settings) -> CollectorRegistry:
    """Return the metrics of the configured model's runs, read anew whenever they are asked for.

    Raises: ConfigurationError; StorageUnreachable if the embedded server does not start.
    """
    store = storage.connect(settings.storage, settings.state_dir, for_reading=True)
    found = CollectorRegistry()
    found.register(RunMetrics(Registry.configured(store, settings.registry), settings.registry.alias))
    return found


def write(settings: Settings, path: Path) -> None:
    """Write the metrics once, into a file that appears whole.

    Raises: RestillError if the object store did not answer: an old file that stays says more than one without runs.
    """
    found = collected(settings)
    if not found.get_sample_value("restill_metrics_up"):
        raise RestillError("The object store did not answer; no metrics were written.", hint="See restill history.")
    write_whole(path, generate_latest(found))


def make_app(settings: Settings, token: str | None) -> ASGIApp:
    """Return the application that answers /metrics to those who know the token, or to anybody without one."""
    found = collected(settings)

    def answer(_: Request) -> Response:
        return Response(generate_latest(found), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app: ASGIApp = Starlette(routes=[Route("/metrics", answer)])
    return TokenOnly(app, token=token) if token else app


def serve(settings: Settings, *, say: Callable[[str], None] = lambda address: None) -> None:
    """Answer until SIGTERM or SIGINT.

    Args:
        say: told the address once others can connect to it.
    Raises: ConfigurationError if it cannot listen there, or others than this machine could ask and no token is set.
    """
    app = make_app(settings, required_token(settings.metrics, "metrics"))
    with listener(settings.metrics.host, settings.metrics.port, "metrics") as socket:
        host = f"[{settings.metrics.host}]" if ":" in settings.metrics.host else settings.metrics.host
        say(f"http://{host}:{socket.getsockname()[1]}/metrics")
        uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning")).run(sockets=[socket])
