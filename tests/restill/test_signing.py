"""Signed promotions in a real registry: what is not signed by a trusted key is neither served nor judged against."""

import dataclasses
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from registered import artifact, register
from served import Service, make_students, promote
from typer.testing import CliRunner

from flows.cli.main import app
from restill import verification
from restill.errors import ConfigurationError, IntegrityError, VersionNotFound
from restill.manifests import PromotionEntry, canonical_json
from restill.registry import Registry
from restill.serving import Champion, LiveChampion
from restill.settings import RegistrySettings, load_settings
from restill.signing import Signer, Trusted
from restill.storage import ObjectStore
from tasks.registry import load_champion

ALIAS = "champion"


@dataclass(frozen=True)
class Pair:
    """A private key and its public one, as PEM files."""

    private: Path
    public: Path


def write_pair(folder: Path, key=None, encryption=None) -> Pair:
    folder.mkdir()
    made = key or Ed25519PrivateKey.generate()
    pair = Pair(folder / "signing.pem", folder / "trusted.pem")
    pair.private.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    pair.private.chmod(0o600)
    pair.public.write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return pair


@pytest.fixture
def ours(tmp_path):
    return write_pair(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path):
    return write_pair(tmp_path / "theirs")


@pytest.fixture
def opened(store):
    """Give the same registry as somebody sees it who signs with a key and trusts keys."""

    def opened(*, signs: Pair | None = None, trusts: tuple[Pair, ...] = ()):
        settings = RegistrySettings(
            signing_key=signs.private if signs else None, trusted_keys=tuple(pair.public for pair in trusts)
        )
        return Registry.configured(store, settings)

    return opened


@pytest.fixture
def versions(opened, tmp_path):
    return [register(opened(), artifact(tmp_path / f"artifact-{number}")).version for number in range(3)]


def put(registry, number, body):
    """Write an entry as somebody who may write to the bucket."""
    assert registry.store.create(registry.layout.entry(ALIAS, number), body)


def stored(registry, number):
    return registry.store.get(registry.layout.entry(ALIAS, number))


def changed(body, **fields):
    return canonical_json(json.loads(body) | fields)


# Promoting and believing


def test_a_signed_promotion_is_believed_and_a_rollback_is_signed(opened, ours, versions):
    registry = opened(signs=ours, trusts=(ours,))
    first = promote(registry, versions[0])
    second = promote(registry, versions[1])
    assert registry.champion(ALIAS) == second
    assert registry.newer(first) == second
    back = registry.rollback(ALIAS, reason="worse", by="a test")
    assert (back.version, back.signature.key_id) == (versions[0], Signer.read(ours.private).key_id)
    assert registry.champion(ALIAS) == back
    assert registry.verify() == []
    assert opened().champion(ALIAS) == back  # who trusts no key in particular reads it too


def test_without_keys_nothing_changes(opened, versions):
    registry = opened()
    entry = promote(registry, versions[0])
    assert entry.signature is None
    assert "signature" not in json.loads(stored(registry, 1))
    assert registry.champion(ALIAS) == entry
    assert verification.check(registry).notes == []


def test_the_signature_is_what_the_documentation_says(opened, ours, versions):
    """Over a prefix and the entry without the field, and the key's id is the digest of its DER form."""
    promote(opened(signs=ours), versions[0])
    content = json.loads(stored(opened(), 1))
    signature = content.pop("signature")
    key = load_pem_public_key(ours.public.read_bytes())
    key.verify(bytes.fromhex(signature["value"]), b"restill promotion entry v1\n" + canonical_json(content))
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert signature["key_id"] == hashlib.sha256(der).hexdigest()


# What is refused


def unsigned(registry, first, second, ours, theirs):
    return changed(second, signature=None)


def signed_by_another(registry, first, second, ours, theirs):
    entry = PromotionEntry.parse(second, "here").model_copy(update={"signature": None})
    return Signer.read(theirs.private).sign(entry).document()


def in_another_name(registry, first, second, ours, theirs):
    """Sign with a key of one's own, and claim it were the trusted one."""
    theirs_signed = json.loads(signed_by_another(registry, first, second, ours, theirs))
    claimed = theirs_signed["signature"] | {"key_id": Signer.read(ours.private).key_id}
    return changed(second, signature=claimed)


