"""How the champion is served over HTTP."""

from pathlib import Path

from pydantic import Field, SecretStr

from restill.settings.section import Section


class ServingSettings(Section):
    """The HTTP service, `restill serve`."""

    host: str = Field("127.0.0.1", description="Address it listens on. Any but this machine's own needs a token.")
    port: int = Field(8000, ge=0, le=65535, description="Port it listens on; 0: any free one.")
    token: SecretStr | None = Field(None, min_length=16, description="What callers send as bearer token.")
    token_file: Path | None = Field(None, description="File with that token, instead.")
    without_token: bool = Field(False, description="Listen beyond this machine without one: something else guards it.")
    poll_seconds: float = Field(30.0, gt=0, description="Time between two looks at the alias.")
    threads: int = Field(1, ge=1, description="Interpreter threads.")
    max_pairs: int = Field(256, ge=1, description="Most pairs, or texts, of one request.")
    max_body_bytes: int = Field(1_000_000, ge=1, description="Largest request body.")
    stop_seconds: int = Field(30, ge=0, description="Time that requests under way get to end in when it is stopped.")
