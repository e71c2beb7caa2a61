"""`restill registry policies`: what each role may do in the bucket, as IAM policies."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli import screen
from restill.policies import Role
from restill.settings import load_settings


def policies(
    bucket: Annotated[str | None, typer.Option(help="Bucket; default: the configured one.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Key prefix in it; default: the configured one.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Model, repeatable; default: the configured one.")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Alias, repeatable; default: the configured one.")] = None,
    partition: Annotated[str, typer.Option(help="aws-cn in China.")] = "aws",
    role: Annotated[Role | None, typer.Option(help="Print only this role's policy.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write a file for each into this folder instead.")] = None,
) -> None:
    """Print the IAM policy of each role, and the bucket's own. Asks no server (docs/roles.md)."""
    from restill import policies as rights
    from restill.files import write_whole

    settings = load_settings()
    made = rights.documents(
        settings.storage.bucket if bucket is None else bucket,
        settings.storage.prefix if prefix is None else prefix,
        model or [settings.registry.model],
        alias or [settings.registry.alias],
        partition=partition,
    )
    if role is not None:
        made = {role: made[role]}
    if out is not None:
        for name, policy in made.items():
            write_whole(out / f"{name}.json", rights.text(policy).encode())
        screen.out.print(f"Wrote {', '.join(f'{name}.json' for name in made)} to {out}.")
        return
    screen.print_json(made[role] if role is not None else made)
