"""From an incoming file to a version of the data set: real DVC, real Great Expectations, real S3."""

import csv
import hashlib
import json
import re
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from restill import batches, history, ingest_reports, judging, ledger, pairs, snapshots
from restill.errors import DataRejected, PointerNotShared, RestillError, StorageUnreachable
from restill.ledger import BatchOutcome
from restill.settings import ColumnSettings, DataSettings, Settings
from restill.storage.objects import ObjectStore

COLUMNS = ["text_a", "text_b", "label"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    root = tmp_path / "project"
    root.mkdir()
    return Settings(root=root)


def rows(start: int, count: int = 60) -> list[tuple[str, str, str]]:
    """Return pairs whose sentences nobody else uses; every second one is positive."""
    return [
        (f"turn lamp {number} on", f"switch on lamp {number}", str(number % 2))
        for number in range(start, start + count)
    ]


def write(path: Path, content: list[tuple[str, str, str]], header: list[str] = COLUMNS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *content])
    return path


def stored(settings: Settings) -> pl.DataFrame:
    snapshot = snapshots.current(settings.root)
    assert snapshot is not None
    return pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in snapshot.files()])


def known_outcome(path: Path, data: DataSettings, store: ObjectStore) -> BatchOutcome | None:
    return ledger.outcome_of(ledger.ledger_key(path, data), store)


def decisions(store: ObjectStore) -> list[str]:
    return sorted(item.key.split("/")[-1] for item in store.list("batches/"))


def test_a_good_file_becomes_a_version(settings, store):
    bad = [("", "x", "1"), ("p", "q", "7"), ("turn lamp 0 on", "switch on lamp 0", "0")]
    path = write(settings.root / "drop.csv", rows(0) + bad)
    assert known_outcome(path, settings.data, store) is None
    outcome = batches.ingest_file(path, settings, store)
    assert outcome.outcome == "accepted"
    assert (outcome.rows_in, outcome.accepted) == (63, 60)
    assert outcome.detected.startswith("CSV, UTF-8, ',' between fields")
    assert outcome.quarantined == {"bad_label": 1, "duplicate": 1, "empty_text": 1}
    assert outcome.reasons == ()
    assert "60 of 63 rows" in outcome.sentence

    frame = stored(settings)
    assert frame.columns == pairs.PAIR_SCHEMA.names
    assert frame["row"].to_list() == list(range(1, 61))
    facts = json.loads((settings.root / snapshots.PAIRS / f"batch={outcome.batch_id}" / "batch.json").read_text())
    part = settings.root / snapshots.PAIRS / f"batch={outcome.batch_id}" / "part-0.parquet"
    assert facts["parquet_sha256"] == hashlib.sha256(part.read_bytes()).hexdigest()
    assert facts["splits"] == dict(frame["split"].value_counts().iter_rows())
    assert facts["labels"] == {"negative": 30, "positive": 30, "unlabelled": 0}
    assert known_outcome(path, settings.data, store) == outcome


def test_the_report_is_kept_here_and_in_the_store(settings, store):
    path = write(settings.root / "drop.csv", [*rows(0), ("<b>|x", "q", "no"), ("a", "", "1")])
    outcome = batches.ingest_file(path, settings, store)
    assert outcome.report == store.uri(f"reports/ingest/{outcome.report.split('/')[-2]}/summary.md")
    folder = outcome.report.removeprefix(store.uri("")).removesuffix("summary.md")
    local = settings.state_dir / folder
    for path_ in local.rglob("*"):
        if path_.is_file():
            assert store.get(folder + path_.relative_to(local).as_posix()) == path_.read_bytes()
    summary = (local / "summary.md").read_text("utf-8")
    assert "62 rows in = 60 accepted + 2 quarantined" in summary
    assert r"| 61 | bad\_label | &lt;b&gt;\|x | q | no |" in summary
    assert "| positive-share | not applicable |" in summary
    assert "CSV, UTF-8, ',' between fields" in summary
    quarantine = pl.read_parquet(local / "quarantine.parquet")
    assert quarantine.select("row", "text_a", "label", "reason").rows() == [
        (61, "<b>|x", "no", "bad_label"),
        (62, "a", "1", "empty_text"),
    ]
    kind = store._client.head_object(Bucket=store.connection.bucket, Key=store._full(folder + "summary.html"))
    assert kind["ContentType"] == "text/html; charset=utf-8"


