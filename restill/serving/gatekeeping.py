"""What stands before the service's answers: the clock, the size of a request, and who may ask."""

import hmac
import http
import time
from collections.abc import Callable, Container

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CALLER_GONE = 499  # before there was an answer; no status is sent, and none of HTTP's own means this
OPEN_PATHS = ("/healthz", "/readyz")  # asked by what starts and stops services, and says nothing


class Timed:
    """Tells path, status and seconds of each request."""

    def __init__(self, app: ASGIApp, *, tell: Callable[[str, int, float], None], paths: Container[str]) -> None:
        """Wrap an application; any path but these is told as `other`."""
        self._app, self._tell, self._paths = app, tell, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status: int = CALLER_GONE

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except BaseException:
            status = http.HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._tell(path, status, time.perf_counter() - started)


class TokenOnly:
    """Lets those in who know the token."""

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            given = Headers(scope=scope).get("authorization", "").encode()
            if not hmac.compare_digest(given, self._expected):
                refusal = JSONResponse(
                    {"detail": "Send the token of this service: Authorization: Bearer …"},
                    status_code=http.HTTPStatus.UNAUTHORIZED,
                    headers={"WWW-Authenticate": "Bearer"},
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class SmallBody:
    """Refuses a request body above a size, before more of it is held; hands others on in one piece."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        body, more = bytearray(), True
        while more and len(body) <= self._max_bytes and not (declared.isdigit() and int(declared) > self._max_bytes):
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if more or len(body) > self._max_bytes:
            refusal = JSONResponse(
                {"detail": f"A request has at most {self._max_bytes:,} bytes. Send fewer texts at once."},
                status_code=http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                headers={"Connection": "close"},  # the rest of it is not read
            )
            await refusal(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def once() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, once, send)
