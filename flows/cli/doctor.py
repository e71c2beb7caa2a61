"""`restill doctor`: what a run needs, and how to mend what is missing."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from flows import prefect_server
from flows.cli import environment, screen
from flows.cli.screen import Json
from restill.errors import PrefectUnreachable, RestillError
from restill.settings import Settings, load_settings

if TYPE_CHECKING:
    from restill.doctor import Check

_MARKS = {"ok": "[green]✔[/]", "note": "[yellow]▲[/]", "missing": "[red]✘[/]"}


def doctor(as_json: Json = False) -> None:
    """Check what a run needs, and say how to mend what is missing. Changes nothing; exits 1 if something is missing."""
    environment.move_native_logs()
    found: list[Check] = []
    for check in _examine(load_settings()):
        found.append(check)
        if not as_json:
            screen.out.print(f"{_MARKS[check.answer]} [bold]{check.name:18}[/] {escape(check.said)}")
            if check.mend and check.answer != "ok":
                screen.out.print(f"  {'':18} {escape(check.mend)}")
    if as_json:
        screen.print_json([vars(check) for check in found])
    missing = sum(check.answer == "missing" for check in found)
    if not as_json:
        screen.out.print(f"{missing} to mend." if missing else "Nothing that a run needs is missing.")
    raise typer.Exit(1 if missing else 0)


def _examine(settings: Settings) -> "Iterator[Check]":
    """Give each answer as it comes."""
    from restill import doctor as library

    yield from library.examine(settings)
    yield from _prefect(settings)


def _prefect(settings: Settings) -> "Iterator[Check]":
    from restill.doctor import Check
    from restill.stack.parts import answers

    if not prefect_server.is_set_up():
        yield Check(
            "Prefect",
            "note",
            "no server: each command starts one of its own, and nothing runs by itself",
            "restill up starts one that stays, with workers and schedules; or set PREFECT_API_URL.",
        )
        return
    api = os.environ["PREFECT_API_URL"]
    if not answers(api):
        yield Check("Prefect", "missing", f"{api} does not answer", "restill up, or correct PREFECT_API_URL.")
        return
    from flows import inspection

    try:
        found = environment.talk(lambda: inspection.inspect(settings))
    except PrefectUnreachable as error:
        yield Check("Prefect", "missing", str(error), error.hint)
        return
    except RestillError as error:
        yield Check("deployments", "missing", str(error), error.hint)
        return
    yield Check("Prefect", "ok", api)
    yield from found
