"""What a store means by 403: which right the key in use lacks, and which role has it."""

from restill import policies
from restill.errors import AccessDenied

# The right that each operation of the store needs, as AWS names it.
_RIGHTS = {
    "read": "s3:GetObject",
    "look up": "s3:GetObject",
    "write": "s3:PutObject",
    "delete": "s3:DeleteObject",
    "copy to": "s3:PutObject",
    "touch": "s3:PutObject",
    "list": "s3:ListBucket",
    "find the bucket": "s3:ListBucket",
    "create the bucket": "s3:CreateBucket",
}


def denied(operation: str, where: str, key: str | None, said: str) -> AccessDenied:
    """Return the error of an operation that was refused for want of a right.

    Args:
        operation: what was asked for, in the store's words.
        where: the place, for a person.
        key: below the store's prefix; None: the bucket itself.
        said: the server's own words.
    """
    right = _RIGHTS.get(operation, f"to {operation}")
    able = policies.who_may(right, key) if key is not None else ()
    roles = f"Roles that may: {', '.join(able)}" if able else "No role of Restill's may"
    explained = f" It says: {said.rstrip('.')}." if "arn:" in said else ""  # AWS names the policy that refused
    return AccessDenied(
        f"{where} refused to {operation}: the key in use lacks the right {right} there.{explained}",
        hint=f"{roles} (docs/roles.md). Check which key is in RESTILL_STORAGE__… or AWS_….",
    )
