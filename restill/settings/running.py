"""What a run may cost, what it writes to a log, and where its metrics are read."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from restill.settings.section import Section


class RunSettings(Section):
    """Limits of one run."""

    max_device_seconds: float | None = Field(
        None,
        gt=0,
        description="Ceiling of one run: wall seconds times devices, of scoring and training. It stops at the next "
        "shard or training step, keeps what it did and fails; unset: none.",
    )


class LogSettings(Section):
    """The log of runs, beside what Prefect keeps."""

    format: Literal["off", "json"] = Field(
        "off", description="off: Prefect's own only; json: an object a line, with run, flow, step and versions."
    )
    file: Path | None = Field(
        None, description="File that lines are added to, from the project folder; unset: standard output."
    )


class MetricsSettings(Section):
    """Metrics of runs for Prometheus, `restill metrics`."""

    host: str = Field("127.0.0.1", description="Address it listens on. Any but this machine's own needs a token.")
    port: int = Field(9464, ge=0, le=65535, description="Port it listens on; 0: any free one.")
    token: SecretStr | None = Field(None, min_length=16, description="What the scraper sends as bearer token.")
    token_file: Path | None = Field(None, description="File with that token, instead.")
    without_token: bool = Field(False, description="Listen beyond this machine without one: something else guards it.")
