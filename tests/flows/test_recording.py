"""Runs of the flows leave records that tell what they did, also where they failed or were stopped."""

import pytest

from flows.ingest import ingest
from flows.score import score
from restill import runs, snapshots, storage
from restill.errors import CeilingReached, DataMissing
from restill.logits import open_store, planning
from restill.settings import load_settings

LINES = 700


@pytest.fixture(scope="module")
def store(project):
    settings = load_settings()
    return storage.connect(settings.storage, settings.state_dir)


@pytest.fixture(scope="module")
def failed(project, prefect_server):
    """Score before there is any data; return the final state."""
    return score(return_state=True)


@pytest.fixture(scope="module")
def ingested(project, failed):
    file = project.root / "pairs.csv"
    rows = [f"turn lamp {number} on,switch on lamp {number},{number % 2}" for number in range(LINES)]
    file.write_text("\n".join(["text_a,text_b,label", *rows, ",nothing,1", ""]))
    (outcome,) = ingest([str(file)])
    assert outcome.outcome == "accepted", outcome.reasons
    return outcome


@pytest.fixture(scope="module")
def stopped(ingested):
    """Score with a ceiling that the second shard reaches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTILL_RUN__MAX_DEVICE_SECONDS", "0.001")
        return score(return_state=True)


def newest(store):
    return runs.last(store, "default", 1)[0].ended


def test_a_run_that_cannot_do_its_job_fails_with_a_sentence_and_is_recorded(failed, store):
    assert failed.is_failed()
    assert "data" in failed.message
    assert "Traceback" not in failed.message
    with pytest.raises(DataMissing):
        failed.result()
    ended = newest(store)
    assert (ended.flow, ended.result) == ("score", "failed")
    assert ended.sentence in failed.message


def test_an_ingest_notes_its_rows(ingested, store):
    ended = newest(store)
    assert (ended.flow, ended.result) == ("ingest", "done")
    assert (ended.rows.read, ended.rows.accepted, ended.rows.quarantined) == (LINES + 1, LINES, 1)
    assert ended.sentence == ingested.sentence
    assert ended.steps["ingest_file"] > 0
    assert ended.device_seconds == 0
    assert ended.name.startswith("ingest-")


def test_a_run_stops_at_its_ceiling_keeps_what_it_scored_and_the_next_goes_on(stopped, project, store):
    assert stopped.is_failed()
    assert "ceiling of 0 device-seconds; what was done is kept" in stopped.message
    assert "run.max_device_seconds" in stopped.message
    with pytest.raises(CeilingReached):
        stopped.result()
    first = newest(store)
    assert first.result == "failed"
    assert first.device_seconds > 0
    settings = load_settings()
    need = planning.find_need(snapshots.current(project.root), open_store(settings, store))
    assert 0 < need.missing < need.distinct

    report = score()
    assert report.already == need.distinct - need.missing
    ended = newest(store)
    assert (ended.result, ended.scored) == ("done", need.missing)
    assert ended.data_version == snapshots.current(project.root).version
    assert ended.device_seconds >= ended.steps["score_here"] * 0.5