def test_a_refused_batch_leaves_the_data_set_as_it_was(settings, store):
    batches.ingest_file(write(settings.root / "one.csv", rows(0)), settings, store)
    before = snapshots.current(settings.root)
    poisoned = write(settings.root / "two.csv", [(a, b, "1") for a, b, _ in rows(100)] + [("", "", "")] * 40)
    outcome = batches.ingest_file(poisoned, settings, store)
    assert outcome.outcome == "refused"
    assert len(outcome.reasons) == 2
    assert "row rules kept out 40 of 100 rows" in outcome.reasons[0].lower()
    assert "(data.batch_rules.max_label_shift)." in outcome.reasons[1]
    assert "What to do" in store.get(outcome.report.removeprefix(store.uri(""))).decode()
    assert snapshots.current(settings.root) == before
    assert poisoned.is_file()
    assert known_outcome(poisoned, settings.data, store) == outcome


def test_an_unreadable_file_is_refused_and_remembered(settings, store):
    path = settings.root / "drop.csv"
    path.write_bytes(b"text_a,text_b\na,b\nc\n")
    outcome = batches.ingest_file(path, settings, store)
    assert (outcome.outcome, outcome.batch_id) == ("refused", None)
    assert outcome.reasons[0].startswith("drop.csv, line 3: the row that begins here has 1 field.")
    assert "line 3" in store.get(outcome.report.removeprefix(store.uri(""))).decode()
    assert known_outcome(path, settings.data, store) == outcome
    assert snapshots.current(settings.root) is None


def test_a_missing_file_is_an_error(settings, store):
    with pytest.raises(DataRejected, match="nowhere"):
        batches.ingest_file(settings.root / "nowhere.csv", settings, store)


def test_the_same_pairs_change_nothing(settings, store):
    """The same file, other bytes with the same rows, and the rows in another order."""
    first = write(settings.root / "one.csv", rows(0))
    batches.ingest_file(first, settings, store)
    before = snapshots.current(settings.root)
    swapped_order = write(settings.root / "two.csv", list(reversed(rows(0))))
    objects = len(list(store.list("")))
    for path in (first, swapped_order):
        outcome = batches.ingest_file(path, settings, store)
        assert outcome.outcome == "unchanged"
        assert "changes nothing" in outcome.sentence
        assert snapshots.current(settings.root) == before
    assert len(list(store.list(""))) == objects + 1  # what was decided on the second name
    known = known_outcome(swapped_order, settings.data, store)
    assert known is not None
    assert known.outcome == "accepted"


def test_a_decision_holds_for_its_rules_only(settings, store):
    path = write(settings.root / "drop.csv", rows(0, 10))
    assert batches.ingest_file(path, settings, store).outcome == "refused"
    small = settings.data.batch_rules.model_copy(update={"min_rows": 5})
    data = settings.data.model_copy(update={"batch_rules": small})
    assert known_outcome(path, data, store) is None
    renamed = settings.data.model_copy(update={"columns": ColumnSettings(text_a="text_b", text_b="text_a")})
    assert known_outcome(path, renamed, store) is None
    assert batches.ingest_file(path, settings.model_copy(update={"data": data}), store).outcome == "accepted"


def test_a_refused_file_can_be_accepted_later(settings, store):
    """Its refusal was against another data set; the later acceptance is the one that counts."""
    batches.ingest_file(
        write(settings.root / "short.csv", [(f"a{n}", f"b{n}", str(n % 2)) for n in range(30)]), settings, store
    )
    path = write(settings.root / "long.csv", rows(0))
    assert batches.ingest_file(path, settings, store).outcome == "refused"
    (settings.root / snapshots.POINTER).unlink()  # back to no data set at all
    assert batches.ingest_file(path, settings, store).outcome == "accepted"
    known = known_outcome(path, settings.data, store)
    assert known is not None
    assert known.outcome == "accepted"
    assert decisions(store) == ["accepted.json", "accepted.json", "refused.json"]


