"""How a step tells how far it is: a progress artifact on the run page, and a bar where a person watches."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Report = Callable[[int, int, str], None]  # done, total (0: not known yet), what

_ARTIFACT_SECONDS = 2.0  # the API is told at most this often
_LINE_SECONDS = 10.0  # and a log without a screen this often

_NO_NAME = re.compile(r"[^\w.]+")
_NAME_PART = 40  # characters

_console: Console | None = None
_lines = True


def run_name(flow: str) -> Callable[[], str]:
    """Return what names a flow's runs: the flow and when it started, UTC, so that a list of runs reads by itself."""
    return lambda: f"{flow}-{datetime.now(UTC):%Y-%m-%d-%H%M%S}"


def name_run(flow: str, *parts: str) -> None:
    """Rename the flow run that this is called in: the flow, when it started, and what tells it from others.

    Args:
        flow: its name.
        parts: a data version, a purpose in any words; empty ones are left out.
    """
    run = FlowRunContext.get()
    if run is None or run.flow_run is None:
        return
    started = run.start_time.astimezone(UTC)
    words = [_NO_NAME.sub("-", part.lower()).strip("-")[:_NAME_PART] for part in parts]
    name = "-".join([flow, f"{started:%Y-%m-%d-%H%M}", *(word for word in words if word)])
    with get_client(sync_client=True) as client:
        client.set_flow_run_name(run.flow_run.id, name)


def label_run(**labels: str) -> None:
    """Put labels on the flow run that this is called in, where programs look: `restill.<name>`."""
    run = FlowRunContext.get()
    if run is not None and run.flow_run is not None:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(run.flow_run.id, {f"restill.{name}": text for name, text in labels.items()})


def watch(console: Console | None, *, lines: bool = True) -> None:
    """Show bars and, unless `lines` is false, what is said on a console; None, the default, only logs to the run."""
    global _console, _lines
    _console, _lines = console, lines


def say(text: str) -> None:
    """Log one line to the run, and print it where a person watches."""
    get_run_logger().info(text)
    if _console is not None and _lines:
        _console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def reporting(key: str, title: str) -> Iterator[Report]:
    """Give a callback that keeps a progress artifact and, on a console, a bar up to date.

    Args:
        key: artifact key: lower case and dashes.
        title: what is being done, for a person.
    """
    artifact: UUID = create_progress_artifact(progress=0.0, key=key, description=title)  # type: ignore[assignment]
    sent = printed = time.monotonic()
    screen = _console is not None and _console.is_terminal
    bar = Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}"),
        console=_console,
        disable=not screen,
        transient=True,
    )
    with bar:
        line = bar.add_task(title, total=None, what="")

        def report(done: int, total: int, what: str = "") -> None:
            nonlocal sent, printed
            bar.update(line, completed=done, total=total or None, what=what)
            now = time.monotonic()
            if now - sent >= _ARTIFACT_SECONDS:
                sent = now
                _update(artifact, 100.0 * done / total if total else 0.0)
            if not screen and now - printed >= _LINE_SECONDS:
                printed = now
                say(f"{title}: {done:,} of {total:,} {what}" if total else f"{title}: {done:,} {what}")

        yield report
    _update(artifact, 100.0)


def _update(artifact: UUID, percent: float) -> None:
    """Tell the server, if it answers: hours of work do not end because nobody could be shown how far they are."""
    try:
        update_progress_artifact(artifact, progress=percent)
    except httpx.HTTPError as error:
        get_run_logger().warning("Progress could not be shown: %s", error)
