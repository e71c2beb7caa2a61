import hashlib
import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from proxies import RESET_AFTER, at_number, faulty
from registered import FILES, artifact, register
from served import eventually

from restill.errors import ConfigurationError, IntegrityError, RegistryConflict, StorageUnreachable, VersionNotFound
from restill.manifests import canonical_json
from restill.registry import Registry


def promote(registry, manifest, expected, **more):
    values = {"alias": "champion", "reason": "better", "promoted_by": "a test", "verdict_sha256": None} | more
    return registry.promote(manifest.version, expected=expected, **values)


def overwrite(store, key, body):
    """Damage a stored object as nothing in the package can."""
    store.delete(key)
    assert store.create(key, body)


@pytest.fixture
def registry(store):
    return Registry(store, "default")


@pytest.fixture
def versions(registry, tmp_path):
    return [register(registry, artifact(tmp_path / f"artifact-{number}")) for number in range(3)]


# A version is immutable and whole


def test_what_was_registered_is_found_again(registry, tmp_path):
    folder = artifact(tmp_path / "artifact")
    manifest = register(registry, folder)
    assert registry.manifest(manifest.version) == manifest
    assert registry.manifest(manifest.version[:4]) == manifest
    assert registry.manifest(manifest.short.upper()) == manifest
    assert registry.versions() == [manifest]
    assert {file.path: file.role for file in manifest.files} == FILES
    assert Registry(registry.store, "another").versions() == []


def test_registering_the_same_again_changes_nothing(registry, tmp_path):
    folder = artifact(tmp_path / "artifact")
    first = register(registry, folder)
    before = [(item.key, item.modified) for item in registry.store.list("")]
    assert register(registry, folder) == first
    assert [(item.key, item.modified) for item in registry.store.list("")] == before


@pytest.mark.parametrize("version", ["0000", "abc", "", "no-hex", "../../x", "f" * 64, "g" * 64])
def test_an_unknown_version_is_refused(registry, versions, version):
    with pytest.raises(VersionNotFound):
        registry.manifest(version)


def test_an_ambiguous_beginning_names_what_it_could_mean(registry, tmp_path):
    first, second = (register(registry, artifact(tmp_path / name)) for name in "ab")
    for manifest in (first, second):  # two versions that begin alike, as 2^16 registrations would give
        twin = "abcd" + manifest.version[4:]
        registry.store.create(f"registry/default/versions/{twin}/manifest.json", b"{}")
    with pytest.raises(VersionNotFound, match="begins 2 versions"):
        registry.manifest("abcd")


def test_a_crash_before_the_manifest_leaves_no_version(registry, tmp_path, monkeypatch):
    folder = artifact(tmp_path / "artifact")
    create = registry.store.create

    def crash(key, body, **more):
        if key.endswith("manifest.json"):
            raise KeyboardInterrupt
        return create(key, body, **more)

    monkeypatch.setattr(registry.store, "create", crash)
    with pytest.raises(KeyboardInterrupt):
        register(registry, folder)
    assert len(list(registry.store.list("registry/default/blobs/"))) == len(FILES)
    assert registry.versions() == []
    assert registry.find("key", "litert") is None
    assert registry.verify("champion") == []

    monkeypatch.undo()
    manifest = register(registry, folder)
    assert registry.find("key", "litert") == manifest


def test_a_registration_that_slept_before_its_manifest_stores_what_was_removed_meanwhile(
    registry, tmp_path, monkeypatch
):
    create = registry.store.create

    def asleep(key, body, **more):
        if key.endswith("manifest.json"):
            for item in registry.store.list(registry.layout.blobs):
                registry.store.delete(item.key)
        return create(key, body, **more)

    monkeypatch.setattr(registry.store, "create", asleep)
    register(registry, artifact(tmp_path / "artifact"))
    assert registry.verify() == []


def test_find_wants_the_training_key_and_every_file(registry, tmp_path):
    old = register(registry, artifact(tmp_path / "old"), training_key="mine")
    new = register(registry, artifact(tmp_path / "new"), training_key="mine")
    register(registry, artifact(tmp_path / "other"), training_key="other")
    assert registry.find("mine", "litert") == new
    assert registry.find("nobody's", "litert") is None
    registry.store.delete(f"registry/default/blobs/sha256/{new.files[0].sha256}")
    assert registry.find("mine", "litert") == old
    with pytest.raises(IntegrityError, match="is not stored"):
        promote(registry, new, None)
    register(registry, tmp_path / "new", training_key="mine")  # heals it
    assert registry.find("mine", "litert") == new


