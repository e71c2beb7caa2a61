"""Look for new files in the incoming place and tell of them; an automation starts `ingest` with them."""

from typing import Any

from prefect import flow
from prefect.states import Completed

from restill.settings import load_settings
from tasks import events
from tasks.arrivals import find_arrivals
from tasks.progress import run_name

MAX_FILES = 100  # one event tells of; the next run tells of the rest


@flow(name="watch-incoming", description=__doc__, flow_run_name=run_name("watch-incoming"))
def watch_incoming() -> Any:
    """Tell once of each new file, and again only when it changed, or a run that should have taken it in failed."""
    settings = load_settings()
    found = find_arrivals(settings)
    place = settings.data.incoming
    if not found:
        return Completed(message=f"Nothing new in {place}.", data=[])
    told = found[:MAX_FILES]
    files = "1 new file" if len(found) == 1 else f"{len(found):,} new files"
    rest = f" The first {MAX_FILES} are told of now." if len(told) < len(found) else ""
    sentence = f"{files} in {place}.{rest}"
    events.files_arrived(told, sentence, settings)
    return Completed(message=sentence, data=told)
