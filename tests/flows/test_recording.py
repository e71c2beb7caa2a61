"""Runs of the flows leave records that tell what they did, also where they failed or were stopped."""

import json
import logging
import sys
import threading
from collections.abc import Iterator

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

from flows.ingest import ingest
from flows.score import score, score_share
from restill import runs, snapshots, storage
from restill.errors import CeilingReached, DataMissing
from restill.logits import open_store, planning
from restill.settings import load_settings
from tasks import logs

LINES = 700
AUTH = "somebody:the-password-of-the-server"
LOG = "logs/runs.jsonl"
NO_PLAN = f"logits/{'0' * 64}/plans/{'0' * 32}.json"


class Processes:
    """The command lines of every process here and below while it is watched, as anybody on the machine sees them."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            for process in psutil.process_iter(["cmdline"]):
                self.seen.add(" ".join(process.info["cmdline"] or ()))


@pytest.fixture(scope="module", autouse=True)
def watched(project, prefect_server) -> Iterator[Processes]:
    """Write the log of everything below as JSON, with a password for the server, and watch the processes."""
    processes = Processes()
    with pytest.MonkeyPatch.context() as patch, temporary_settings({PREFECT_API_AUTH_STRING: AUTH}):
        patch.setenv("RESTILL_LOGS__FORMAT", "json")
        patch.setenv("RESTILL_LOGS__FILE", LOG)
        yield processes
    processes.stop()


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


def test_a_worker_that_should_have_a_gpu_and_has_none_says_which_setting_allows_it(project, prefect_server):
    state = score_share(NO_PLAN, return_state=True)
    assert state.is_failed()
    assert "TensorFlow sees no GPU" in state.message
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTILL_SCORING__ALLOW_CPU", "true")
        assert score_share(NO_PLAN, return_state=True).is_completed()


def test_the_log_says_of_each_line_which_run_and_step_it_is_from(stopped, project):
    lines = [json.loads(line) for line in (project.root / LOG).read_text().splitlines()]
    (accepted,) = [line for line in lines if "was accepted as batch" in line["message"] and "step" in line]
    assert accepted["flow"] == "ingest"
    assert accepted["run"].startswith("ingest-")
    assert len(accepted["run_id"]) == 36
    assert accepted["step"].startswith("ingest ")
    assert (accepted["level"], accepted["time"][-6:]) == ("INFO", "+00:00")
    ceiling = [line for line in lines if "CeilingReached" in line["message"]]
    assert [line["step"] for line in ceiling] == ["score with this machine"]
    assert ceiling[0]["level"] == "ERROR"
    assert {line["data_version"] for line in ceiling} == {snapshots.current(project.root).version}
    assert len({json.dumps(line) for line in lines}) == len(lines), "a line was written twice"


def test_a_traceback_is_a_field_of_its_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("restill", logging.ERROR, __file__, 1, "it %s", ("broke",), sys.exc_info())
    line = logs.JsonLines().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert (found["message"], found["logger"]) == ("it broke", "restill")
    assert found["exception"].endswith("ValueError: two\nlines")


def test_no_secret_is_in_logs_artifacts_parameters_records_or_the_process_list(stopped, project, store, watched):
    secrets = [AUTH, AUTH.split(":")[1], project.environment["RESTILL_STORAGE__SECRET_ACCESS_KEY"]]
    with get_client(sync_client=True) as client:
        kept = ("flow_runs", "task_runs", "artifacts", "logs")
        found = [client.request("POST", f"/{kind}/filter", json={}).text for kind in kept]
    assert all("score" in text for text in found)
    found += [path.read_text("utf-8") for path in (project.root / "logs").iterdir()]
    found += [store.get(item.key).decode() for item in store.list("runs/")]
    assert len(found) > len(kept) + 2
    assert any("python" in line for line in watched.seen)
    for secret in secrets:
        assert not any(secret in text for text in (*found, *watched.seen)), "a secret was written down"