@pytest.mark.parametrize("path", ["../outside", "/etc/hostname", "missing"])
def test_files_from_outside_the_folder_are_refused(registry, tmp_path, path):
    (tmp_path / "outside").write_bytes(b"secret")
    folder = artifact(tmp_path / "artifact")
    with pytest.raises(ConfigurationError):
        register(registry, folder, files=FILES | {path: "report"})
    (folder / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigurationError, match="leads out"):
        register(registry, folder, files=FILES | {"link": "report"})
    assert list(registry.store.list("")) == []


def test_a_forged_manifest_cannot_write_outside_the_cache(registry, versions, tmp_path):
    manifest = versions[0]
    content = json.loads(manifest.document())
    content["files"][0]["path"] = "../../planted"
    overwrite(registry.store, f"registry/default/versions/{manifest.version}/manifest.json", canonical_json(content))
    with pytest.raises(IntegrityError, match="plain relative path"):
        registry.manifest(manifest.version)


# A promotion is one atomic write


def test_the_first_promotion_and_the_next(registry, versions):
    assert registry.champion("champion") is None
    verdict = registry.add_verdict(versions[0].version, b'{"passed":true}')
    first = promote(registry, versions[0], None, verdict_sha256=verdict)
    assert registry.champion("champion") == first
    assert (first.sequence, first.replaces_sequence, first.previous_entry_sha256) == (1, None, None)
    second = promote(registry, versions[1], first)
    assert (second.sequence, second.replaces_sequence) == (2, 1)
    assert registry.champion("champion") == second
    assert registry.history("champion") == [first, second]
    assert registry.champion("shadow") is None
    assert registry.verify("champion") == []


def test_who_was_overtaken_cannot_promote(registry, versions):
    first = promote(registry, versions[0], None)
    second = promote(registry, versions[1], first, promoted_by="the quick one")
    for stale in (None, first):
        with pytest.raises(RegistryConflict, match="first"):
            promote(registry, versions[2], stale)
    with pytest.raises(RegistryConflict, match="the quick one"):
        promote(registry, versions[2], first)
    for invented in (first.model_copy(update={"sequence": 9}), second.model_copy(update={"promotion_id": "another"})):
        with pytest.raises(RegistryConflict):
            promote(registry, versions[2], invented)
    assert len(registry.history("champion")) == 2


def test_a_promotion_names_a_stored_verdict_and_version(registry, versions):
    with pytest.raises(VersionNotFound, match="verdict"):
        promote(registry, versions[0], None, verdict_sha256="0" * 64)
    with pytest.raises(VersionNotFound):
        registry.promote("f" * 64, alias="champion", expected=None, reason="", promoted_by="", verdict_sha256=None)
    with pytest.raises(ConfigurationError, match="alias"):
        promote(registry, versions[0], None, alias="../up")
    with pytest.raises(ConfigurationError, match="model"):
        Registry(registry.store, "a/b")
    assert registry.history("champion") == []


def is_entry(command, path):
    return command == "PUT" and "/aliases/" in path


def test_a_promoter_whose_answer_was_lost_recognises_its_own_entry(registry, versions):
    """The server applies the PUT, the answer is lost, boto3 tries again and is told 412: it has won all the same."""
    with faulty(registry.store, at_number(0, RESET_AFTER, is_entry)) as (proxy, own):
        entry = promote(own, versions[0], None)
    assert [status for command, path, status in proxy.seen if is_entry(command, path)] == [200, 412]
    assert registry.history("champion") == [entry]


def test_a_promoter_that_never_hears_back_can_repeat_itself(registry, versions):
    """Every answer is lost: the call fails, and its repetition with the same promotion id finds what it had done."""
    with (
        faulty(registry.store, lambda command, path: RESET_AFTER if is_entry(command, path) else None) as (_, own),
        pytest.raises(StorageUnreachable),
    ):
        promote(own, versions[0], None, promotion_id="flow-run-1")
    (first,) = registry.history("champion")
    assert promote(registry, versions[0], None, promotion_id="flow-run-1") == first
    later = promote(registry, versions[1], first)
    assert promote(registry, versions[0], None, promotion_id="flow-run-1") == first
    with pytest.raises(RegistryConflict):
        promote(registry, versions[2], None, promotion_id="flow-run-1")
    assert registry.history("champion") == [first, later]


def test_a_loser_whose_answer_was_lost_is_still_a_loser(registry, versions, monkeypatch):
    with faulty(registry.store, at_number(0, RESET_AFTER, is_entry)) as (proxy, own):
        create = own.store.create

        def overtaken(key, body, **more):
            monkeypatch.undo()
            promote(registry, versions[1], None, promoted_by="the quick one")
            return create(key, body, **more)

        monkeypatch.setattr(own.store, "create", overtaken)
        with pytest.raises(RegistryConflict, match="the quick one"):
            promote(own, versions[0], None)
    assert [status for command, path, status in proxy.seen if is_entry(command, path)] == [412, 412]
    assert len(registry.history("champion")) == 1


