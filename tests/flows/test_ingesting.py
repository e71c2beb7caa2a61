"""From a bucket to a champion, with pairs that nobody labelled; then quarantine and removal by command."""

import csv
import dataclasses
import json

import pytest

from flows.retrain import retrain
from restill import snapshots, storage
from restill.artifacts import training_report
from restill.registry import Registry
from restill.settings import load_settings
from restill.storage import ObjectStore


def answer(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def store(project):
    settings = load_settings()
    return storage.connect(settings.storage, settings.state_dir)


@pytest.fixture(scope="module")
def retrained(project, prefect_server, store):
    """Put a labelled CSV with bad rows and an unlabelled JSON Lines file into the bucket, and retrain."""
    path = project.drop("1", 2000)
    labelled = path.read_text("utf-8") + 'what is "this",,1,own,en\nhow so,so how,perhaps,own,en\n'
    path.unlink()
    second = project.drop("2", 300)
    with second.open(encoding="utf-8", newline="") as file:
        unlabelled = [{"text_a": row["text_a"], "text_b": row["text_b"]} for row in csv.DictReader(file)]
    second.unlink()
    bucket = ObjectStore(dataclasses.replace(store.connection, prefix=""))
    folder = f"{store.connection.prefix}/incoming"
    bucket.create(f"{folder}/drop 1.csv", labelled.encode())
    bucket.create(f"{folder}/logs.jsonl", "".join(json.dumps(row) + "\n" for row in unlabelled).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTILL_DATA__INCOMING", f"s3://{store.connection.bucket}/{folder}/")
        # Sentences of another kind than the labelled ones, and of another length.
        patch.setenv("RESTILL_DATA__BATCH_RULES__MAX_LENGTH_RATIO", "10")
        project.environment["RESTILL_DATA__INCOMING"] = f"s3://{store.connection.bucket}/{folder}/"
        project.environment["RESTILL_DATA__BATCH_RULES__MAX_LENGTH_RATIO"] = "10"
        yield retrain(), len(unlabelled)


def test_both_objects_are_taken_in(retrained, project, store):
    outcome, _ = retrained
    assert [(batch.file_name, batch.outcome) for batch in outcome.batches] == [
        ("drop 1.csv", "accepted"),
        ("logs.jsonl", "accepted"),
    ]
    assert outcome.batches[0].quarantined == {"bad_label": 1, "empty_text": 1}
    assert outcome.batches[1].detected == "JSON Lines, UTF-8, LF"
    assert "nothing_to_do" in project.call("plan", "--json").stdout
    assert not any("ingest" in step for step in answer(project.call("plan", "--json"))["steps"])


def test_the_student_learns_from_pairs_without_labels(retrained, project, store):
    """All of them are among its training pairs, and the accuracy is that of labelled ones."""
    outcome, unlabelled = retrained
    settings = load_settings()
    snapshot = snapshots.current(settings.root)
    (batch,) = (one.batch_id for one in outcome.batches if one.file_name == "logs.jsonl")
    labels = [label for rows in snapshot.read(("label",), batch=batch) for label in rows["label"].to_pylist()]
    assert labels == [None] * unlabelled
    challenger = outcome.decision.verdict.measurements.challenger
    registry = Registry(store, settings.registry.model)
    manifest = registry.manifest(challenger)
    folder = registry.fetch(manifest, settings.state_dir / "cache" / "versions")
    assert training_report(folder)["train_pairs"] == snapshot.rows["train"]
    measured = outcome.decision.verdict.measurements.accuracy["challenger"]
    tests = sum(rows.num_rows for rows in snapshot.read(("label",), split="test"))
    assert 0 < measured.pairs < tests


def test_kept_out_rows_are_listed_shown_corrected_and_let_in(retrained, project):
    (listed,) = answer(project.call("quarantine", "list", "--json"))
    assert listed["quarantined"] == {"bad_label": 1, "empty_text": 1}
    report = listed["report_id"]
    rows = answer(project.call("quarantine", "show", report[:8], "--reason", "bad_label", "--json"))
    assert [(row["text_a"], row["label"], row["source"]) for row in rows] == [("how so", "perhaps", "own")]
    corrected = project.root / "corrected.csv"
    shown = project.call("quarantine", "show", report, "--reason", "bad_label", "--to", str(corrected))
    assert f"restill quarantine release {report}" in shown.stdout
    corrected.write_text(corrected.read_text("utf-8-sig").replace("perhaps", "1"), "utf-8")
    released = project.restill("quarantine", "release", report, str(corrected), own_server=True)
    assert released.returncode == 0, released.stdout + released.stderr
    assert "1 of 1 rows" in released.stdout
    assert project.call("quarantine", "show", "0123").returncode == 1
    assert project.call("quarantine", "show", report, "--reason", "nonsense").returncode == 2


def test_what_is_forgotten_names_the_models_that_rest_on_it(retrained, project):
    outcome, _ = retrained
    challenger = outcome.decision.verdict.measurements.challenger
    settings = load_settings()
    rows = next(snapshots.current(settings.root).read(("pair_id", "text_a", "row"), split="train"))
    pair = rows["pair_id"][0].as_py()
    preview = answer(project.restill("data", "forget", "--pair-id", pair, "--reason", "r", "--dry-run", "--json"))
    assert preview["pairs"]["train"] == 1
    assert preview["models"] == [challenger]
    done = answer(project.restill("data", "forget", "--pair-id", pair, "--reason", "request 1", "--json"))
    assert done["version"] == snapshots.named_version(settings.root)
    steps = answer(project.call("plan", "--json"))["steps"]
    assert not any("ingest" in step or "not part of this data version" in step for step in steps)
    assert any("distill" in step for step in steps)
    assert project.restill("data", "forget", "--reason", "r").returncode == 2