def test_a_second_batch_moves_nothing_and_leaks_nothing(settings, store):
    batches.ingest_file(write(settings.root / "one.csv", rows(0, 200)), settings, store)
    before = stored(settings)
    tests = before.filter(pl.col("split") == "test")["text_a"].to_list()
    touching = [(text.upper(), f"a new sentence {number}", "1") for number, text in enumerate(tests[:5])]
    fresh = [(a, b, str(number % 2)) for number, (a, b, _) in enumerate(rows(1000, 195))]
    outcome = batches.ingest_file(write(settings.root / "two.csv", touching + fresh), settings, store)
    assert outcome.outcome == "accepted"
    after = stored(settings)
    assert after.join(before, on="pair_id").select((pl.col("split") == pl.col("split_right")).all()).item()
    joined = after.filter(pl.col("text_b").str.starts_with("a new sentence"))
    assert joined["split"].to_list() == ["test"] * 5
    keyed = joined.join(before.select("group"), on="group", how="semi")
    assert keyed.height == 5  # the old pairs' groups: one cluster for the bootstrap


def test_a_failed_push_is_no_acceptance(settings, store, monkeypatch):
    path = write(settings.root / "drop.csv", rows(0))

    def unreachable(*_: object, **__: object) -> None:
        raise StorageUnreachable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(snapshots.working_copy, "push", unreachable)
        with pytest.raises(StorageUnreachable):
            batches.ingest_file(path, settings, store)
    assert known_outcome(path, settings.data, store) is None
    assert not (settings.root / snapshots.POINTER).exists()
    assert batches.ingest_file(path, settings, store).outcome == "accepted"


def test_a_run_killed_after_publishing_is_completed_by_the_next(settings, store, monkeypatch):
    path = write(settings.root / "drop.csv", rows(0))
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            batches.ingest_file(path, settings, store)
    assert known_outcome(path, settings.data, store) is None
    assert batches.ingest_file(path, settings, store).outcome == "unchanged"
    known = known_outcome(path, settings.data, store)
    assert known is not None
    assert known.outcome == "accepted"


def test_two_ingestions_at_once_are_both_in(settings, store):
    paths = [write(settings.root / f"{start}.csv", rows(start)) for start in (0, 100)]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda path: batches.ingest_file(path, settings, store).outcome, paths))
    assert outcomes == ["accepted", "accepted"]
    assert stored(settings).height == 120


def test_a_dry_run_keeps_nothing_but_a_local_report(settings, store):
    path = write(settings.root / "drop.csv", rows(0))
    outcome = batches.check_file(path, settings, store)
    assert outcome.outcome == "accepted"
    assert "would be accepted" in outcome.sentence
    assert Path(outcome.report).is_file()
    assert list(store.list("")) == []
    assert snapshots.current(settings.root) is None
    assert not (settings.root / "data").exists()


def test_a_partition_is_the_same_bytes_every_time(tmp_path, store):
    path = write(tmp_path / "drop.csv", [*rows(0), ("", "x", "1")])
    contents = []
    for name in ("a", "b"):
        settings = Settings(root=tmp_path / name)
        settings.root.mkdir()
        outcome = batches.ingest_file(path, settings, store)
        partition = settings.root / snapshots.PAIRS / f"batch={outcome.batch_id}"
        assert [item.name for item in partition.parent.iterdir()] == [partition.name]
        contents.append({file.name: file.read_bytes() for file in sorted(partition.iterdir())})
    assert contents[0] == contents[1]
    assert list(contents[0]) == ["batch.json", "part-0.parquet"]
    file = pq.ParquetFile(partition / "part-0.parquet")
    assert file.schema_arrow.equals(pairs.PAIR_SCHEMA)
    assert file.metadata.metadata is None