# An append never overwrites


def test_rollback_adds_an_entry_and_changes_none(registry, versions):
    first, second, third = versions
    entry = None
    for manifest in versions:
        entry = promote(registry, manifest, entry)
    before = {item.key: registry.store.get(item.key) for item in registry.store.list("registry/default/aliases/")}

    back = registry.rollback("champion", reason="it answers nonsense", by="Ada")
    assert (back.version, back.action, back.sequence) == (second.version, "rollback", 4)
    assert (back.reason, back.promoted_by) == ("it answers nonsense", "Ada")
    assert {key: registry.store.get(key) for key in before} == before
    # Once more goes further back, not forward to the version that was just rolled back from.
    assert registry.rollback("champion", reason="this one too", by="Ada").version == first.version
    with pytest.raises(VersionNotFound, match="nothing to go back to"):
        registry.rollback("champion", reason="and this", by="Ada")
    assert registry.rollback("champion", to=third.short, reason="was right", by="Ada").version == third.version
    assert registry.verify("champion") == []


def test_a_rollback_that_makes_no_sense_is_refused(registry, versions):
    with pytest.raises(VersionNotFound, match="no champion"):
        registry.rollback("champion", reason="", by="")
    promote(registry, versions[0], None)
    with pytest.raises(VersionNotFound, match="nothing to go back to"):
        registry.rollback("champion", reason="", by="")
    with pytest.raises(VersionNotFound, match="already"):
        registry.rollback("champion", to=versions[0].version, reason="", by="")
    with pytest.raises(VersionNotFound, match="never"):
        registry.rollback("champion", to=versions[1].version, reason="", by="")
    assert len(registry.history("champion")) == 1


# What is loaded is what was promoted


def test_a_second_fetch_moves_no_bytes(registry, versions, tmp_path):
    manifest = versions[0]
    entry = promote(registry, manifest, None)
    moved = []
    cache = tmp_path / "cache"
    folder = registry.fetch(manifest, cache, manifest_sha256=entry.manifest_sha256, progress=moved.append)
    assert sum(moved) == sum(file.bytes for file in manifest.files)
    for path in FILES:
        assert (folder / path).read_bytes() == (tmp_path / "artifact-0" / path).read_bytes()
    moved.clear()
    assert registry.fetch(manifest, cache, manifest_sha256=entry.manifest_sha256, progress=moved.append) == folder
    assert moved == []

    cached = cache / f"{manifest.version}.manifest.json"
    for path in (folder / "student.tflite", cached):
        content = path.read_bytes()
        for damaged in (b"damaged", content[:-1] + bytes([content[-1] ^ 1])):
            moved.clear()
            path.write_bytes(damaged)
            registry.fetch(manifest, cache, manifest_sha256=entry.manifest_sha256, progress=moved.append)
            assert sum(moved) == (0 if path == cached else 20_000)
            assert path.read_bytes() == content


def test_only_the_roles_asked_for_are_fetched(registry, versions, tmp_path):
    folder = registry.fetch(versions[0], tmp_path / "cache", roles=("litert", "tokenizer"))
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["student.tflite", "tokenizer.json"]


def test_many_can_share_one_cache(registry, versions, tmp_path):
    def load(_):
        folder = registry.fetch(versions[0], tmp_path / "cache")
        return [(folder / path).read_bytes() for path in FILES]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(load, range(16)))
    assert all(answer == [(tmp_path / "artifact-0" / path).read_bytes() for path in FILES] for answer in answers)
    assert sorted(path.name for path in (tmp_path / "cache").rglob("*.part")) == []


def test_one_wrong_byte_in_a_stored_file_is_found(registry, versions, tmp_path):
    manifest = versions[0]
    victim = next(file for file in manifest.files if file.path == "student.tflite")
    key = f"registry/default/blobs/sha256/{victim.sha256}"
    body = bytearray(registry.store.get(key))
    body[1234] ^= 1
    overwrite(registry.store, key, bytes(body))
    with pytest.raises(IntegrityError) as caught:
        registry.fetch(manifest, tmp_path / "cache")
    for part in (key, victim.sha256, registry.store.digest(key)):
        assert part in str(caught.value)
    assert not (tmp_path / "cache" / manifest.version / "student.tflite").exists()
    (problem,) = registry.verify("champion")
    assert key in problem


