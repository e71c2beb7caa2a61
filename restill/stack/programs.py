"""Which processes the stack is made of, as supervisord is told.

No path of the project and no secret stands in the configuration: paths are relative to its folder, in which supervisord
is started, or reach it through its environment. So a strange character in a path cannot become part of the syntax, and
keys are in no file and on no command line.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from restill.settings import Settings
from restill.stack.places import Places, api_url, base_url, local_host

MARK = "RESTILL_UP_HOME"  # in the environment of every process of the stack, and of all their children
HEARTBEAT_SECONDS = 30

_HEAD = """\
; Made by `restill up`; changes are lost.
[supervisord]
pidfile=supervisord.pid
logfile=../logs/supervisord.log
logfile_maxbytes=10MB
logfile_backups=3
childlogdir=.

[unix_http_server]
file=%(ENV_RESTILL_UP_SOCKET)s
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
# Started by `restill up` in order, and by supervisord again whenever one dies; never given up.
_PROGRAM = """
[program:{name}]
command="%(ENV_RESTILL_UP_PYTHON)s" -m {command}
priority={priority}
autostart=false
autorestart=true
startsecs=5
startretries=100000
stopwaitsecs={stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile=../logs/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=5
"""


@dataclass(frozen=True)
class Program:
    """One process that is kept running."""

    name: str
    command: str  # after `python -m`
    priority: int  # started in this order, stopped in the opposite one
    stop_seconds: int = 60

    @property
    def is_worker(self) -> bool:
        """Return whether this is the worker of a pool."""
        return self.name.startswith("worker-")


def programs(settings: Settings, *, own_server: bool) -> list[Program]:
    """Return what is to run: an S3 server where no endpoint is configured, a Prefect server unless another is used."""
    stack = settings.stack
    found = [Program("s3", "restill.stack.s3", 10, stop_seconds=90)] if settings.storage.endpoint_url is None else []
    if own_server:
        found.append(Program("prefect", f"prefect server start --host {stack.host} --port {stack.port}", 20))
    for pool, limit in stack.workers.items():
        command = f"prefect worker start --pool {pool} --type process --limit {limit} --name {worker_name(pool)}"
        found.append(Program(f"worker-{pool}", command, 30))
    return found


def worker_name(pool: str) -> str:
    """Return under which name this machine's worker of a pool is known to the server."""
    host = "".join(sign if sign.isalnum() or sign in ".-" else "-" for sign in os.uname().nodename)
    return f"{host}-{pool}"


def configuration(running: list[Program]) -> str:
    """Return supervisord's configuration."""
    return _HEAD + "".join(_PROGRAM.format(**vars(program)) for program in running)


def environment(settings: Settings, given: Mapping[str, str], *, external_api: str | None) -> dict[str, str]:
    """Return the environment of the processes.

    Args:
        given: that of the command.
        external_api: the Prefect API that somebody else runs; None: our own.
    """
    places, stack = Places(settings.state_dir), settings.stack
    made = dict(given) | {
        MARK: str(places.home),
        "RESTILL_UP_SOCKET": str(places.socket),
        "RESTILL_UP_PYTHON": sys.executable,
        "RESTILL_ROOT": str(settings.root),  # a run is started in a folder of its own
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    defaults = {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_WORKER_QUERY_SECONDS": "5",  # a person in the UI waits for this
    }
    if external_api is not None:
        return defaults | made | {"PREFECT_API_URL": external_api}
    made["PREFECT_API_URL"] = api_url(stack.host, stack.port)
    made["PREFECT_HOME"] = str(settings.state_dir / "prefect")
    seen = stack.public_url or base_url(_named(stack.host), stack.port)
    defaults |= {
        "PREFECT_UI_URL": seen,
        "PREFECT_SERVER_UI_API_URL": f"{seen}/api",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    if not stack.is_local:
        key = given.get("PREFECT_SERVER_API_AUTH_STRING") or places.make_auth()
        made |= {"PREFECT_SERVER_API_AUTH_STRING": key, "PREFECT_API_AUTH_STRING": key}
    return defaults | made


def _named(host: str) -> str:
    """Return a name for the server that other machines know too, where it listens on all addresses."""
    return os.uname().nodename if host != local_host(host) else host