def test_a_file_that_changes_while_it_is_read_is_looked_at_again(settings, store, monkeypatch):
    path = write(settings.root / "drop.csv", rows(0))
    staging = judging.stage

    def stage_while_it_grows(chunks, *arguments, **options):
        staged = staging(chunks, *arguments, **options)
        with path.open("a") as file:
            file.write("one more,another,1\r\n")
        return staged

    with monkeypatch.context() as patch:
        patch.setattr(judging, "stage", stage_while_it_grows)
        outcome = batches.ingest_file(path, settings, store)
    assert outcome.outcome == "refused"
    assert "changed while it was read" in outcome.reasons[0]
    assert decisions(store) == []
    assert snapshots.current(settings.root) is None
    assert batches.ingest_file(path, settings, store).accepted == 61


def test_nothing_is_left_of_the_work(settings, store):
    batches.ingest_file(write(settings.root / "one.csv", rows(0)), settings, store)
    batches.ingest_file(write(settings.root / "two.csv", [("", "", "")]), settings, store)
    assert not (settings.state_dir / "work").exists()


# What the data set has already


def test_pairs_that_are_stored_are_not_stored_again(settings, store):
    """Repeated as it was, swapped, with another label, without one; and a labelled pair that had no label."""
    unlabelled = [("what is this", "what can this be", "")]
    batches.ingest_file(write(settings.root / "one.csv", rows(0) + unlabelled), settings, store)
    again = [
        rows(0)[0],
        (rows(1)[0][1], rows(1)[0][0], rows(1)[0][2]),
        (*rows(2)[0][:2], "1"),
        (*rows(3)[0][:2], ""),
        ("what can this be", "what is this", "1"),
    ]
    outcome = batches.ingest_file(write(settings.root / "two.csv", again + rows(100)), settings, store)
    assert outcome.outcome == "accepted"
    assert outcome.quarantined == {"already_stored": 3, "contradicts_stored": 1}
    assert outcome.accepted == 61
    frame = stored(settings)
    assert frame.filter(pl.col("text_b") == "switch on lamp 2")["label"].to_list() == [0]
    assert sorted(frame.filter(pl.col("text_a").str.starts_with("what"))["label"].fill_null(-1)) == [-1, 1]
    third = batches.ingest_file(write(settings.root / "three.csv", [*unlabelled, *rows(200)]), settings, store)
    assert third.quarantined == {"already_stored": 1}  # a pair that has a label and lacks one has a label


def test_a_file_whose_pairs_are_all_stored_changes_nothing(settings, store):
    batches.ingest_file(write(settings.root / "one.csv", rows(0)), settings, store)
    before = snapshots.current(settings.root)
    part = write(settings.root / "part.csv", [*rows(10, 30), ("", "x", "1")])
    outcome = batches.ingest_file(part, settings, store)
    assert outcome.outcome == "refused"  # not unchanged: a row is at fault, and a person has to see it
    part = write(settings.root / "part.csv", [*rows(10, 30), rows(10)[0]])
    outcome = batches.ingest_file(part, settings, store)
    assert (outcome.outcome, outcome.batch_id, outcome.accepted) == ("unchanged", None, 0)
    assert "holds all of its pairs" in outcome.sentence
    assert snapshots.current(settings.root) == before


def test_contradictions_are_not_hidden_behind_repeated_pairs(settings, store):
    batches.ingest_file(write(settings.root / "one.csv", rows(0)), settings, store)
    flipped = [(a, b, str(1 - int(label))) for a, b, label in rows(1, 40)]
    outcome = batches.ingest_file(write(settings.root / "two.csv", [rows(0)[0], *flipped]), settings, store)
    assert outcome.outcome == "refused"
    assert outcome.quarantined == {"already_stored": 1, "contradicts_stored": 40}


def test_contradictions_of_stored_labels_refuse_the_batch(settings, store):
    batches.ingest_file(write(settings.root / "one.csv", rows(0)), settings, store)
    flipped = [(a, b, str(1 - int(label))) for a, b, label in rows(0, 10)]
    outcome = batches.ingest_file(write(settings.root / "two.csv", flipped + rows(100)), settings, store)
    assert outcome.outcome == "refused"
    assert any("max_contradicting_share" in reason for reason in outcome.reasons)
    summary = (settings.state_dir / outcome.report.removeprefix(store.uri("")).lstrip("/")).read_text("utf-8")
    assert "the data set says 0" in summary  # ten example rows, and what they contradict
    assert summary.count("turn lamp 0 on") >= 1