def test_a_manifest_other_than_the_promoted_one_is_found(registry, versions, tmp_path):
    manifest = versions[0]
    entry = promote(registry, manifest, None)
    key = f"registry/default/versions/{manifest.version}/manifest.json"
    content = json.loads(registry.store.get(key)) | {"training": {"loss": 0.0}}  # outside what the version id covers
    overwrite(registry.store, key, canonical_json(content))
    for attempt in (
        lambda: registry.fetch(manifest, tmp_path / "cache", manifest_sha256=entry.manifest_sha256),
        lambda: registry.manifest(manifest.version, sha256=entry.manifest_sha256),
    ):
        with pytest.raises(IntegrityError) as caught:
            attempt()
        assert key in str(caught.value)
        assert entry.manifest_sha256 in str(caught.value)
    assert any(key in problem for problem in registry.verify("champion"))


# A promotion names its reasons, and the log is a hash chain


def test_verdicts_are_kept_oldest_first_and_checked(registry, versions):
    version = versions[0].version
    # Listed by their digests they would be the other way round. Times are whole seconds.
    bodies = sorted((b'{"n":1}', b'{"n":2}'), key=lambda body: hashlib.sha256(body).digest(), reverse=True)
    digests = [registry.add_verdict(version, bodies[0])]
    first = registry.store.head(registry.layout.verdict(version, digests[0]))
    eventually(lambda: registry.store.clock() > first.modified)
    digests.append(registry.add_verdict(version, bodies[1]))
    registry.add_verdict(version, bodies[0])  # known already: changes nothing
    assert registry.verdicts(version) == bodies
    kinds = {"md": "text/markdown; charset=utf-8", "html": "text/html; charset=utf-8"}
    for suffix, body in (("md", b"# why"), ("html", b"<h1>why</h1>")):
        uri = registry.add_report(version, digests[0], body, suffix)
        key = f"registry/default/versions/{version}/reports/{digests[0]}.{suffix}"
        assert uri == registry.store.uri(key)
        with urllib.request.urlopen(registry.store.presign(key, seconds=60)) as answer:  # noqa: S310
            assert (answer.headers["Content-Type"], answer.read()) == (kinds[suffix], body)
    overwrite(registry.store, f"registry/default/versions/{version}/verdicts/{digests[1]}.json", b"{}")
    with pytest.raises(IntegrityError, match=digests[1]):
        registry.verdicts(version)


def test_verify_finds_an_edited_a_missing_and_a_moved_entry(registry, versions):
    entry = None
    for manifest in (*versions, versions[0]):
        entry = promote(registry, manifest, entry)
    folder = "registry/default/aliases/champion/"
    keys = [item.key for item in registry.store.list(folder)]
    second = registry.store.get(keys[1])

    overwrite(registry.store, keys[1], second.replace(b"better", b"bigger"))
    (problem,) = registry.verify("champion")
    assert keys[2] in problem

    registry.store.delete(keys[1])
    assert any("missing" in problem for problem in registry.verify("champion"))

    overwrite(registry.store, keys[1], registry.store.get(keys[2]))
    assert any(keys[1] in problem and "another place" in problem for problem in registry.verify("champion"))

    overwrite(registry.store, keys[1], second)
    assert registry.verify("champion") == []


@pytest.mark.parametrize("lie", ["manifest_sha256", "replaces_sequence"])
def test_verify_finds_an_entry_that_does_not_fit_what_it_names(registry, versions, lie):
    """Every object is whole, and the entry before it names that manifest rightly."""
    first = promote(registry, versions[0], None)
    second = promote(registry, versions[1], first)
    key = registry.layout.entry("champion", 2)
    told = getattr(first, lie) if lie != "replaces_sequence" else 2
    overwrite(registry.store, key, second.model_copy(update={lie: told}).document())
    (problem,) = registry.verify()
    assert key in problem or registry.layout.manifest(versions[1].version) in problem


def test_verify_names_what_is_no_verdict_and_no_alias(registry, versions):
    promote(registry, versions[0], None)
    for body in (b"[]", b'{"measurements":null}', b"[" * 100_000):
        registry.add_verdict(versions[0].version, body)
    registry.store.create(f"{registry.layout.aliases}No_Alias/{1:020d}.json", b"{}")
    problems = registry.verify()
    assert len(problems) == 4
    assert sum("is no verdict" in problem for problem in problems) == 2
    assert sum("No_Alias" in problem for problem in problems) == 1


def test_verify_finds_a_missing_file_and_a_lost_verdict(registry, versions):
    digest = registry.add_verdict(versions[0].version, b"{}")
    promote(registry, versions[0], None, verdict_sha256=digest)
    verdict = f"registry/default/versions/{versions[0].version}/verdicts/{digest}.json"
    blob = f"registry/default/blobs/sha256/{versions[1].files[0].sha256}"
    registry.store.delete(verdict)
    registry.store.delete(blob)
    problems = registry.verify("champion")
    assert len(problems) == 2
    assert any(verdict in problem for problem in problems)
    assert any(blob in problem for problem in problems)
