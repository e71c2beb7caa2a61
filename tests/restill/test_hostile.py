"""Parameters and file names from outside: they stay in their folders, and reach no shell and no path."""

import pytest

from restill import batches, snapshots
from restill.errors import ConfigurationError, VersionNotFound
from restill.settings import RegistrySettings, Settings

HOSTILE_PLACES = [
    "../../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "a;touch planted",
    "$(touch planted).csv",
    "`touch planted`.csv",
    "| touch planted",
    "--help",
    "s3://another-bucket-that-is-not-ours/pairs.csv",
    "s3://{bucket}/../../etc/passwd",
    "s3://{bucket}/..",
    "https://example.org/pairs.csv",
    "nul\0.csv",
    "",
]


@pytest.fixture
def project(tmp_path, store, monkeypatch):
    root = tmp_path / "outside" / "root"
    root.mkdir(parents=True)
    monkeypatch.chdir(root)
    return Settings(root=root)


def outside(root):
    return {path for path in root.parent.rglob("*") if path.is_file() and root / ".restill" not in path.parents}


@pytest.mark.parametrize("place", HOSTILE_PLACES)
def test_a_hostile_place_is_refused_and_leaves_no_trace(project, store, place):
    before = outside(project.root)
    place = place.format(bucket=store.connection.bucket)
    outcome = batches.ingest_place(place, project, store)
    assert outcome.outcome == "refused"
    assert outcome.reasons[0]
    assert outside(project.root) == before
    leaked = [item.key for item in store.list("") if b"root:" in store.get(item.key)]
    assert leaked == []
    assert snapshots.named_version(project.root) is None


@pytest.mark.parametrize("name", ["$(touch planted).csv", "a; touch planted #.csv", "-rf.csv", "'\"`.csv"])
def test_a_file_of_any_name_is_taken_in_and_its_name_is_only_shown(project, store, name):
    rows = "".join(f"turn lamp {n} on,switch on lamp {n},{n % 2}\n" for n in range(80))
    (project.root / name).write_text("text_a,text_b,label\n" + rows)
    outcome = batches.ingest_place(str(project.root / name), project, store)
    assert outcome.outcome == "accepted", outcome.reasons
    assert not list(project.root.parent.rglob("planted*"))
    assert not any(name in item.key for item in store.list(""))


@pytest.mark.parametrize("version", ["../../etc", "/etc", "; ls", "$(ls)", "a/b", "%2e%2e", "0" * 33, ""])
def test_a_hostile_data_version_names_none(project, store, version):
    with pytest.raises(VersionNotFound):
        snapshots.open_version(project.root, store, version)
    assert not (project.root / ".restill").exists()


def test_a_model_or_alias_is_a_name_and_no_path():
    for wrong in ("../up", "a/b", "A", "", "a;b"):
        with pytest.raises(ValueError, match="pattern"):
            RegistrySettings(model=wrong)
        with pytest.raises(ValueError, match="pattern"):
            RegistrySettings(alias=wrong)


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", ".", "..", "-x", "a b", "A", "", "x" * 64])
def test_a_study_is_a_name_and_no_path(project, name):
    from restill import tuning  # late: slow to import

    with pytest.raises(ConfigurationError, match="cannot be a study's name"):
        tuning.open_study(project, name)
