"""The roles of `infra/iam`: the documents themselves are evaluated by a real S3 server, with a key for each role."""

import dataclasses
import hashlib
import json
import secrets
from pathlib import Path

import pytest
from measured import measurements
from pending import pending
from registered import artifact, register

from restill import batches, forgotten, judging, ledger, policies, provenance, runs, storage
from restill.errors import AccessDenied, ConfigurationError, IntegrityError
from restill.gates import Verdict
from restill.layout import EVIDENCE, Layout
from restill.logits import jobs, places
from restill.measurements.latency import orders
from restill.policies import BUCKET, COLLECTOR, PLACES, PROMOTER, READER, TRAINER, Role, documents, who_may
from restill.registry import Registry
from restill.settings import Settings, StorageSettings
from restill.snapshots import records, working_copy
from restill.storage import ObjectStore
from restill.storage.embedded import EmbeddedServer
from restill.storage.transfers import Parts

COMMITTED = Path(__file__).parents[2] / "infra" / "iam"
PREFIX = "some/prefix"


class ServerWithRoles(EmbeddedServer):
    """The embedded server with a user for each role, whose policy is the generated document and nothing else."""

    def _identities(self):
        found = super()._identities()
        made = documents(self._bucket, self._prefix)
        found["policies"] = [{"name": role, "content": json.dumps(made[role])} for role in Role]
        found["identities"] += [
            {
                "name": role,
                "credentials": [{"accessKey": f"key-of-{role}", "secretKey": f"secret-of-{role}"}],
                "policyNames": [role],
            }
            for role in Role
        ]
        return found


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    """The store with the key that may do everything."""
    server = ServerWithRoles(tmp_path_factory.mktemp("roles"), prefix=PREFIX)
    try:
        yield ObjectStore(server.start())
    finally:
        server.stop()


@pytest.fixture
def store_of(owner):
    def opened(role):
        keys = {"access_key_id": f"key-of-{role}", "secret_access_key": f"secret-of-{role}"}
        return ObjectStore(dataclasses.replace(owner.connection, data_dir=None, **keys))

    return opened


def settings_of(role, owner, root, **more):
    connection = owner.connection
    reached = StorageSettings(
        endpoint_url=connection.endpoint_url,
        bucket=connection.bucket,
        prefix=connection.prefix,
        access_key_id=f"key-of-{role}",
        secret_access_key=f"secret-of-{role}",
    )
    return Settings(root=root, storage=reached, **more)


def test_the_committed_policies_are_current():
    made = documents("YOUR-BUCKET")
    assert {path.stem: path.read_text("utf-8") for path in COMMITTED.glob("*.json")} == {
        name: policies.text(policy) for name, policy in made.items()
    }


def test_a_policy_fits_where_it_is_attached():
    """AWS takes 6,144 characters of a managed policy and 20 KB of a bucket's, white space not counted."""
    made = documents("a-bucket-with-a-name-of-63-characters-" + 25 * "x", "a/long/prefix", ["default", "questions"])
    sizes = {name: len(json.dumps(policy, separators=(",", ":"))) for name, policy in made.items()}
    assert sizes.pop(BUCKET) < 20_000
    assert max(sizes.values()) < 6_144


def test_names_that_a_policy_would_read_as_patterns_are_refused():
    for wrong in ({"bucket": "b*"}, {"prefix": "${aws:username}"}, {"models": ["*"]}):
        with pytest.raises(ConfigurationError, match="pattern"):
            documents(**({"bucket": "bucket"} | wrong))


def test_nobody_but_the_promoter_writes_an_alias():
    entry = "registry/default/aliases/champion/00000000000000000001.json"
    assert who_may("s3:PutObject", entry) == (PROMOTER,)
    assert who_may("s3:DeleteObject", entry) == ()
    assert who_may("s3:GetObject", entry) == tuple(Role)
    assert who_may("s3:PutObject", Layout("default").approval_decision("champion", "a" * 64, "b" * 64)) == (PROMOTER,)
    # A pattern that reached over slashes would let the trainer put an object among the entries: models are named.
    for role in (READER, TRAINER, COLLECTOR):
        assert not any("aliases" in place.key for place in PLACES if role in place.write or role in place.delete)