def test_the_history_is_made_again_where_it_is_lost_or_damaged(settings, store):
    """Also when the data set went back to an older version; what was decided is the same."""
    batches.ingest_file(write(settings.root / "one.csv", rows(0)), settings, store)
    first = (settings.root / snapshots.POINTER).read_bytes()
    batches.ingest_file(write(settings.root / "two.csv", rows(100)), settings, store)
    (file,) = (settings.state_dir / "cache" / "history").glob("*.duckdb")
    file.write_bytes(b"not a database")
    mixed = write(settings.root / "three.csv", rows(90, 20) + rows(500))
    assert batches.check_file(mixed, settings, store).quarantined == {"already_stored": 10}
    history.forget_file(file.parent)
    assert batches.check_file(mixed, settings, store).quarantined == {"already_stored": 10}
    (settings.root / snapshots.POINTER).write_bytes(first)
    snapshots.pull(settings.root, store)
    assert batches.check_file(write(settings.root / "four.csv", rows(30, 100)), settings, store).quarantined == {
        "already_stored": 30
    }


def test_what_the_history_says_is_what_the_partitions_say(settings, store):
    for name, start in (("one", 0), ("two", 1000)):
        batches.ingest_file(write(settings.root / f"{name}.csv", rows(start, 300)), settings, store)
    snapshot = snapshots.current(settings.root)
    with history.opened(settings.state_dir / "cache" / "history", snapshot) as kept:
        for batch in snapshot.batches:
            entry = history.read_entry(snapshot, batch)
            found = kept.stored(entry.pair)
            assert found.found.all()
            assert (found.labels == entry.labels).all()
            assert (found.swapped == entry.swapped).all()
            known = kept.known(pl.Series(entry.key_a).unique().sort().to_numpy())
            places = dict(zip(entry.key_a.tolist(), zip(entry.splits, entry.groups, strict=True), strict=True))
            assert [places[one] for one in known.keys.tolist()] == list(zip(known.splits, known.groups, strict=True))
        figures = kept.figures
    assert (figures.rows, figures.labelled, figures.positive) == (600, 600, 300)
    with history.opened(settings.root / "another", snapshot) as made_again:
        assert made_again.figures == figures


# Splits


def test_a_frozen_test_split_stays_as_it_is(settings, store):
    batches.ingest_file(write(settings.root / "one.csv", rows(0, 200)), settings, store)
    before, tests = snapshots.current(settings.root), stored(settings).filter(pl.col("split") == "test")
    data = settings.data.model_copy(update={"freeze_test": True})
    touching = [(tests["text_a"][0], "a new sentence", "1")]
    outcome = batches.ingest_file(
        write(settings.root / "two.csv", rows(1000, 200) + touching), settings.model_copy(update={"data": data}), store
    )
    assert outcome.quarantined == {"frozen_test": 1}
    after = snapshots.current(settings.root)
    assert after.version != before.version
    assert after.test_version == before.test_version != ""
    assert after.rows["test"] == before.rows["test"]
    batches.ingest_file(write(settings.root / "three.csv", rows(2000, 200)), settings, store)
    assert snapshots.current(settings.root).test_version != before.test_version


def test_a_split_column_is_honoured_with_a_warning_about_what_leaks(settings, store):
    header = [*COLUMNS, "split"]
    split = ["train", "dev", "test"]
    content = [(*row, split[place % 3]) for place, row in enumerate(rows(0, 90))]
    content += [("turn lamp 0 on", "another lamp", "1", "test")]  # its first sentence is in train
    path = write(settings.root / "drop.csv", content, header)
    data = settings.data.model_copy(update={"honour_split": True})
    outcome = batches.ingest_file(path, settings.model_copy(update={"data": data}), store)
    assert outcome.outcome == "accepted"
    assert any("1 sentence" in warning for warning in outcome.warnings)
    frame = stored(settings).sort("row")
    assert frame["split"].to_list() == [["train", "validation", "test"][place % 3] for place in range(90)] + ["test"]

    # Afterwards the sentence that leaked counts as one of the test split: nothing new of it is trained on.
    more = [*rows(1000), ("turn lamp 0 on", "yet another lamp", "1")]
    assert batches.ingest_file(write(settings.root / "more.csv", more), settings, store).outcome == "accepted"
    assert stored(settings).filter(pl.col("text_b") == "yet another lamp")["split"].to_list() == ["test"]


