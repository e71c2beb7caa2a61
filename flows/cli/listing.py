"""What can be chosen in the configuration, and what each choice is."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from flows.cli import environment, screen
from flows.cli.screen import Json


class Choice(StrEnum):
    """What `restill list` can list."""

    STUDENTS = "students"
    TOKENS = "tokens"
    EMBEDDINGS = "embeddings"
    LOSSES = "losses"
    SCHEDULES = "schedules"
    EXPORTS = "exports"
    TEACHERS = "teachers"


def list_choices(
    what: Annotated[Choice, typer.Argument(help="Kind of choice.")],
    as_json: Json = False,
) -> None:
    """List what can be chosen in restill.toml: students, losses, schedules, …"""
    environment.move_native_logs()
    from restill import choices

    key, found = choices.choices(what.value)
    if as_json:
        screen.print_json({"setting": key, "choices": found})
        return
    table = Table(key, "what it is", box=None, pad_edge=False)
    for name, summary in found.items():
        table.add_row(name, summary)
    screen.out.print(table)
