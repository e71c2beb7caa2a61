"""`restill serve`: the champion over HTTP."""

from typing import Annotated

import typer

from restill.settings import load_settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: serving.host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on, 0: any; default: serving.port.")
    ] = None,
) -> None:
    """Serve the champion over HTTP, and whatever is promoted after it, until stopped."""
    from restill.serving.running import serve as run

    settings = load_settings()
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    run(settings.model_copy(update={"serving": settings.serving.model_copy(update=given)}))
