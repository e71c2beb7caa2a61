"""What every section of the configuration has: unknown keys are errors, and nothing changes after it was read."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")
