"""What `restill up` keeps running on this machine."""

from pathlib import Path

from pydantic import Field, field_validator

from restill.settings.section import Section


class StackSettings(Section):
    """The processes of `restill up`."""

    host: str = Field(
        "127.0.0.1",
        pattern=r"^[A-Za-z0-9.:-]+$",
        description="Address that the Prefect server listens on. Beyond loopback with a key.",
    )
    port: int = Field(4200, ge=1024, le=65_535, description="Port of the Prefect server and its UI.")
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+[^\s]*[^/\s]$",
        description="Address under which people's browsers reach the server, such as https://prefect.example.org. "
        "Unset: host and port.",
    )
    pools: dict[str, int] | None = Field(
        None,
        description="Work pools that get a worker on this machine, and how many runs each takes at once. Unset: cpu 4, "
        "gpu 1, latency 1.",
    )
    pending_seconds: int = Field(
        900,
        ge=60,
        le=86_400,
        description="A run that a worker claimed and did not begin within this time has crashed: the worker died. "
        "Longer where runs wait for nodes or images.",
    )
    deployments: Path | None = Field(
        None, description="YAML file with the deployments. Unset: the infra/prefect.yaml that came with Restill."
    )

    @field_validator("pools")
    @classmethod
    def _pool_names(cls, pools: dict[str, int] | None) -> dict[str, int] | None:
        for name, limit in (pools or {}).items():
            if not name or set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789-"):
                raise ValueError(f"a pool's name has small letters, digits and dashes; {name!r} has others")
            if limit < 1:
                raise ValueError(f"a worker takes at least 1 run at once; {name} has {limit}")
        return pools

    @property
    def workers(self) -> dict[str, int]:
        """Return the pools that get a worker on this machine, and how many runs each takes at once."""
        return {"cpu": 4, "gpu": 1, "latency": 1} if self.pools is None else self.pools

    @property
    def is_local(self) -> bool:
        """Return whether the server can be reached from this machine only."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")
