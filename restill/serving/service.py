"""The champion over HTTP: texts in, answers out, each with the version that gave them."""

import http
from datetime import datetime
from typing import Annotated

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field

from restill import __version__
from restill.errors import InvalidText
from restill.serving.gatekeeping import SmallBody, Timed, TokenOnly
from restill.serving.live import LiveChampion
from restill.serving.metrics import Metrics

_PROBED = ["GET", "HEAD"]  # load balancers ask with either
_SAID, _NAME = 8, 40  # what is wrong with a request that is told, and characters of each name


class Answer(BaseModel):
    """The answer for one pair."""

    similarity: float = Field(description="Cosine, in [-1, 1].")
    probability: float = Field(description="P(same meaning), calibrated.")
    same: bool = Field(description="Whether the probability reaches the version's threshold.")


class Answers(BaseModel):
    """The answers of one request, all of one version."""

    version: str
    answers: list[Answer]


class Vectors(BaseModel):
    """Unit vectors of texts, all of one version; those of two versions cannot be compared."""

    version: str
    vectors: list[list[float]]


class Version(BaseModel):
    """What answers now."""

    model: str
    alias: str
    version: str
    sequence: int
    action: str
    promoted_at: datetime
    loaded_at: datetime
    checked_at: datetime
    problem: str | None = Field(description="Why the last look at the alias, or the last load, failed.")


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


def make_app(
    live: LiveChampion, *, max_pairs: int = 256, max_body_bytes: int = 1_000_000, token: str | None = None
) -> FastAPI:
    """Return the application over a live champion.

    Args:
        live: what answers; whoever made it closes it.
        max_pairs: most pairs, or texts, of one request.
        max_body_bytes: largest request body.
        token: what callers must send as bearer token, except to `/healthz` and `/readyz`.
    """

    class Pairs(_Asked):
        pairs: Annotated[list[tuple[str, str]], Field(max_length=max_pairs)]

    class Texts(_Asked):
        texts: Annotated[list[str], Field(max_length=max_pairs)]

    metrics = Metrics(live)
    app = FastAPI(title="Restill", version=__version__, docs_url=None, redoc_url=None)

    @app.post("/similarity")
    def similarity(asked: Pairs) -> Answers:
        """Say for each pair of texts whether they mean the same."""
        metrics.batch("/similarity", len(asked.pairs))
        champion = live.current
        answers = [
            Answer(similarity=found.similarity, probability=found.probability, same=found.same)
            for found in champion.predict(asked.pairs)
        ]
        return Answers(version=champion.version, answers=answers)

    @app.post("/embed")
    def embed(asked: Texts) -> Vectors:
        """Return the unit vector of each text."""
        metrics.batch("/embed", len(asked.texts))
        champion = live.current
        return Vectors(version=champion.version, vectors=champion.embed(asked.texts).tolist())

    @app.api_route("/healthz", methods=_PROBED, response_class=PlainTextResponse)
    async def healthz() -> str:
        """Say that the process answers."""
        return "ok"

    @app.api_route("/readyz", methods=_PROBED, response_class=PlainTextResponse)
    def readyz() -> str:
        """Say that the champion answers, after asking it."""
        live.current.try_out()
        return "ok"

    @app.get("/version")
    async def version() -> Version:
        """Say which version answers, since when, and whether a newer one could not be loaded."""
        champion = live.current
        entry = champion.entry
        return Version(
            model=entry.model,
            alias=entry.alias,
            version=entry.version,
            sequence=entry.sequence,
            action=entry.action,
            promoted_at=entry.at,
            loaded_at=champion.loaded_at,
            checked_at=live.checked_at,
            problem=live.problem,
        )

    @app.get("/metrics")
    async def metrics_page() -> Response:
        """Return the metrics for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(InvalidText)
    async def invalid_text(_: Request, error: InvalidText) -> JSONResponse:
        return _refusal(str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        # Without what was sent, which may be long or no valid Unicode, but for the beginnings of names.
        found = error.errors()
        said = [f"{'.'.join(str(part)[:_NAME] for part in item['loc'][1:])}: {item['msg']}" for item in found[:_SAID]]
        return _refusal("; ".join(said + ([f"and {len(found) - _SAID:,} more"] if len(found) > _SAID else [])))

    app.add_middleware(SmallBody, max_bytes=max_body_bytes)
    if token is not None:
        app.add_middleware(TokenOnly, token=token)
    paths = {"/similarity", "/embed", "/healthz", "/readyz", "/version", "/metrics"}
    app.add_middleware(Timed, tell=metrics.answered, paths=paths)
    return app


def _refusal(why: str) -> JSONResponse:
    return JSONResponse({"detail": why}, status_code=http.HTTPStatus.UNPROCESSABLE_ENTITY)
