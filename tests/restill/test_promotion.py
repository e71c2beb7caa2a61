"""Promotion by hand, and what a verdict leaves beside its version, on the real S3 server."""

import json

import pytest
from measured import interval, measurements
from registered import artifact, register

from restill import gates
from restill.errors import ConfigurationError, GateRefused, IntegrityError, VersionNotFound
from restill.manifests import canonical_json
from restill.promotion import promote_by_hand
from restill.registry import Registry
from restill.settings import GateSettings


@pytest.fixture
def registry(store):
    return Registry(store, "default")


@pytest.fixture
def manifest(registry, tmp_path):
    return register(registry, artifact(tmp_path / "artifact"))


def judge(registry, manifest, champion=None, **changes):
    found = measurements(challenger=manifest.version, champion=champion, **changes)
    verdict = gates.judge(found, GateSettings())
    registry.add_verdict(manifest.version, verdict.document())
    return verdict


def test_what_passed_is_promoted_by_hand_with_its_verdict(registry, manifest):
    verdict = judge(registry, manifest)
    entry = promote_by_hand(registry, manifest.short, alias="champion", reason="approved", by="ada")
    assert (entry.forced, entry.verdict_sha256, entry.promoted_by) == (False, verdict.sha256, "ada")
    with pytest.raises(GateRefused, match="already the champion: number 1, by ada") as caught:
        promote_by_hand(registry, manifest.short, alias="champion", reason="approved", by="ada")
    assert "repair" in caught.value.hint


def test_a_verdict_of_another_restill_is_named_by_what_is_stored(registry, manifest):
    """One that knew fewer fields, and one that knows more."""
    content = json.loads(judge(registry, manifest).document())
    del content["measurements"]["swap_difference"]
    content["measurements"] |= {"added_later": 1}
    content["rows"][0] |= {"since": "later"}
    body = canonical_json(content | {"schema_version": "1.4", "approved_by": ["ada"]})
    assert gates.Verdict.model_validate_json(body).document() == body
    for found in registry.store.list(registry.layout.verdict_folder(manifest.version)):
        registry.store.delete(found.key)
    digest = registry.add_verdict(manifest.version, body)
    entry = promote_by_hand(registry, manifest.short, alias="champion", reason="approved", by="ada")
    assert entry.verdict_sha256 == digest
    assert registry.verify() == []


def test_a_verdict_that_cannot_be_read_is_said_and_promotes_nothing(registry, manifest):
    newer = canonical_json(json.loads(judge(registry, manifest).document()) | {"schema_version": "2.0"})
    registry.add_verdict(manifest.version, newer)
    with pytest.raises(ConfigurationError, match=r"has schema 2\.0"):
        promote_by_hand(registry, manifest.short, alias="champion", reason="approved", by="ada")
    for found in registry.store.list(registry.layout.verdict_folder(manifest.version)):
        registry.store.delete(found.key)
    registry.add_verdict(manifest.version, b'{"schema_version": "1.0", "passed": true}')
    with pytest.raises(IntegrityError, match="is not a valid Verdict"):
        promote_by_hand(registry, manifest.short, alias="champion", reason="approved", by="ada")
    assert registry.champion("champion") is None


@pytest.mark.parametrize("wrong", [{"reason": "caf\udce9"}, {"by": "\ud800"}])
def test_text_in_another_encoding_is_refused_before_anything_is_written(registry, manifest, wrong):
    judge(registry, manifest)
    with pytest.raises(ConfigurationError, match="no valid Unicode"):
        promote_by_hand(registry, manifest.short, alias="champion", **({"reason": "approved", "by": "ada"} | wrong))
    assert registry.champion("champion") is None


def test_what_was_refused_is_promoted_only_by_force_and_the_history_shows_it(registry, manifest):
    verdict = judge(registry, manifest, artifact_mb=500.0)
    with pytest.raises(GateRefused, match=r"500\.0 MB"):
        promote_by_hand(registry, manifest.version, alias="champion", reason="urgent", by="ada")
    entry = promote_by_hand(registry, manifest.version, alias="champion", reason="urgent", by="ada", force=True)
    assert entry.forced
    assert entry.verdict_sha256 == verdict.sha256
    assert [found.forced for found in registry.history("champion")] == [True]


def test_a_verdict_against_another_champion_passes_nothing(registry, manifest, tmp_path):
    judge(registry, manifest, champion="d" * 64, difference=interval(0.01, 0.001))
    with pytest.raises(GateRefused, match="present champion"):
        promote_by_hand(registry, manifest.version, alias="champion", reason="late", by="ada")


def test_what_was_never_judged_needs_force(registry, manifest):
    with pytest.raises(GateRefused, match="never judged"):
        promote_by_hand(registry, manifest.version, alias="champion", reason="new", by="ada")
    assert promote_by_hand(registry, manifest.version, alias="champion", reason="new", by="ada", force=True).forced


def test_evidence_is_kept_beside_the_version_and_checked(registry, manifest, store):
    digest = registry.add_evidence(manifest.version, "predictions", b"columns")
    assert registry.evidence(manifest.short, "predictions", digest) == b"columns"
    assert registry.add_evidence(manifest.version, "predictions", b"columns") == digest
    with pytest.raises(VersionNotFound, match="timings"):
        registry.evidence(manifest.version, "timings", digest)
    key = f"registry/default/versions/{manifest.version}/predictions/{digest}.parquet"
    store.delete(key)
    assert store.create(key, b"others")
    with pytest.raises(IntegrityError, match="promised bytes"):
        registry.evidence(manifest.version, "predictions", digest)


def test_a_test_split_counts_each_challenger_once(registry):
    for version in ("a" * 64, "b" * 64, "a" * 64):
        registry.use_test_split("0123456789ab", version)
    assert registry.test_split_uses("0123456789ab") == 2
    assert registry.test_split_uses("0123456789ab", besides="a" * 64) == 1
    assert registry.test_split_uses("ba9876543210") == 0