def test_rows_without_a_wish_follow_their_siblings(settings, store):
    content = [(*row, "test") for row in rows(0, 40)]
    content += [(row[0], f"sibling {place}", "1", "") for place, row in enumerate(rows(0, 40))]
    data = settings.data.model_copy(update={"honour_split": True})
    path = write(settings.root / "drop.csv", content, [*COLUMNS, "split"])
    outcome = batches.ingest_file(path, settings.model_copy(update={"data": data}), store)
    assert outcome.warnings == ()
    assert set(stored(settings)["split"]) == {"test"}


def test_one_file_under_other_shares_is_another_batch_and_leaks_nothing(settings, store):
    """The index must not take a batch for another one that came from the same file."""
    path = write(settings.root / "one.csv", rows(0, 300))
    first = batches.ingest_file(path, settings, store)
    version = snapshots.named_version(settings.root)
    (settings.root / snapshots.POINTER).unlink()
    data = settings.data.model_copy(update={"test_share": 0.45})
    second = batches.ingest_file(path, settings.model_copy(update={"data": data}), store)
    assert first.batch_id != second.batch_id
    snapshots.checkout(settings.root, store, version)
    shared = [(a, f"more of {b}", label) for a, b, label in rows(0, 300)]
    loose = data.batch_rules.model_copy(update={"max_test_overlap": 1})
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"batch_rules": loose})})
    assert batches.ingest_file(write(settings.root / "two.csv", shared), settings, store).outcome == "accepted"
    frame = stored(settings)
    places = pl.concat([frame.select("split", text=side) for side in ("text_a", "text_b")]).group_by("text")
    assert places.agg(pl.col("split").n_unique())["split"].max() == 1


def test_what_was_frozen_out_can_come_in_after_a_thaw(settings, store):
    batches.ingest_file(write(settings.root / "one.csv", rows(0, 200)), settings, store)
    tests = stored(settings).filter(pl.col("split") == "test")["text_a"][:25]
    data = settings.data.model_copy(
        update={
            "freeze_test": True,
            "batch_rules": settings.data.batch_rules.model_copy(update={"max_test_overlap": 1}),
        }
    )
    content = rows(1000) + [(text, f"new {text}", "1") for text in tests]
    path = write(settings.root / "two.csv", content)
    frozen = batches.ingest_file(path, settings.model_copy(update={"data": data}), store)
    assert frozen.quarantined == {"frozen_test": 25}
    thawed = data.model_copy(
        update={
            "freeze_test": False,
            "batch_rules": data.batch_rules.model_copy(update={"severity": {"positive-share": "off"}}),
        }
    )
    outcome = batches.ingest_file(path, settings.model_copy(update={"data": thawed}), store)
    assert (outcome.outcome, outcome.accepted) == ("accepted", 25)


# Pairs without labels


def test_a_batch_without_labels_is_taken_in(settings, store):
    """As the first one, and after a labelled one; no rule on labels speaks."""
    first = batches.ingest_file(write(settings.root / "one.csv", [(a, b, "") for a, b, _ in rows(0)]), settings, store)
    batches.ingest_file(write(settings.root / "two.csv", rows(1000)), settings, store)
    without_column = [row[:2] for row in rows(2000)]
    third = batches.ingest_file(write(settings.root / "three.csv", without_column, COLUMNS[:2]), settings, store)
    assert [first.outcome, third.outcome] == ["accepted", "accepted"]
    assert first.warnings == third.warnings == ()
    assert stored(settings)["label"].null_count() == 120
    summary = store.get(third.report.removeprefix(store.uri("")).lstrip("/")).decode()
    assert "the batch has no labels" in summary
    assert "soft loss only" in summary


