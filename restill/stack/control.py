"""Speak with supervisord through its socket."""

import http.client
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any

_ANSWER_SECONDS = 20.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:  # noqa: ARG002
        return _Connection(self._path)


def call(path: Path, method: str, *arguments: str | bool) -> Any:
    """Call one method of supervisord.

    Raises: OSError if nobody answers; xmlrpc.client.Fault if it refuses.
    """
    proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(str(path)))
    with proxy:
        return getattr(proxy.supervisor, method)(*arguments)
