"""What gc may remove, and that nobody is hurt by it who registers or promotes meanwhile."""

import threading
from datetime import timedelta

import pytest
from registered import artifact, register
from watching import watched

from restill import removals
from restill.errors import ConfigurationError, IntegrityError, VersionNotFound
from restill.registry import Registry
from restill.retention import Policy, collect
from restill.storage import ObjectStore

BLOBS = "registry/default/blobs/"


@pytest.fixture
def registry(store):
    return Registry(store, "default")


@pytest.fixture
def later(monkeypatch):
    """Let gc believe that so many days have passed."""

    def pass_days(days):
        monkeypatch.setattr(removals, "server_time", lambda store: store.clock() + timedelta(days=days))

    return pass_days


def promote(registry, manifest, expected):
    return registry.promote(
        manifest.version, alias="champion", expected=expected, reason="better", promoted_by="me", verdict_sha256=None
    )


def make(registry, tmp_path, promoted):
    """Register versions and promote in turn those that are named true."""
    made, entry = [], None
    for number, live in enumerate(promoted):
        made.append(register(registry, artifact(tmp_path / str(number)), training_key=str(number)))
        if live:
            entry = promote(registry, made[-1], entry)
    return made


def leave_files(registry, folder, tmp_path):
    """Leave a crashed registration: the files of an artifact and no manifest."""
    made = register(registry, artifact(folder))
    registry.store.delete(f"registry/default/versions/{made.version}/manifest.json")
    return made


def keys(registry, prefix=""):
    return [item.key for item in registry.store.list(prefix)]


def test_only_files_that_nobody_names_and_that_are_old_are_removed(registry, tmp_path, later):
    make(registry, tmp_path, [False])
    before = keys(registry)
    crashed = leave_files(registry, tmp_path / "crashed", tmp_path)
    assert collect(registry, Policy()).removed == []  # too young
    later(6)
    assert collect(registry, Policy()).removed == []
    later(8)
    planned = collect(registry, Policy(), dry_run=True)
    assert len(keys(registry)) == len(before) + 3
    done = collect(registry, Policy())
    assert [item.key for item in done.removed] == [item.key for item in planned.removed]
    assert {item.key for item in done.removed} == {BLOBS + f"sha256/{file.sha256}" for file in crashed.files}
    assert done.bytes == 60_000
    assert keys(registry) == before
    assert register(registry, tmp_path / "crashed") == registry.manifest(crashed.version)


def test_by_default_no_version_is_ever_removed(registry, tmp_path, later):
    made = make(registry, tmp_path, [True, False, True, True])
    later(1000)
    done = collect(registry, Policy())
    assert (done.retired, [item.key for item in done.removed]) == ([], ["serving/default/1/saved_model.pb"])
    assert len(registry.versions()) == len(made)


def test_versions_go_in_two_runs_and_the_last_champions_never(registry, tmp_path, later):
    made = make(registry, tmp_path, [True, True, False, True, True])
    digest = registry.add_verdict(made[2].version, b"{}")
    registry.add_report(made[2].version, digest, b"why", "md")
    policy = Policy(keep=2, candidates=timedelta(days=30))
    later(8)
    assert len(collect(registry, policy, dry_run=True).retired) == 2  # the candidate is not old enough
    later(31)
    first = collect(registry, policy)
    marked = {made[0].version, made[1].version, made[2].version}
    assert {version for version in marked if registry.is_retired(version)} == marked
    assert len(registry.versions()) == 5  # marked, and whole
    assert not [item for item in first.removed if BLOBS in item.key]

    planned = collect(registry, policy, dry_run=True)
    done = collect(registry, policy)
    assert [item.key for item in planned.removed] == [item.key for item in done.removed]
    assert {manifest.version for manifest in registry.versions()} == {made[3].version, made[4].version}
    assert len(keys(registry, BLOBS)) == 6
    assert not keys(registry, f"registry/default/versions/{made[2].version}")  # nothing is left of a candidate
    assert registry.verify() == []
    with pytest.raises(VersionNotFound):
        registry.rollback("champion", to=made[0].version, reason="", by="")
    assert registry.rollback("champion", reason="worse", by="me").version == made[3].version


def test_what_a_rollback_would_go_to_is_kept_whatever_is_asked(registry, tmp_path, later):
    made = make(registry, tmp_path, [True, True, True])
    registry.rollback("champion", reason="worse", by="me")  # from 2 to 1: the one before is 0
    later(100)
    collect(registry, Policy(keep=1))
    assert not registry.is_retired(made[0].version)
    assert registry.is_retired(made[2].version)


def test_a_retired_version_is_not_promoted_until_it_is_registered_again(registry, tmp_path, later):
    (made,) = make(registry, tmp_path, [False])
    later(40)
    collect(registry, Policy(candidates=timedelta(days=30)))
    with pytest.raises(VersionNotFound, match="being removed") as caught:
        promote(registry, made, None)
    assert "Register it again" in caught.value.hint
    assert registry.find("0", "litert") is None
    register(registry, tmp_path / "0", training_key="0")
    assert registry.find("0", "litert") == made
    promote(registry, made, None)
    collect(registry, Policy(candidates=timedelta(days=30)))
    assert registry.versions() == [made]


def test_another_policy_takes_a_mark_back(registry, tmp_path, later):
    (made,) = make(registry, tmp_path, [False])
    later(40)
    collect(registry, Policy(candidates=timedelta(days=30)))
    assert collect(registry, Policy()).recalled == [made.version]
    assert not registry.is_retired(made.version)


