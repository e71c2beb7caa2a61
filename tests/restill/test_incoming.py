"""Files that wait in a folder or in a bucket."""

import csv
import dataclasses
import gzip
import io

import pytest

from restill import batches, incoming, plans
from restill.errors import ConfigurationError, DataRejected
from restill.settings import Settings
from restill.storage.objects import ObjectStore


@pytest.fixture
def settings(tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    return Settings(root=root)


@pytest.fixture
def bucket(store):
    """Give the bucket as others who write into it see it: without our prefix."""
    return ObjectStore(dataclasses.replace(store.connection, prefix=""))


def content(start, count=60):
    out = io.StringIO(newline="")
    rows = [(f"turn lamp {n} on", f"switch on lamp {n}", str(n % 2)) for n in range(start, start + count)]
    csv.writer(out).writerows([("text_a", "text_b", "label"), *rows])
    return out.getvalue().encode()


def from_bucket(settings, place):
    return settings.model_copy(update={"data": settings.data.model_copy(update={"incoming": place})})


def test_objects_are_taken_in_like_files(settings, store, bucket):
    folder = f"{store.connection.prefix}/incoming"
    settings = from_bucket(settings, f"s3://{store.connection.bucket}/{folder}/")
    bucket.create(f"{folder}/2026/one.csv.gz", gzip.compress(content(0)))
    bucket.create(f"{folder}/two words#1.csv", content(100))
    bucket.create(f"{folder}/.hidden.csv", b"x")
    bucket.create(f"{folder}/notes.txt", b"x")
    bucket.create(f"{folder}/broken.csv", b"text_a\nx\n")
    new, left = plans._incoming(settings, store, None, None)
    assert [place.removeprefix(settings.data.incoming) for place in new] == [
        "2026/one.csv.gz",
        "broken.csv",
        "two words#1.csv",
    ]
    assert left == ("notes.txt: its name ends in none of .csv, .tsv, .jsonl, .ndjson, .parquet",)
    outcomes = []
    for place in new:
        path = incoming.fetched(place, settings, store)
        outcomes.append(batches.ingest_file(path, settings, store))
        incoming.done_with(place, path)
        assert not path.exists()
    assert [outcome.outcome for outcome in outcomes] == ["accepted", "refused", "accepted"]
    assert [outcome.file_name for outcome in outcomes] == ["one.csv.gz", "broken.csv", "two words#1.csv"]

    again = list(incoming.waiting(settings, store))  # known by what the store says of them, without a download
    assert {file.name: file.outcome and file.outcome.outcome for file in again} == {
        "2026/one.csv.gz": "accepted",
        "broken.csv": "refused",
        "notes.txt": None,
        "two words#1.csv": "accepted",
    }
    assert not list((settings.state_dir / "cache" / "incoming").glob("*/*"))

    bucket.delete(f"{folder}/broken.csv")
    bucket.create(f"{folder}/broken.csv", content(200))  # other bytes under the same name are another file
    new, _ = plans._incoming(settings, store, "v", None)
    assert [place.rsplit("/", 1)[-1] for place in new] == ["broken.csv"]


def test_an_object_that_is_not_there_is_named(settings, store):
    with pytest.raises(DataRejected, match="There is no object"):
        incoming.fetched(store.uri("nowhere.csv"), settings, store)
    with pytest.raises(ConfigurationError, match="Not an S3 address"):
        list(incoming.waiting(from_bucket(settings, "s3://"), store))


def test_an_object_that_changes_while_it_is_read_is_refused(settings, store, monkeypatch):
    store.create("one.csv", content(0))
    download = ObjectStore.download

    def changed_meanwhile(self, key, path, **options):
        download(self, key, path, **options)
        store.delete("one.csv")
        store.create("one.csv", content(100))

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "download", changed_meanwhile)
        with pytest.raises(DataRejected, match="changed while it was read"):
            incoming.fetched(store.uri("one.csv"), settings, store)
    assert incoming.fetched(store.uri("one.csv"), settings, store).read_bytes() == content(100)


@pytest.mark.parametrize("key", ["folder/", ""])
def test_a_name_cannot_lead_out_of_the_cache(settings, store, key):
    with pytest.raises(DataRejected):
        incoming.fetched(store.uri(key), settings, store)


def test_files_in_a_folder_are_told_by_name(settings, store):
    folder = settings.root / "incoming"
    (folder / "sub").mkdir(parents=True)
    (folder / "one.csv").write_bytes(content(0))
    (folder / "readme.md").write_text("x")
    (folder / ".hidden").write_text("x")
    new, left = plans._incoming(settings, store, None, None)
    assert new == (str(folder / "one.csv"),)
    assert [said.split(":")[0] for said in left] == ["readme.md", "sub"]
