"""find_arrivals: which incoming files are new, whole, and asked for by nobody yet."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from restill import plans, storage
from restill.incoming import S3, IncomingFile
from restill.settings import Settings
from tasks.progress import say
from tasks.step import MINUTES, step

# Nobody tells when a local file is written whole; an object appears whole.
QUIET = timedelta(seconds=30)
# A file whose ingestion failed, or that could not be read, is asked for again when it changes, or after this.
AGAIN_AFTER = timedelta(hours=1)
# A run that does not end blocks its files no longer than this, should nobody have marked it crashed.
UNDER_WAY_AT_MOST = timedelta(days=1)
_RUNS_A_PAGE = 200  # as many as the API returns


@step("look for new files in {settings.data.incoming}", timeout_seconds=30 * MINUTES)
def find_arrivals(settings: Settings) -> list[str]:
    """Return the places of new files that no run of `ingest` was asked to take in; says how many there are."""
    store = storage.connect(settings.storage, settings.state_dir)
    new = plans.new_files(settings, store)
    now = datetime.now(UTC)
    asked = _asked_for(now) if new else {}
    found: list[str] = []
    for file in new:
        if why := _wait(file, asked.get(file.place), now):
            say(f"{file.name!r} waits: {why}")
        else:
            found.append(file.place)
    say(f"{len(found)} new files, {len(new) - len(found)} that wait")
    return found


def _wait(file: IncomingFile, asked: FlowRun | None, now: datetime) -> str | None:
    """Return why a file is not to be told of now; None if it is."""
    modified = file.modified or now
    if any("\ud800" <= sign <= "\udfff" for sign in file.place):  # bytes that are no UTF-8
        return "its name is no text, and no run can be told it; rename it"
    if not file.place.startswith(S3) and now - modified < QUIET:
        return f"it was written to less than {QUIET.seconds} s ago"
    if asked is None or asked.expected_start_time is None or modified > asked.expected_start_time:
        return None
    ended = asked.state is not None and asked.state.is_final()
    if now - asked.expected_start_time < (AGAIN_AFTER if ended else UNDER_WAY_AT_MOST):
        return f"the run {asked.name} was asked to take it in, and {'has ended' if ended else 'has not ended'}"
    return None


def _asked_for(now: datetime) -> dict[str, FlowRun]:
    """Return the last run of `ingest` that each place was given to."""
    found: dict[str, FlowRun] = {}
    for run in _ingestions(now - UNDER_WAY_AT_MOST):
        files = run.parameters.get("files")
        for place in files if isinstance(files, list) else []:
            found.setdefault(place, run)
    return found


def _ingestions(since: datetime) -> Iterator[FlowRun]:
    """Yield the runs of `ingest` that were to start since then, the last first."""
    with get_client(sync_client=True) as client:
        offset = 0
        while True:
            page = client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=["ingest"])),
                flow_run_filter=FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(after_=since)),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=_RUNS_A_PAGE,
                offset=offset,
            )
            yield from page
            if len(page) < _RUNS_A_PAGE:
                return
            offset += len(page)
