"""The way of a row through quarantine: kept out, shown, corrected, let in."""

import csv

import pytest

from restill import batches, quarantine, snapshots
from restill.errors import ConfigurationError, VersionNotFound
from restill.settings import ColumnSettings, Settings

COLUMNS = ["a", "b", "same"]
NAMED = ColumnSettings(text_a="a", text_b="b", label="same")


@pytest.fixture
def settings(tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    made = Settings(root=root)
    return made.model_copy(update={"data": made.data.model_copy(update={"columns": NAMED})})


def write(path, content, header=COLUMNS):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *content])
    return path


GOOD = [(f"turn lamp {number} on", f"switch on lamp {number}", str(number % 2)) for number in range(60)]
BAD = [("what, “now”?\nyes", "how", "maybe"), ("", "x", "1"), ("p", "q", "2"), ("=1+1", " lead", "x")]


def test_rows_come_back_as_they_were_and_corrected_ones_go_in(settings, store):
    first = batches.ingest_file(write(settings.root / "drop.csv", GOOD + BAD), settings, store)
    (listed,) = quarantine.kept_out(store)
    assert listed == first
    found = quarantine.find(store, first.batch_id[:6])
    rows = quarantine.rows(found, store, settings.state_dir)
    assert rows.select("row", "reason", "text_a", "text_b", "label").collect().rows() == [
        (61, "bad_label", *BAD[0]),
        (62, "empty_text", *BAD[1]),
        (63, "bad_label", *BAD[2]),
        (64, "bad_label", *BAD[3]),
    ]
    only = quarantine.rows(found, store, settings.state_dir, reasons=["empty_text"])
    assert only.collect()["row"].to_list() == [62]

    path = settings.root / "corrected.csv"
    assert quarantine.write_down(quarantine.rows(found, store, settings.state_dir, reasons=["bad_label"]), path) == 3
    with path.open(newline="", encoding="utf-8-sig") as file:
        written = list(csv.DictReader(file))
    for row in written:
        row["label"] = "1"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        out = csv.DictWriter(file, list(written[0]))
        out.writeheader()
        out.writerows(written)
    plain = settings.model_copy(update={"data": settings.data.model_copy(update={"columns": ColumnSettings()})})
    released = batches.ingest_file(path, plain, store, released_from=first.batch_id)
    assert (released.outcome, released.accepted, released.released_from) == ("accepted", 3, first.batch_id)
    texts = set(snapshots.current(settings.root).sentences())
    assert {"what, “now”?\nyes", "=1+1", "lead"} <= texts
    assert batches.ingest_file(path, plain, store, released_from=first.batch_id).outcome == "unchanged"


def test_released_rows_keep_the_row_rules(settings, store):
    """Few rows, all positive, with other characters: a person has looked. What is malformed still does not go in."""
    first = batches.ingest_file(write(settings.root / "drop.csv", GOOD + BAD), settings, store)
    path = write(settings.root / "released.csv", [("转账", "汇款", "1"), ("p", "q", "2")])
    released = batches.ingest_file(path, settings, store, released_from=first.batch_id)
    assert released.outcome == "refused"
    assert all("max_quarantine_share" in reason for reason in released.reasons)
    path = write(settings.root / "released.csv", [("转账", "汇款", "1")])
    assert batches.ingest_file(path, settings, store).outcome == "refused"  # as any other file
    released = batches.ingest_file(path, settings, store, released_from=first.batch_id)
    assert released.outcome == "accepted"
    assert any("max_new_characters" in warning for warning in released.warnings)


def test_a_refused_file_has_a_quarantine_too(settings, store):
    outcome = batches.ingest_file(write(settings.root / "drop.csv", BAD), settings, store)
    assert outcome.outcome == "refused"
    assert outcome.batch_id is None  # nothing of it could make a batch
    other = batches.ingest_file(write(settings.root / "other.csv", [("", "", "")]), settings, store)
    for one, count in ((outcome, 4), (other, 1)):
        found = quarantine.find(store, quarantine.report_id(one))
        assert quarantine.rows(found, store, settings.state_dir).collect().height == count


def test_what_is_not_there_is_named(settings, store):
    with pytest.raises(VersionNotFound, match="No report or batch 'abc' has rows"):
        quarantine.find(store, "abc")
    first = batches.ingest_file(write(settings.root / "drop.csv", GOOD + BAD), settings, store)
    batches.ingest_file(write(settings.root / "two.csv", [(f"{a}!", b, c) for a, b, c in GOOD] + BAD), settings, store)
    with pytest.raises(VersionNotFound, match="No report or batch ''"):
        quarantine.find(store, "")
    with pytest.raises(ConfigurationError, match="'bad' is no reason"):
        quarantine.rows(first, store, settings.state_dir, reasons=["bad"])
