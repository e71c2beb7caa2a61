"""Removal on request: a version without the pairs, for good, and what was trained on them."""

import csv
import secrets

import polars as pl
import pytest

from restill import batches, forgotten, removal, snapshots
from restill.errors import ConfigurationError, DataMissing, IntegrityError
from restill.manifests import Calibration, Lineage
from restill.registry import Registry
from restill.settings import Settings


@pytest.fixture
def settings(tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    return Settings(root=root)


def write(path, content):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text_a", "text_b", "label", "source"), *content])
    return path


def rows(start, count=60, source="web"):
    return [(f"turn lamp {n} on", f"switch on lamp {n}", str(n % 2), source) for n in range(start, start + count)]


def stored(settings):
    snapshot = snapshots.current(settings.root)
    return pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in snapshot.files()])


@pytest.fixture
def two_batches(settings, store):
    for name, content in (("one", rows(0)), ("two", rows(100) + rows(200, 3, "Forum "))):
        assert batches.ingest_file(write(settings.root / f"{name}.csv", content), settings, store).outcome == "accepted"
    return settings


def register(store, settings, data_version):
    lineage = Lineage(
        git_commit=None,
        git_dirty=None,
        data_version=data_version,
        batches=(),
        teacher_fingerprint="teacher",
        training_key=secrets.token_hex(4),
        config_digest="config",
        seed=0,
        dependency_lock_sha256=None,
        restill_version="0.1.0",
        hardware="any",
        flow_run_id=None,
        parent=None,
    )
    folder = settings.root / secrets.token_hex(4)
    folder.mkdir()
    (folder / "student.tflite").write_bytes(secrets.token_bytes(100))
    return Registry(store, settings.registry.model).register(
        folder,
        files={"student.tflite": "litert"},
        artifact_role="litert",
        signature={"input": "int32 [1, 32]"},
        calibration=Calibration(scale=10.0, bias=-5.0, threshold=0.5),
        lineage=lineage,
        training={"loss": 0.5},
    )


def test_a_pair_goes_and_does_not_come_back(two_batches, store):
    settings = two_batches
    before, whole = snapshots.current(settings.root), stored(settings)
    gone = whole.row(5, named=True)
    found = removal.forget(settings, store, pair_ids=[gone["pair_id"]], reason="request 17")
    assert found.total == 1
    assert found.pairs[gone["split"]] == 1
    after = snapshots.current(settings.root)
    assert after.version == found.version != before.version
    assert len(set(after.batches) - set(before.batches)) == 1  # one batch was replaced, the other is untouched
    left = stored(settings)
    assert left.sort("pair_id").equals(whole.filter(pl.col("pair_id") != gone["pair_id"]).sort("pair_id"))
    assert snapshots.log(settings.root, store)[0].record.reason == "forgot 1 pair: request 17"
    assert snapshots.verify(settings.root, store) == []

    for name in ("one", "two"):  # the same files again: nothing comes back, and nothing is stored twice
        again = batches.ingest_file(settings.root / f"{name}.csv", settings, store)
        assert again.outcome == "unchanged"
    swapped = [(gone["text_b"], gone["text_a"], "1", "elsewhere"), *rows(500)]
    third = batches.ingest_file(write(settings.root / "three.csv", swapped), settings, store)
    assert third.quarantined == {"forgotten": 1}
    report = settings.state_dir / third.report.removeprefix(store.uri("")).lstrip("/").rsplit("/", 1)[0]
    kept = pl.read_parquet(report / "quarantine.parquet").row(0, named=True)
    assert (kept["reason"], kept["text_a"], kept["text_b"], kept["source"]) == ("forgotten", None, None, None)
    for page in report.glob("summary.*"):
        assert gone["text_a"] not in page.read_text("utf-8")


def test_a_sentence_goes_in_every_spelling(two_batches, store):
    settings = two_batches
    found = removal.forget(settings, store, texts=["  TURN  lamp 7 ON"], reason="request 18")
    assert found.total == 1
    assert "turn lamp 7 on" not in stored(settings)["text_a"].to_list()
    more = [("turn lamp 7 on", "another sentence", "1", ""), *rows(500)]
    outcome = batches.ingest_file(write(settings.root / "three.csv", more), settings, store)
    assert outcome.quarantined == {"forgotten": 1}


def test_a_source_goes_as_a_whole(two_batches, store):
    settings = two_batches
    found = removal.forget(settings, store, sources=["Forum"], reason="licence ended")
    assert found.total == 3
    assert set(stored(settings)["source"]) == {"web"}
    outcome = batches.ingest_file(
        write(settings.root / "three.csv", rows(500) + rows(900, 5, "Forum")), settings, store
    )
    assert outcome.quarantined == {"forgotten": 5}


def test_a_batch_of_which_nothing_is_left_goes(two_batches, store):
    settings = two_batches
    found = removal.forget(settings, store, sources=["web", "Forum"], reason="all")
    assert found.total == 123
    after = snapshots.current(settings.root)
    assert after.batches == ()
    assert sum(after.rows.values()) == 0
    assert batches.ingest_file(write(settings.root / "new.csv", rows(900, 60, "own")), settings, store).accepted == 60


