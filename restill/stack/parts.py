"""What is running and what is not, for a person or a program."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from restill.settings import Settings
from restill.stack.keeper import Keeper
from restill.stack.places import base_url
from restill.storage.embedded import EmbeddedServer

_WORDS = {"RUNNING": "up", "STARTING": "starting", "BACKOFF": "keeps dying", "STOPPING": "stopping"}


@dataclass(frozen=True)
class Part:
    """One part of the stack."""

    name: str
    state: str  # up, or why not
    pid: int | None = None
    since: datetime | None = None
    address: str = ""
    log: Path | None = None

    @property
    def is_up(self) -> bool:
        """Return whether it does its work."""
        return self.state == "up"


def look(settings: Settings, keeper: Keeper, *, external_api: str | None) -> list[Part]:
    """Return the state of each part; starts nothing, and takes at most some seconds.

    Args:
        external_api: the Prefect API that somebody else runs; None: our own.
    """
    said = keeper.processes()
    parts = [_keeper(keeper)]
    if settings.storage.endpoint_url is None:
        parts.append(_s3(settings, keeper))
    if external_api is not None:
        parts.append(Part("prefect", "up" if answers(external_api) else "does not answer", address=external_api))
    for program in keeper.programs:
        if program.name == "s3":
            continue
        found = (said or {}).get(program.name, {})
        address = base_url(settings.stack.host, settings.stack.port) if program.name == "prefect" else ""
        part = _of(program.name, found, address, keeper.places.logs / f"{program.name}.log")
        if program.name == "prefect" and part.is_up and not answers(f"{address}/api"):
            part = Part(part.name, "does not answer", part.pid, part.since, part.address, part.log)
        parts.append(part)
    return parts


def answers(api_url: str) -> bool:
    """Return whether a Prefect API says that it is well; a refusal for want of a key is an answer too."""
    try:
        with urllib.request.urlopen(f"{api_url.rstrip('/')}/health", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == http.HTTPStatus.OK)
    except urllib.error.HTTPError as error:
        return error.code in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN)
    except (OSError, ValueError):
        return False


def _keeper(keeper: Keeper) -> Part:
    pid, log = keeper.pid(), keeper.places.logs / "supervisord.log"
    if pid is None:
        return Part("supervisord", "down", log=log)
    return Part("supervisord", "up", pid, _born(pid), str(keeper.places.socket), log)


def _s3(settings: Settings, keeper: Keeper) -> Part:
    """The server itself, whoever started it, rather than the process that watches it."""
    status = EmbeddedServer(settings.state_dir).status()
    state = "up" if status.healthy else "does not answer" if status.running else "down"
    if state == "up" and (keeper.processes() or {}).get("s3", {}).get("statename") not in ("RUNNING", "STARTING"):
        state = "up, but not kept"
    since = _born(status.pid) if status.pid is not None else None
    return Part("s3", state, status.pid, since, status.endpoint_url or "", status.log)


def _of(name: str, said: Mapping[str, object], address: str, log: Path) -> Part:
    state = _WORDS.get(str(said.get("statename")), "down")
    pid = said.get("pid")
    if state not in ("up", "starting") or not isinstance(pid, int) or not pid:
        return Part(name, state, address=address, log=log)
    return Part(name, state, pid, _born(pid), address, log)


def _born(pid: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(psutil.Process(pid).create_time(), UTC)
    except psutil.Error:
        return None
