"""Which new files are told of, by what was asked of `ingest` before. No server: the runs are given."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Failed, Running

from restill.incoming import IncomingFile
from tasks.arrivals import AGAIN_AFTER, QUIET, UNDER_WAY_AT_MOST, _wait

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def file(age, place="/incoming/a.csv"):
    return IncomingFile(place, "a.csv", None, modified=NOW - age)


def run(age, state):
    return FlowRun(flow_id=uuid4(), name="r", state=state, expected_start_time=NOW - age)


@pytest.mark.parametrize(
    ("found", "asked", "why"),
    [
        (file(2 * QUIET), None, None),
        (file(QUIET - SECOND), None, "it was written to"),
        (file(SECOND, "s3://bucket/incoming/a.csv"), None, None),  # an object appears whole
        (file(2 * QUIET, "/incoming/\udcff.csv"), None, "its name is no text"),
        (file(timedelta(days=9)), run(SECOND, Running()), "has not ended"),
        (file(timedelta(days=9)), run(UNDER_WAY_AT_MOST + SECOND, Running()), None),  # dead, and nobody said so
        (file(timedelta(days=9)), run(AGAIN_AFTER - SECOND, Failed()), "has ended"),
        (file(timedelta(days=9)), run(AGAIN_AFTER + SECOND, Failed()), None),
        (file(2 * QUIET), run(3 * QUIET, Running()), None),  # changed since it was asked for
    ],
)
def test_what_is_told_of_now(found, asked, why):
    said = _wait(found, asked, NOW)
    assert said is None if why is None else why in said