def signature_of_another_entry(registry, first, second, ours, theirs):
    return changed(second, signature=json.loads(first)["signature"])


def another_version(registry, first, second, ours, theirs):
    named = json.loads(first)
    return changed(second, version=named["version"], manifest_sha256=named["manifest_sha256"])


def replayed(registry, first, second, ours, theirs):
    return changed(first, sequence=2)


def replayed_as_it_is(registry, first, second, ours, theirs):
    return first


def two_fields_of_one_name(registry, first, second, ours, theirs):
    version = json.loads(first)["version"]
    return second.replace(b'{"action"', b'{"version":"' + version.encode() + b'","action"', 1)


def unknown_algorithm(registry, first, second, ours, theirs):
    return changed(second, signature=json.loads(second)["signature"] | {"algorithm": "none"})


def no_signature_at_all(registry, first, second, ours, theirs):
    return changed(second, signature=json.loads(second)["signature"] | {"value": "not hexadecimal"})


FORGERIES = [
    unsigned,
    signed_by_another,
    in_another_name,
    signature_of_another_entry,
    another_version,
    replayed,
    replayed_as_it_is,
    two_fields_of_one_name,
    unknown_algorithm,
    no_signature_at_all,
]


@pytest.mark.parametrize("forge", FORGERIES)
def test_a_forged_entry_is_refused(opened, ours, theirs, versions, forge):
    registry = opened(signs=ours, trusts=(ours,))
    first = promote(registry, versions[0])
    promote(registry, versions[1])
    bodies = stored(registry, 1), stored(registry, 2)
    forged = forge(registry, *bodies, ours, theirs)
    assert forged != bodies[1]
    registry.store.delete(registry.layout.entry(ALIAS, 2))
    put(registry, 2, forged)
    with pytest.raises(IntegrityError):
        registry.champion(ALIAS)
    with pytest.raises(IntegrityError):
        registry.newer(first)
    assert any(registry.layout.entry(ALIAS, 2) in problem for problem in registry.verify())


def test_the_refusal_names_key_and_alias_and_says_what_to_do(opened, ours, theirs, versions):
    promote(opened(signs=theirs), versions[0])
    with pytest.raises(IntegrityError) as refused:
        opened(trusts=(ours,)).champion(ALIAS)
    for named in ("champion", "number 1", *(Signer.read(pair.private).key_id[:12] for pair in (ours, theirs))):
        assert named in str(refused.value)
    assert "registry.trusted_keys" in refused.value.hint
    assert "rollback" in refused.value.hint


def test_a_rollback_goes_from_a_forged_entry_to_what_was_believed_last(opened, ours, versions):
    """It never signs what only forged entries named, however many there are."""
    registry = opened(signs=ours, trusts=(ours,))
    promote(registry, versions[0])
    for version in (versions[1], versions[2]):
        latest = opened().champion(ALIAS)
        opened().promote(version, alias=ALIAS, expected=latest, reason="a", promoted_by="a thief", verdict_sha256=None)
    back = registry.rollback(ALIAS, reason="forged", by="a test")
    assert (back.version, back.sequence) == (versions[0], 4)
    assert registry.champion(ALIAS) == back
    with pytest.raises(VersionNotFound, match="No signed version was live before"):
        registry.rollback(ALIAS, reason="once more", by="a test")
    found = verification.check(registry)
    assert found.problems == ()
    assert len(found.notes) == 2
    assert all("is not signed" in note for note in found.notes)


def test_a_forged_entry_for_the_same_version_can_be_undone(opened, ours, versions):
    registry = opened(signs=ours, trusts=(ours,))
    promote(registry, versions[0])
    claimed = json.loads(stored(registry, 1))["signature"]
    put(registry, 2, changed(stored(registry, 1), sequence=2, signature=claimed))
    with pytest.raises(IntegrityError, match="is not what key"):
        registry.champion(ALIAS)
    assert registry.rollback(ALIAS, reason="forged", by="a test").version == versions[0]
    assert registry.champion(ALIAS).sequence == 3