def test_a_version_that_was_promoted_before_its_mark_was_seen_stays(registry, tmp_path, later):
    """A promoter looked before the mark was there and wrote after it."""
    (made,) = make(registry, tmp_path, [False])
    promote(registry, made, None)
    registry.store.create(f"registry/default/versions/{made.version}/retired.json", b"{}")
    later(40)
    assert collect(registry, Policy(candidates=timedelta(days=30))).recalled == [made.version]
    assert registry.verify() == []


def test_gc_that_cannot_read_a_manifest_removes_nothing(registry, tmp_path, later):
    leave_files(registry, tmp_path / "crashed", tmp_path)
    (made,) = make(registry, tmp_path, [False])
    key = f"registry/default/versions/{made.version}/manifest.json"
    newer = registry.store.get(key).replace(b'"schema_version":"1.0"', b'"schema_version":"2.0"')
    registry.store.delete(key)
    registry.store.create(key, newer)
    before = keys(registry)
    later(8)
    with pytest.raises(ConfigurationError, match=r"2\.0"):
        collect(registry, Policy())
    assert keys(registry) == before


@pytest.mark.parametrize("policy", [{"grace": timedelta(hours=1)}, {"keep": 0}])
def test_a_policy_that_would_not_be_safe_is_refused(policy):
    with pytest.raises(ConfigurationError):
        Policy(**policy)


def test_a_wrong_clock_is_refused(registry, monkeypatch):
    monkeypatch.setattr(registry.store, "clock", lambda: ObjectStore.clock(registry.store) - timedelta(minutes=3))
    with pytest.raises(ConfigurationError, match="clock"):
        collect(registry, Policy())
    assert keys(registry) == []


# Races


class Stopping:
    """A store for gc that stands still where it is told to, until it is told to go on."""

    def __init__(self, store, where):
        self._store, self._where = store, where
        self.there, self.go_on = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def expiring_delete(self, key, *, seconds):
        signed = self._store.expiring_delete(key, seconds=seconds)
        stopping = self

        class Signed:
            def send(self):
                if stopping._where in key and not stopping.there.is_set():
                    stopping.there.set()
                    assert stopping.go_on.wait(timeout=60)
                return signed.send()

        return Signed()


def stopped_gc(registry, where, policy):
    """Start gc and return when it has decided on a deletion and not sent it."""
    own = Stopping(ObjectStore(registry.store.connection), where)
    gc = threading.Thread(target=collect, args=(Registry(own, "default"), policy), daemon=True)
    gc.start()
    assert own.there.wait(timeout=60)
    return own, gc


def test_a_registration_that_meets_a_decided_removal_waits_and_is_whole(registry, tmp_path, later, monkeypatch):
    """gc has decided to remove the very files that a registration finds stored. The deletion comes while it waits."""
    crashed = leave_files(registry, tmp_path / "crashed", tmp_path)
    later(8)
    monkeypatch.setattr(removals, "RELIED_ON", timedelta(seconds=-5))  # the files count as old, though a second old
    monkeypatch.setattr(removals, "WAIT_SECONDS", 60)
    store, gc = stopped_gc(registry, BLOBS, Policy())
    waits = threading.Event()
    announced = registry.store.list

    def listing(prefix):
        if prefix.endswith("/gc/"):
            waits.set()
        return announced(prefix)

    monkeypatch.setattr(registry.store, "list", listing)
    with watched(registry.store, tmp_path / "cache"):
        registering = threading.Thread(target=register, args=(registry, tmp_path / "crashed"), daemon=True)
        registering.start()
        assert waits.wait(timeout=60)
        assert registry.version_ids() == []  # it waits before it writes the manifest
        store.go_on.set()
        for thread in (gc, registering):
            thread.join(timeout=60)
    assert registry.versions() == [registry.manifest(crashed.version)]
    assert registry.verify() == []


def test_a_removal_that_stood_still_for_too_long_is_refused_by_the_server(registry, tmp_path, later, monkeypatch):
    """After that long nobody waits for it any more: its deletions must not arrive."""
    leave_files(registry, tmp_path / "crashed", tmp_path)
    later(8)
    monkeypatch.setattr(removals, "SIGNED_SECONDS", 1)
    store, gc = stopped_gc(registry, BLOBS, Policy())
    before = keys(registry, BLOBS)
    gc.join(timeout=3)  # stands still for longer than its signatures hold
    store.go_on.set()
    gc.join(timeout=60)
    assert keys(registry, BLOBS) == before


def test_files_stored_while_gc_runs_are_not_touched(registry, tmp_path, later):
    leave_files(registry, tmp_path / "crashed", tmp_path)
    later(8)
    store, gc = stopped_gc(registry, BLOBS, Policy())
    made = register(registry, artifact(tmp_path / "new"))
    promote(registry, made, None)
    store.go_on.set()
    gc.join(timeout=60)
    assert registry.versions() == [made]
    assert registry.verify() == []


def test_a_removal_under_way_does_not_hide_a_damaged_entry(registry, tmp_path, later):
    make(registry, tmp_path, [True, True])
    key = "registry/default/aliases/champion/00000000000000000001.json"
    registry.store.delete(key)
    registry.store.create(key, b"{}")
    later(8)
    with pytest.raises(IntegrityError):
        collect(registry, Policy(keep=1))
    assert len(registry.versions()) == 2
