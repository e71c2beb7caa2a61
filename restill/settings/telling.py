"""Whom to tell what happened, and who has to agree before it does."""

from pydantic import Field

from restill.settings.section import Section


class ApprovalSettings(Section):
    """Whether a person decides on what passed the gates."""

    required: bool = Field(
        False, description="A challenger that passes every gate waits until a person approves it (docs/approval.md)."
    )
    expires_hours: float = Field(
        72.0, gt=0, le=24 * 365, description="Hours after which one that nobody decided on is not promoted."
    )


class NotificationSettings(Section):
    """Where Prefect sends messages."""

    block: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="Prefect notification block, as type/name: slack-webhook/ops, custom-webhook/desk. Unset: none.",
    )