def test_the_models_and_versions_that_rest_on_them_are_named(two_batches, store):
    settings = two_batches
    snapshot = snapshots.current(settings.root)
    earlier = next(record for record in snapshots.versions(store) if record.version != snapshot.version)
    one = stored(settings).filter(pl.col("text_a") == "turn lamp 103 on").row(0, named=True)  # of the second batch
    trained, other = register(store, settings, snapshot.version), register(store, settings, earlier.version)
    registry = Registry(store, settings.registry.model)
    registry.promote(trained.version, alias="champion", expected=None, reason="r", promoted_by="t", verdict_sha256=None)
    found = removal.forget(settings, store, pair_ids=[one["pair_id"]], reason="request 19", dry_run=True)
    assert found.version is None
    assert snapshots.current(settings.root) == snapshot  # a dry run
    assert forgotten.read(store) == forgotten.NOTHING_FORGOTTEN
    assert [manifest.version for manifest in found.models] == [trained.version]
    assert other.version not in {manifest.version for manifest in found.models}
    assert found.champion == trained.version
    assert found.old_versions == (snapshot.version,)
    assert found.unread == ()
    assert found.in_training == (one["split"] != "test")


def test_forgetting_twice_says_so(two_batches, store):
    settings = two_batches
    assert removal.forget(settings, store, texts=["turn lamp 7 on"], reason="r").total == 1
    before = snapshots.current(settings.root)
    again = removal.forget(settings, store, texts=["turn lamp 7 on"], reason="r")
    assert (again.total, again.version) == (0, None)
    assert snapshots.current(settings.root) == before
    assert removal.forget(settings, store, texts=["never seen"], reason="r").version is None  # it may still come
    more = [("never seen", "x", "1", ""), *rows(500)]
    assert batches.ingest_file(write(settings.root / "three.csv", more), settings, store).quarantined == {
        "forgotten": 1
    }


def test_a_test_version_changes_only_when_the_test_split_does(two_batches, store):
    settings = two_batches
    before = snapshots.current(settings.root)
    train, test = (stored(settings).filter(pl.col("split") == split)["pair_id"][0] for split in ("train", "test"))
    removal.forget(settings, store, pair_ids=[train], reason="r")
    assert snapshots.current(settings.root).test_version == before.test_version
    removal.forget(settings, store, pair_ids=[test], reason="r")
    assert snapshots.current(settings.root).test_version != before.test_version


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({}, "Name what is to be forgotten"),
        ({"pair_ids": ["abc"]}, "is no pair id"),
        ({"texts": ["  "]}, "Name what is to be forgotten"),
    ],
)
def test_a_request_that_names_nothing_is_an_error(settings, store, request_, said):
    with pytest.raises(ConfigurationError, match=said):
        removal.forget(settings, store, reason="r", **request_)


def test_without_a_data_set_there_is_nothing_to_forget(settings, store):
    with pytest.raises(DataMissing):
        removal.forget(settings, store, texts=["a"], reason="r")


def test_what_is_forgotten_is_kept_as_digests(two_batches, store):
    settings = two_batches
    removal.forget(settings, store, texts=["turn lamp 7 on"], sources=["Forum"], reason="r")
    (kept,) = store.list("data/forgotten/")
    content = store.get(kept.key).decode()
    assert "lamp" not in content
    assert "orum" not in content
    found = forgotten.read(store)
    assert (len(found.pairs), len(found.sentences), len(found.sources)) == (0, 1, 1)
    store.create("data/forgotten/broken.json", b"{")
    with pytest.raises(IntegrityError, match=r"broken\.json is damaged"):
        batches.ingest_file(write(settings.root / "three.csv", rows(500)), settings, store)


def test_going_back_to_an_older_version_brings_nothing_forgotten_in(two_batches, store):
    settings = two_batches
    old = snapshots.named_version(settings.root)
    removal.forget(settings, store, texts=["turn lamp 7 on"], reason="r")
    snapshots.checkout(settings.root, store, old)
    more = [("TURN lamp 7 on", "another", "1", ""), *rows(500)]
    assert batches.ingest_file(write(settings.root / "three.csv", more), settings, store).quarantined == {
        "forgotten": 1
    }
    again = removal.forget(settings, store, texts=["turn lamp 7 on"], reason="r")
    assert again.total == 1  # the older version had it still


def test_every_version_and_model_that_holds_it_is_named_after_a_second_request(two_batches, store):
    settings = two_batches
    first = snapshots.current(settings.root)
    trained = register(store, settings, first.version)
    removal.forget(settings, store, texts=["turn lamp 7 on"], reason="r")  # rewrites the batch
    found = removal.forget(settings, store, texts=["turn lamp 9 on"], reason="r")
    assert first.version in found.old_versions
    assert [manifest.version for manifest in found.models] == [trained.version]
    later = removal.forget(settings, store, texts=["turn lamp 7 on"], reason="r")  # nothing left of it here
    assert (later.total, later.version) == (0, None)
    assert first.version in later.old_versions
    assert [manifest.version for manifest in later.models] == [trained.version]


def test_what_is_forgotten_is_not_kept_under_another_reason(two_batches, store):
    settings = two_batches
    removal.forget(settings, store, texts=["secret of mine"], reason="r")
    bad = [("secret of mine", "x", "9", ""), ("secret of mine", "y", "1", ""), ("secret of mine", "y", "1", "")]
    outcome = batches.ingest_file(write(settings.root / "three.csv", bad + rows(500)), settings, store)
    assert outcome.quarantined == {"forgotten": 3}
    report = settings.state_dir / outcome.report.removeprefix(store.uri("")).lstrip("/").rsplit("/", 1)[0]
    assert pl.read_parquet(report / "quarantine.parquet")["text_a"].null_count() == 3


def test_a_removal_that_dies_leaves_the_data_set_as_it_was(two_batches, store, monkeypatch):
    settings = two_batches
    before = snapshots.current(settings.root)

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(snapshots.working_copy, "push", die)
        with pytest.raises(KeyboardInterrupt):
            removal.forget(settings, store, texts=["turn lamp 7 on"], reason="r")
    assert snapshots.current(settings.root) == before
    assert forgotten.read(store).sentences  # from the first moment on it cannot come in
    assert removal.forget(settings, store, texts=["turn lamp 7 on"], reason="r").total == 1
