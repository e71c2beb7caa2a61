"""A proxy before a real S3 server, for faults that no server shows on request."""

import http.client
import socket
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from restill.registry import Registry
from restill.storage import ObjectStore

# What can happen to a request. A fault is one of these names, or an answer (status, code) given in the server's place.
RESET_BEFORE = "reset before the server saw it"
RESET_AFTER = "reset after the server applied it"
TRUNCATED = "half an answer"
CORRUPTED = "a wrong byte in the answer"
CORRUPTED_UPLOAD = "a wrong byte in the request"
SLOW = "slow"
ERROR = (500, "InternalError")
SLOW_DOWN = (503, "SlowDown")
NO_SPACE = (507, "InsufficientStorage")
SKEWED = (403, "RequestTimeTooSkewed")


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on; `fault(command, path)` says before each what happens to it, or None."""

    daemon_threads = True

    def __init__(self, upstream, fault):
        super().__init__(("127.0.0.1", 0), _Passing)
        self.upstream, self.fault, self.seen = upstream, fault, []


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def log_message(self, *arguments):
        pass

    def _pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault(self.command, self.path)
        if fault == RESET_BEFORE:
            self._reset()
            return
        if isinstance(fault, tuple):
            self.server.seen.append((self.command, self.path, fault[0]))
            self._answer(fault[0], [], f"<Error><Code>{fault[1]}</Code><Message>injected</Message></Error>".encode())
            return
        if fault == SLOW:
            time.sleep(0.2)
        if fault == CORRUPTED_UPLOAD and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        status, headers, content = self._ask(body)
        self.server.seen.append((self.command, self.path, status))
        if fault == RESET_AFTER:
            self._reset()
            return
        if fault == CORRUPTED and content:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self._answer(status, headers, content, cut=fault == TRUNCATED)

    def _ask(self, body):
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("expect", "connection"):
                upstream.putheader(name, value)
        upstream.endheaders(body)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        return answer.status, answer.getheaders(), content

    def _answer(self, status, headers, content, *, cut=False):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if "content-length" not in {name.lower() for name, _ in headers}:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._reset()

    def _reset(self):
        self.close_connection = True
        self.wfile.flush()
        # An RST, as from a machine that vanished, not an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass_on  # noqa: N815


@contextmanager
def faulty(store, fault):
    """Yield the proxy and a registry whose requests go through it."""
    proxy = FaultyProxy(urlsplit(store.connection.endpoint_url).netloc, fault)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{proxy.server_address[1]}"
        yield proxy, Registry(ObjectStore(replace(store.connection, endpoint_url=address)), "default")
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


def at_number(number, fault, wanted):
    """Return a fault for the `number`-th request (from 0) that `wanted(command, path)` picks, once."""
    seen = []
    lock = threading.Lock()

    def pick(command, path):
        if not wanted(command, path):
            return None
        with lock:
            seen.append((command, path))
            return fault if len(seen) == number + 1 else None

    return pick


def once_each(fault, wanted):
    """Return a fault for the first request of each kind and path that `wanted(command, path)` picks."""
    seen = set()
    lock = threading.Lock()

    def pick(command, path):
        if not wanted(command, path):
            return None
        with lock:
            first = (command, path) not in seen
            seen.add((command, path))
            return fault if first else None

    return pick
