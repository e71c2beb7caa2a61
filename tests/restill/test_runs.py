"""Records of runs in a real object store, and the metrics that are derived from them."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest
from measured import measurements
from prometheus_client import CollectorRegistry, generate_latest
from registered import artifact, register
from starlette.testclient import TestClient

from restill import metering, runs
from restill.errors import CeilingReached, RestillError
from restill.gates import Verdict
from restill.gates.verdict import Answer, GateRow
from restill.ledger import BatchOutcome
from restill.registry import Registry
from restill.run_metrics import RunMetrics
from restill.runs import Run
from restill.settings import MetricsSettings, Settings, StorageSettings

TOKEN = "a token of some length"


def batch(outcome="accepted", rows_in=100, accepted=90):
    kept_out = {"empty_text": rows_in - accepted}
    return BatchOutcome(
        outcome=outcome, file_name="pairs.csv", batch_id="b" * 32, rows_in=rows_in, accepted=accepted,
        quarantined=kept_out, reasons=(), at=datetime.now(UTC),
    )  # fmt: skip


def verdict(*, passed):
    answer = Answer.PASS if passed else Answer.FAIL
    rows = (GateRow(gate="f1_floor", answer=answer, observed="0.9", limit="0.5", sentence="F1 is 0.9."),)
    measured = measurements()
    return Verdict(passed=passed, bootstrap=True, reason="As F1 says.", rows=rows, limits={}, measurements=measured)


def begun(store, number, flow="retrain"):
    return runs.begin(store, flow=flow, model="default", run_id=f"id-{number}", name=f"{flow}-{number}")


def refused():
    run = Run()
    run.took_in(batch())
    run.was_judged(verdict(passed=False))
    return run


@pytest.fixture
def three_runs(store):
    """A run that refused a challenger, one that was killed, and an ingest that refused a file."""
    run = refused()
    run.scored = 7
    with run.step("distill_student"):
        pass
    runs.end(store, begun(store, 1), run, sentence="Not promoted.", result=run.result)
    begun(store, 2)
    run = Run()
    run.took_in(batch("refused"))
    runs.end(store, begun(store, 3, "ingest"), run, sentence="pairs.csv was refused.", result=run.result)
    return store


def test_the_last_runs_are_read_back_newest_first_and_a_killed_one_has_no_end(three_runs):
    found = runs.last(three_runs, "default", 10)
    assert [(run.started.flow, run.ended and run.ended.result) for run in found] == [
        ("ingest", "refused"),
        ("retrain", None),
        ("retrain", "refused"),
    ]
    first = found[-1].ended
    assert (first.rows.accepted, first.rows.quarantined, first.scored) == (90, 10, 7)
    assert first.judged[0].gates == {"f1_floor": "fail"}
    assert list(first.steps) == ["distill_student"]
    assert found[0].ended.rows.refused == 100
    assert [run.started.run_id for run in runs.last(three_runs, "default", 2)] == ["id-3", "id-2"]
    assert runs.last(three_runs, "another", 10) == []


def test_a_record_of_another_form_is_left_out_and_does_not_hide_the_others(three_runs):
    key = next(folder for folder, ended in runs.keys(three_runs, "default").items() if ended)
    document = json.loads(three_runs.get(f"{key}/ended.json"))
    newer = json.dumps(document | {"schema_version": 99}).encode()
    three_runs.create("runs/default/29990101T000000Z-x/ended.json", newer)
    three_runs.create("runs/default/29990101T000001Z-x/ended.json", b"no JSON")
    assert len(runs.last(three_runs, "default", 10)) == 3


def test_a_record_is_written_once(three_runs):
    key = next(folder for folder, ended in runs.keys(three_runs, "default").items() if ended)
    assert three_runs.create(f"{key}/ended.json", b"{}") is False


@pytest.mark.parametrize(
    ("noted", "result"),
    [
        ([], "unchanged"),
        ([batch()], "done"),
        ([batch(), batch("refused")], "refused"),
        ([verdict(passed=False)], "refused"),
        ([verdict(passed=False), verdict(passed=True)], "waiting"),
    ],
)
def test_what_came_of_a_run_follows_from_what_its_steps_noted(noted, result):
    run = Run()
    for found in noted:
        run.took_in(found) if isinstance(found, BatchOutcome) else run.was_judged(found)
    assert run.result == result


def test_device_seconds_are_wall_seconds_times_devices_and_have_a_ceiling(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(runs.time, "monotonic", lambda: now[0])
    run = Run(ceiling=50)
    with run.using(4):
        now[0] += 10
        run.check()
        now[0] += 2.4
    now[0] += 1000
    assert run.device_seconds == pytest.approx(49.6)
    run.check()
    with run.using(1):
        now[0] += 0.5
        with pytest.raises(CeilingReached, match="ceiling of 50 device-seconds"):
            run.check()


def scraped(registry):
    text = generate_latest(registry).decode()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[0] != "#"}


def test_metrics_count_every_recorded_run_once_and_go_on_after_a_restart(three_runs, tmp_path):
    models = Registry(three_runs, "default")
    reading = CollectorRegistry()
    reading.register(RunMetrics(models, "champion"))
    scraped(reading)
    again = scraped(reading)
    assert again["restill_metrics_up"] == 1
    assert again['restill_runs_total{flow="retrain",result="refused"}'] == 1
    assert again['restill_rows_total{outcome="accepted"}'] == 90
    assert again['restill_rows_total{outcome="refused"}'] == 100
    assert again["restill_scored_total"] == 7
    assert again['restill_gate_answers_total{answer="fail",gate="f1_floor"}'] == 1
    assert again['restill_newest_run_open{flow="retrain"}'] == 1
    assert again["restill_refusals_in_a_row"] == 1
    assert "restill_registry_champion_sequence" not in again

    version = register(models, artifact(tmp_path / "artifact")).version
    found = verdict(passed=True).model_copy(update={"measurements": measurements(challenger=version)})
    entry = models.promote(
        version, alias="champion", expected=None, reason="better", promoted_by="a test",
        verdict_sha256=models.add_verdict(version, found.document()),
    )  # fmt: skip
    run = Run()
    run.was_judged(found)
    run.is_live(entry, promoted=True)
    runs.end(three_runs, begun(three_runs, 4), run, sentence="Promoted.", result=run.result)
    after = scraped(reading)
    assert after['restill_runs_total{flow="retrain",result="promoted"}'] == 1
    assert after['restill_newest_run_open{flow="retrain"}'] == 0
    assert after["restill_refusals_in_a_row"] == 0
    assert after["restill_registry_champion_promoted_timestamp_seconds"] == pytest.approx(entry.at.timestamp())
    restarted = CollectorRegistry()
    restarted.register(RunMetrics(models, "champion"))
    assert scraped(restarted) == after


def test_without_the_store_the_metrics_say_so_and_are_not_written(tmp_path):
    nowhere = StorageSettings(endpoint_url="http://127.0.0.1:9", access_key_id="a", secret_access_key="b")
    settings = Settings(root=tmp_path, storage=nowhere)
    assert scraped(metering.collected(settings)) == {"restill_metrics_up": 0}
    with pytest.raises(RestillError, match="no metrics were written"):
        metering.write(settings, tmp_path / "restill.prom")
    assert not (tmp_path / "restill.prom").exists()


def test_a_scraper_needs_the_token_where_one_is_set(three_runs, tmp_path):
    connection = dataclasses.asdict(three_runs.connection)
    names = ("endpoint_url", "bucket", "prefix", "access_key_id", "secret_access_key")
    settings = Settings(root=tmp_path, storage=StorageSettings(**{name: connection[name] for name in names}))
    client = TestClient(metering.make_app(settings, TOKEN))
    assert client.get("/metrics").status_code == 401
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert 'restill_runs_total{flow="ingest",result="refused"} 1.0' in answer.text
    assert TOKEN not in repr(settings.model_copy(update={"metrics": MetricsSettings(token=TOKEN)}))
    metering.write(settings, tmp_path / "restill.prom")
    assert "restill_metrics_up 1.0" in (tmp_path / "restill.prom").read_text()


def test_a_run_of_yesterday_is_before_one_of_today(store):
    """Keys sort by the time a run began, whatever its flow is called."""
    late = begun(store, 1, "a")
    early = late.model_copy(update={"started_at": late.started_at - timedelta(days=1), "flow": "z", "run_id": "id-0"})
    runs.end(store, early, Run(), sentence="Done.", result="done")
    assert [run.started.run_id for run in runs.last(store, "default", 2)] == ["id-1", "id-0"]