def test_text_in_reports_cannot_become_markup():
    assert ingest_reports.as_text("a|b\n<script>[x](y) `z` *w*") == r"a\|b &lt;script&gt;\[x\](y) \`z\` \*w\*"


def test_the_run_page_gets_the_summary_with_links_that_open_by_themselves(settings, store):
    """Each result page of the Data Docs opens without keys, and no link is left that would not."""
    outcome = batches.ingest_file(write(settings.root / "drop.csv", [*rows(0), ("", "x", "1")]), settings, store)
    page = ingest_reports.with_links(outcome.report, store, seconds=3600)
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) == 3  # the summary, the batch rules and the quarantine
    for link in links:
        with urllib.request.urlopen(link) as answer:  # noqa: S310 (the test's own server)
            assert answer.status == 200


# Git


def test_two_machines_that_ingest_at_once_both_end_up_in_the_branch(tmp_path, store):
    """A competitor pushes another batch while ours is on its way: ours goes on top of it, judged again."""
    bare = tmp_path / "upstream.git"
    run_git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    machines = []
    for name in ("one", "two"):
        run_git(tmp_path, "clone", "--quiet", str(bare), name)
        root = tmp_path / name
        if name == "one":
            (root / ".gitignore").write_text("/data\n/.restill/\n/.dvc/\n/*.csv\n")
            run_git(root, "add", ".gitignore")
            run_git(root, "commit", "--quiet", "-m", "start")
            run_git(root, "push", "--quiet", "origin", "HEAD:main")
        made = Settings(root=root)
        git = made.data.git.model_copy(update={"commit": True, "push": True})
        machines.append(made.model_copy(update={"data": made.data.model_copy(update={"git": git})}))
    with ThreadPoolExecutor(2) as pool:
        started = [
            pool.submit(batches.ingest_file, write(machine.root / "drop.csv", rows(start)), machine, store)
            for machine, start in zip(machines, (0, 40), strict=True)
        ]
        outcomes = [one.result() for one in started]
    assert [outcome.outcome for outcome in outcomes] == ["accepted", "accepted"]
    last = max(machines, key=lambda machine: stored(machine).height)
    assert stored(last).height == 100  # 20 pairs were in both files, and are stored once
    assert sorted(outcome.accepted for outcome in outcomes) == [40, 60]
    named = run_git(bare, "show", "main:data.dvc")
    assert str(snapshots.named_version(last.root)) in named
    assert run_git(bare, "rev-list", "--count", "main") == "3"
    assert snapshots.verify(last.root, store, deep=True) == []


def test_work_that_was_never_pushed_is_not_dropped_for_a_competitor(tmp_path, store):
    bare = tmp_path / "upstream.git"
    run_git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    machines = []
    for name in ("one", "two"):
        run_git(tmp_path, "clone", "--quiet", str(bare), name)
        root = tmp_path / name
        (root / ".git" / "info" / "exclude").write_text("*\n")
        made = Settings(root=root)
        git = made.data.git.model_copy(update={"commit": True, "push": True, "attempts": 1})
        machines.append(made.model_copy(update={"data": made.data.model_copy(update={"git": git})}))
    one, two = machines
    assert batches.ingest_file(write(one.root / "a.csv", rows(0)), one, store).outcome == "accepted"
    run_git(two.root, "pull", "--quiet")
    bare.rename(tmp_path / "away.git")
    with pytest.raises(RestillError):
        batches.ingest_file(write(two.root / "b.csv", rows(100)), two, store)  # published, and cannot be pushed
    (tmp_path / "away.git").rename(bare)
    assert batches.ingest_file(write(one.root / "c.csv", rows(200)), one, store).outcome == "accepted"
    with pytest.raises(PointerNotShared, match="never pushed"):
        batches.ingest_file(write(two.root / "d.csv", rows(300)), two, store)
    assert stored(two).filter(pl.col("text_a") == "turn lamp 100 on").height == 1


def run_git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    command = ["git", *who, *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()