# Serving


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    return make_students(tmp_path_factory.mktemp("students"), 3)


def test_a_live_champion_keeps_what_it_had_until_a_signed_entry_comes(opened, ours, theirs, students, tmp_path):
    registry = opened(signs=ours, trusts=(ours,))
    made = [student.register(registry).version for student in students]
    promote(registry, made[0])
    at = registry.store.connection
    champion = Champion.from_store(
        ObjectStore(dataclasses.replace(at)),
        model="default",
        alias=ALIAS,
        cache_dir=tmp_path / "cache",
        trusted_keys=[ours.public],
    )
    with LiveChampion(champion, poll_seconds=3600) as live:
        promote(opened(signs=theirs), made[1])
        with pytest.raises(IntegrityError, match="which is not trusted here"):
            live.refresh()
        assert live.version == made[0]
        with pytest.raises(IntegrityError):  # nor does a service that starts now
            Champion.from_store(
                registry.store,
                model="default",
                alias=ALIAS,
                cache_dir=tmp_path / "other",
                trusted_keys=[ours.public],
            )
        assert not (tmp_path / "other").exists()
        registry.rollback(ALIAS, to=made[0], reason="forged", by="a test")
        registry.promote(
            made[2],
            alias=ALIAS,
            expected=registry.champion(ALIAS),
            reason="a",
            promoted_by="a",
            verdict_sha256=None,
        )
        assert live.refresh()
        assert live.version == made[2]


def test_the_service_does_not_start_with_what_is_not_signed(opened, ours, students, tmp_path):
    promote(opened(), students[0].register(opened()).version)
    service = Service(opened(), tmp_path, RESTILL_REGISTRY__TRUSTED_KEYS=json.dumps([str(ours.public)]))
    assert service.stop() == 1
    assert "number 1 of champion of default is not signed" in "".join(service.said)


def test_no_trusted_key_is_not_the_same_as_an_empty_list(opened, ours, students, tmp_path):
    student = students[0].register(opened())
    promote(opened(), student.version)
    with pytest.raises(ConfigurationError, match="names no file"):
        Champion.from_store(opened().store, model="default", alias=ALIAS, cache_dir=tmp_path / "cache", trusted_keys=[])


# Beginning, and new keys


def test_an_existing_registry_begins_to_sign(opened, ours, versions):
    promote(opened(), versions[0])
    promote(opened(), versions[1])
    entry = opened(signs=ours).rollback(ALIAS, to=versions[1], reason="signing begins", by="a test")
    assert (entry.version, entry.sequence) == (versions[1], 3)
    strict = opened(signs=ours, trusts=(ours,))
    assert strict.champion(ALIAS) == entry
    found = verification.check(strict)
    assert (found.problems, len(found.notes)) == ((), 2)
    # What was live before that is gone back to only by name.
    with pytest.raises(VersionNotFound, match="No signed version"):
        strict.rollback(ALIAS, reason="worse", by="a test")
    assert strict.rollback(ALIAS, to=versions[0], reason="worse", by="a test").version == versions[0]
    with pytest.raises(VersionNotFound, match="already"):
        strict.rollback(ALIAS, to=versions[0], reason="again", by="a test")


def test_keys_are_rotated_without_a_gap(opened, ours, theirs, versions):
    promote(opened(signs=ours, trusts=(ours,)), versions[0])
    both = opened(signs=theirs, trusts=(ours, theirs))
    assert both.champion(ALIAS).version == versions[0]
    promote(both, versions[1])
    after = opened(signs=theirs, trusts=(theirs,))
    assert after.champion(ALIAS).version == versions[1]
    found = verification.check(after)
    assert (found.problems, len(found.notes)) == ((), 1)


@pytest.mark.parametrize("signs", [False, True])
def test_a_promotion_that_readers_would_refuse_is_not_made(opened, ours, theirs, versions, signs):
    registry = opened(signs=theirs if signs else None, trusts=(ours,))
    with pytest.raises(ConfigurationError, match="must be signed"):
        promote(registry, versions[0])
    assert registry.history(ALIAS) == []


# Keys that cannot be used


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(65537, 2048)