def test_every_place_is_one_that_the_code_writes_to():
    """The places are spelt out in `policies`, which imports nothing; here they are held against the code's own."""
    layout = Layout("default")
    digest = "a" * 64
    keys = [
        *(layout.blob(digest), layout.manifest(digest), layout.verdict(digest, digest)),
        *(layout.evidence(digest, name, digest) for name in EVIDENCE),
        *(layout.report(digest, digest, "html"), layout.entry("champion", 1), layout.test_split("t") + "v.json"),
        *(make("champion", digest, digest) for make in (layout.approval_request, layout.approval_decision)),
        *(layout.pointer("champion"), layout.serving("champion") + "1/saved_model.pb"),
        *(places.shard_key(digest, "s"), places.work_key(digest, "s"), places.plan_key(digest, "p")),
        *(f"{orders.ROOT}x/order.json", f"{ledger.FOLDER}/x/accepted.json", f"{judging.REPORTS}/x/summary.md"),
        *(records.key(digest[:32]), f"{forgotten.FOLDER}/x.json", working_copy.key(digest[:32])),
        *(f"{runs.FOLDER}/default/x/{name}" for name in (runs.STARTED, runs.ENDED)),
    ]
    for key in keys:
        assert who_may("s3:PutObject", key), key


def test_the_trainer_ingests_scores_registers_and_judges_but_does_not_promote(owner, store_of, tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("text_a,text_b,label\n" + "".join(f"lamp {n} on,light lamp {n},{n % 2}\n" for n in range(80)))
    settings = settings_of(TRAINER, owner, tmp_path)
    store = storage.connect(settings.storage, settings.state_dir)  # probes: writes and deletes
    outcome = batches.ingest_file(file, settings, store)
    assert outcome.outcome == "accepted", outcome.reasons
    forgotten.add(store, forgotten.Forgotten(), "asked for")

    run = runs.begin(store, flow="retrain", model="default", run_id=secrets.token_hex(4), name="a run")
    runs.end(store, run, runs.Run(), sentence="Done.", result="done")
    shard = jobs.store_plan(store, "f" * 64, "bi-encoder", [("0" * 32, 1)])
    assert store.create(places.shard_key("f" * 64, "0" * 32), b"scores")
    store.delete(shard.key)

    registry = Registry(store, "default")
    manifest = register(registry, artifact(tmp_path / "artifact"))
    large = tmp_path / "large"
    large.write_bytes(secrets.token_bytes(6 * 1024**2))
    parts = Parts(threshold_bytes=1, part_bytes=5 * 1024**2)
    blob = Layout("default").blob(hashlib.sha256(large.read_bytes()).hexdigest())
    with pytest.raises(IntegrityError):
        store.create_blob(blob, large, sha256="0" * 64, parts=parts)
    assert pending(owner) == []
    assert store.create_blob(blob, large, sha256=Path(blob).name, parts=parts)
    order = orders.place(registry, manifest, None, [("a", "b")], requests=50, warmup=10, threads=1)
    orders.remove(store, order)
    digest = judged(registry, manifest.version)
    with pytest.raises(AccessDenied) as caught:
        promote(registry, manifest.version, digest)
    assert "the key in use lacks the right s3:PutObject there" in str(caught.value)
    assert "aliases/champion/00000000000000000001.json" in str(caught.value)
    assert "Roles that may: promoter" in caught.value.hint
    assert caught.value.exit_code == 3
    assert registry.champion("champion") is None
    for key in (f"registry/default/versions/{manifest.version}/manifest.json", records.key(outcome_version(settings))):
        with pytest.raises(AccessDenied, match="s3:DeleteObject"):
            store.delete(key)


def test_the_promoter_promotes_what_the_trainer_registered_and_a_reader_only_reads(owner, store_of, tmp_path):
    trained = Registry(store_of(TRAINER), "default")
    manifest = register(trained, artifact(tmp_path / "artifact"))
    settings = settings_of(PROMOTER, owner, tmp_path)
    promoting = Registry(storage.connect(settings.storage, settings.state_dir), "default")
    digest = judged(promoting, manifest.version)
    entry = promote(promoting, manifest.version, digest)
    with pytest.raises(AccessDenied, match="s3:PutObject"):
        register(promoting, artifact(tmp_path / "another"))
    with pytest.raises(AccessDenied, match="s3:GetObject"):
        promoting.store.get("logits/x/shards/y.parquet")

    settings = settings_of(READER, owner, tmp_path)
    reading = Registry(storage.connect(settings.storage, settings.state_dir, for_reading=True), "default")
    assert reading.champion("champion") == entry
    assert reading.fetch(manifest, tmp_path / "cache", manifest_sha256=entry.manifest_sha256).is_dir()
    told = provenance.read(reading, manifest, alias="champion")  # what a reader may not see is unknown, not an error
    assert told.live
    assert sum("the key in use may not read" in sentence for sentence in told.unknown) == 2  # data version, validation
    assert reading.store.head(f"registry/default/blobs/sha256/{'0' * 64}") is None  # missing, not denied
    for key in (place.key.format(model="default", alias="champion").replace("*", "x") for place in PLACES):
        with pytest.raises(AccessDenied, match="s3:PutObject"):
            reading.store.create(key, b"mine")
        with pytest.raises(AccessDenied, match="s3:DeleteObject"):
            reading.store.delete(key)
    for place in ("dvc/", "logits/", "", "registry/another/"):
        with pytest.raises(AccessDenied, match="s3:ListBucket"):
            list(reading.store.list(place))

    collecting = store_of(COLLECTOR)
    blob = f"registry/default/blobs/sha256/{manifest.files[0].sha256}"
    collecting.delete(blob)
    assert reading.store.head(blob) is None
    assert collecting.create("registry/default/gc/1.json", b"{}")
    for key in ("registry/default/gc/1.json", f"registry/default/versions/{manifest.version}/manifest.json"):
        collecting.delete(key)
    with pytest.raises(AccessDenied, match="s3:PutObject"):
        collecting.create(blob, b"other bytes")
    with pytest.raises(AccessDenied, match="s3:DeleteObject"):
        collecting.delete("registry/default/aliases/champion/00000000000000000001.json")


def test_the_buckets_own_policy_keeps_history_from_everybody(owner):
    """Also from the owner's key. SeaweedFS does not know `s3:if-none-match`, so that statement is left out here."""
    policy = documents(owner.connection.bucket, PREFIX)[BUCKET]
    deleting = [found for found in policy["Statement"] if found["Sid"] == "HistoryIsNotDeleted"]
    client, bucket = owner._client, owner.connection.bucket
    entry = f"registry/kept-{secrets.token_hex(4)}/aliases/champion/00000000000000000001.json"
    assert owner.create(entry, b"{}")
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy | {"Statement": deleting}))
    try:
        with pytest.raises(AccessDenied, match="s3:DeleteObject"):
            owner.delete(entry)
        assert owner.get(entry) == b"{}"
    finally:
        client.delete_bucket_policy(Bucket=bucket)
    owner.delete(entry)


def judged(registry, version):
    verdict = Verdict(
        passed=True,
        bootstrap=True,
        reason="All gates passed.",
        rows=(),
        limits={},
        measurements=measurements(challenger=version, champion=None),
    )
    registry.add_evidence(version, "predictions", b"answers")
    registry.add_evidence(version, "timings", b"milliseconds")
    registry.add_report(version, verdict.sha256, b"<p>why</p>", "html")
    registry.use_test_split("t" * 12, version)
    return registry.add_verdict(version, verdict.document())


def promote(registry, version, verdict):
    return registry.promote(
        version, alias="champion", expected=None, reason="better", promoted_by="a test", verdict_sha256=verdict
    )


def outcome_version(settings):
    version = working_copy.named_version(settings.root)
    assert version is not None
    return version