def test_a_signing_key_of_a_wrong_kind_is_refused(tmp_path, ours, rsa_key):
    wrong = write_pair(tmp_path / "rsa", rsa_key)
    locked = write_pair(tmp_path / "locked", encryption=BestAvailableEncryption(b"secret"))
    garbage = tmp_path / "garbage.pem"
    garbage.write_bytes(b"\xff no key")
    garbage.chmod(0o600)
    for path, why in (
        (wrong.private, "no Ed25519 key"),
        (locked.private, "is encrypted"),
        (ours.public, "no PEM private key"),
        (garbage, "no PEM private key"),
        (tmp_path / "missing.pem", "cannot be read: No such file"),
    ):
        if path.exists():
            path.chmod(0o600)
        with pytest.raises(ConfigurationError, match=why) as refused:
            Signer.read(path)
        assert str(path) in str(refused.value)


def test_a_trusted_key_of_a_wrong_kind_is_refused(tmp_path, ours, rsa_key):
    wrong = write_pair(tmp_path / "rsa", rsa_key)
    for path, why in (
        (wrong.public, "no Ed25519 key"),
        (ours.private, "no PEM public key"),
        (tmp_path / "missing.pem", "cannot be read: No such file"),
    ):
        with pytest.raises(ConfigurationError, match=why) as refused:
            Trusted.read([ours.public, path])
        assert str(path) in str(refused.value)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such rights")
def test_a_private_key_that_others_can_read_is_refused(ours):
    for mode in (0o604, 0o620, 0o666):
        ours.private.chmod(mode)
        with pytest.raises(ConfigurationError, match="can be read by others") as refused:
            Signer.read(ours.private)
        assert "chmod 600" in refused.value.hint
    ours.private.chmod(0o440)  # as a mounted secret of a container is, for its group
    assert Signer.read(ours.private)


def test_the_private_key_is_never_shown(ours):
    signer = Signer.read(ours.private)
    secret = ours.private.read_text().splitlines()[1]
    assert secret not in repr(signer)
    assert repr(signer) == f"Signer(key_id='{signer.key_id}')"


def test_without_the_package_it_says_what_to_install(ours, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for read in (lambda: Signer.read(ours.private), lambda: Trusted.read([ours.public])):
        with pytest.raises(ConfigurationError) as refused:
            read()
        assert "restill[signing]" in refused.value.hint


# Configured


def test_the_commands_sign_and_check_as_configured(opened, ours, versions, tmp_path, monkeypatch):
    at = opened().store.connection
    (tmp_path / "restill.toml").write_text(
        '[registry]\nsigning_key = "ours/signing.pem"\ntrusted_keys = ["ours/trusted.pem"]\n'
    )
    monkeypatch.setenv("RESTILL_ROOT", str(tmp_path))
    for name in ("endpoint_url", "bucket", "prefix", "access_key_id", "secret_access_key"):
        monkeypatch.setenv(f"RESTILL_STORAGE__{name.upper()}", getattr(at, name))
    settings = load_settings().registry
    assert (settings.signing_key, settings.trusted_keys) == (ours.private, (ours.public,))

    def call(*arguments, code=0):
        result = CliRunner().invoke(app, ["registry", *arguments, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    entry = call("promote", versions[0], "--force", "--by", "me", "--reason", "a test")
    assert entry["signature"]["key_id"] == Signer.read(ours.private).key_id
    assert (call("verify")["whole"], call("verify")["notes"]) == (True, [])
    promote(opened(), versions[1])
    found = call("verify", code=1)
    assert not found["whole"]
    assert "is not signed" in found["problems"][0]
    assert call("rollback", "--reason", "forged")["version"] == versions[0]
    found = call("verify")
    assert (found["whole"], len(found["notes"])) == (True, 1)
    assert Signer.read(ours.private).key_id[:12] in CliRunner().invoke(app, ["registry", "history"]).stdout
    # Who trusts keys and has none to sign with learns it before a training, not after it.
    (tmp_path / "restill.toml").write_text('[registry]\ntrusted_keys = ["ours/trusted.pem"]\n')
    with pytest.raises(ConfigurationError, match="signing_key is not set"):
        load_champion.fn(load_settings())
