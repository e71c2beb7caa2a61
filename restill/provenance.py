"""Why a version is live, gathered from everything that is kept: history, verdicts, manifests, data versions, decisions.

What cannot be had is None, with a sentence in `unknown`: a key that may not read it, or an earlier Restill that did not
keep it.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from restill import ledger
from restill.errors import AccessDenied, IntegrityError, VersionNotFound
from restill.ledger import BatchOutcome
from restill.manifests import SHORT, Lineage, Manifest, PromotionEntry
from restill.registry import Registry
from restill.snapshots import records
from restill.snapshots.records import BatchRecord, VersionRecord
from restill.storage.objects import ObjectStore
from restill.verdicts import parse_verdict, stored_verdicts

_READS_AT_ONCE = 16


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LiveTime(_Record):
    """One stretch of time in which the version was live."""

    number: int  # of the history's entry
    action: str
    forced: bool
    since: datetime
    by: str
    reason: str
    instead_of: str | None  # version; None: the first champion
    until: datetime | None  # None: it is live now
    followed_by: str | None


class Judgement(_Record):
    """The verdict that decided on it."""

    verdict_sha256: str
    named_by_promotion: bool  # else the newest one that is stored
    passed: bool
    reason: str
    gates: tuple[tuple[str, str, str, str], ...]  # gate, answer, observed, limit
    accuracy: dict[str, float | None]  # of challenger, champion, teacher
    held_to: str | None  # version of the champion
    test_version: str | None


class LearnedBatch(_Record):
    """One batch of the training data, and what validation said of it."""

    batch: str
    new: bool  # its parent did not have it
    rows: int | None
    quarantined: int | None
    validation: str | None  # a sentence
    warnings: tuple[str, ...] = ()
    at: datetime | None = None
    report: str | None = None


class Ancestor(_Record):
    """A champion that it or its parents were made to replace."""

    version: str
    number: int | None  # of the entry that first made it live; None: not in this history
    since: datetime | None
    by: str | None
    forced: bool
    accuracy: float | None
    batches: int | None  # None: its manifest is gone


class Provenance(_Record):
    """Why a version is live, or why it is not."""

    model: str
    alias: str
    version: str
    created_at: datetime
    artifact_role: str
    served_mb: float
    live: bool
    lives: tuple[LiveTime, ...]  # oldest first
    judgement: Judgement | None
    data_made: str | None  # why its data version was made
    data_at: datetime | None
    splits: dict[str, int] | None  # pairs
    batches: tuple[LearnedBatch, ...]  # the new ones first
    lineage: Lineage
    ancestors: tuple[Ancestor, ...]  # its parent first, the first champion last
    unknown: tuple[str, ...]  # sentences


def read(registry: Registry, manifest: Manifest, *, alias: str) -> Provenance:
    """Gather why a version is live.

    Args:
        registry: where it is; what is kept of its data is looked for in the same store.
        manifest: of the version.
        alias: whose history is meant.
    Raises: IntegrityError if the history or a verdict is not what was stored; StorageUnreachable.
    """
    unknown: list[str] = []
    history = registry.history(alias)
    ancestors = tuple(_ancestors(registry, manifest, history, unknown))
    parent = registry.manifest(ancestors[0].version) if ancestors and ancestors[0].batches is not None else None
    record = _record(registry.store, manifest.lineage, unknown)
    return Provenance(
        model=registry.model,
        alias=alias,
        version=manifest.version,
        created_at=manifest.created_at,
        artifact_role=manifest.artifact_role,
        served_mb=manifest.served_bytes / 1e6,
        live=bool(history) and history[-1].version == manifest.version,
        lives=tuple(_lives(manifest.version, history)),
        judgement=_judgement(registry, manifest.version, history, unknown),
        data_made=record.reason if record else None,
        data_at=record.at if record else None,
        splits=records.Counts.of(record.batches).splits if record else None,
        batches=_batches(registry.store, manifest, parent, record, unknown),
        lineage=manifest.lineage,
        ancestors=ancestors,
        unknown=(*unknown, *_not_kept(manifest.lineage)),
    )


def _lives(version: str, history: list[PromotionEntry]) -> Iterator[LiveTime]:
    by_number = {entry.sequence: entry for entry in history}
    following = {entry.sequence: later for entry, later in itertools.pairwise(history)}
    for entry in history:
        if entry.version != version:
            continue
        before = by_number.get(entry.replaces_sequence or 0)
        later = following.get(entry.sequence)
        yield LiveTime(
            number=entry.sequence,
            action=entry.action,
            forced=entry.forced,
            since=entry.at,
            by=entry.promoted_by,
            reason=entry.reason,
            instead_of=before.version if before else None,
            until=later.at if later else None,
            followed_by=later.version if later else None,
        )


def _judgement(registry: Registry, version: str, history: list[PromotionEntry], unknown: list[str]) -> Judgement | None:
    """Return the verdict that the last promotion of a version names, or its newest one."""
    found = {hashlib.sha256(body).hexdigest(): body for body in registry.verdicts(version)}
    named = [entry.verdict_sha256 for entry in history if entry.version == version and entry.verdict_sha256]
    if named and named[-1] not in found:
        unknown.append(f"The verdict {named[-1][:SHORT]} that its promotion names is gone from the registry.")
    digest = named[-1] if named and named[-1] in found else next(reversed(found), None)
    if digest is None:
        unknown.append("Whether any gate would pass it: it has no stored verdict.")
        return None
    verdict = parse_verdict(found[digest], version)
    measured = verdict.measurements
    return Judgement(
        verdict_sha256=digest,
        named_by_promotion=digest in named,
        passed=verdict.passed,
        reason=verdict.reason,
        gates=tuple((row.gate, row.answer.value, row.observed, row.limit) for row in verdict.rows),
        accuracy={name: found.accuracy for name, found in measured.accuracy.items()},
        held_to=measured.champion,
        test_version=measured.test_split.version if measured.test_split else None,
    )


def _ancestors(
    registry: Registry, manifest: Manifest, history: list[PromotionEntry], unknown: list[str]
) -> Iterator[Ancestor]:
    """Yield the champions that each was trained to replace, back to one that had none before it."""
    seen = {manifest.version}
    parent = manifest.lineage.parent
    while parent is not None and parent not in seen:
        seen.add(parent)
        first = next((entry for entry in history if entry.version == parent), None)
        try:
            found = registry.manifest(parent)
            judged = stored_verdicts(registry, parent)
        except VersionNotFound:
            unknown.append(f"What came before {parent[:SHORT]}: its manifest is gone from the registry.")
            found, judged = None, []
        quality = judged[-1].measurements.accuracy.get("challenger") if judged else None
        yield Ancestor(
            version=parent,
            number=first.sequence if first else None,
            since=first.at if first else None,
            by=first.promoted_by if first else None,
            forced=bool(first and first.forced),
            accuracy=quality.accuracy if quality else None,
            batches=len(found.lineage.batches) if found else None,
        )
        parent = found.lineage.parent if found else None


def _record(store: ObjectStore, lineage: Lineage, unknown: list[str]) -> VersionRecord | None:
    version, learned = lineage.data_version, lineage.data_record_sha256
    try:
        record = records.read(store, version)
        if learned is not None and record is not None and records.digest(store, version) != learned:
            unknown.append(
                f"What validation said when it was made: the record of data version {version[:SHORT]} is not the "
                "one that it learned from."
            )
    except AccessDenied:
        unknown.append(f"How data version {version[:SHORT]} came to be: the key in use may not read its record.")
        return None
    except IntegrityError as error:
        unknown.append(f"How data version {version[:SHORT]} came to be: {error}")
        return None
    if record is None:
        unknown.append(f"How data version {version[:SHORT]} came to be: it has no record.")
    return record


def _batches(
    store: ObjectStore, manifest: Manifest, parent: Manifest | None, record: VersionRecord | None, unknown: list[str]
) -> tuple[LearnedBatch, ...]:
    recorded = {batch.batch: batch for batch in record.batches} if record else {}
    try:
        outcomes = _outcomes(store)
    except AccessDenied:
        unknown.append("What validation said of the batches: the key in use may not read the decisions on files.")
        outcomes = {}
    known = frozenset(parent.lineage.batches) if parent else frozenset()
    found = [_batch(name, name not in known, recorded.get(name), outcomes) for name in manifest.lineage.batches]
    if outcomes and (silent := [batch.batch for batch in found if batch.validation is None]):
        named = ", ".join(silent[:3]) + (" …" if len(silent) > 3 else "")
        unknown.append(
            f"What validation said of {len(silent):,} of the batches ({named}): no decision on a file names them."
        )
    return tuple(sorted(found, key=lambda batch: (not batch.new, batch.at is None, batch.at, batch.batch)))


def _batch(name: str, new: bool, record: BatchRecord | None, outcomes: Mapping[str, BatchOutcome]) -> LearnedBatch:
    outcome = outcomes.get(name)
    said = outcome.sentence if outcome else None
    if outcome is None and record is not None and record.replaces:
        said = f"The rest of batch {', '.join(record.replaces)}, after pairs were removed on request."
    quarantined = record.quarantined if record else outcome.quarantined if outcome else None
    return LearnedBatch(
        batch=name,
        new=new,
        rows=record.rows if record else outcome.accepted if outcome else None,
        quarantined=sum(quarantined.values()) if quarantined is not None else None,
        validation=said,
        warnings=outcome.warnings if outcome else (),
        at=outcome.at if outcome else None,
        report=outcome.report if outcome else None,
    )


def _outcomes(store: ObjectStore) -> dict[str, BatchOutcome]:
    """Return the decision that made each batch, by the batch's id; the first one if several files hold the same."""
    keys = [item.key for item in store.list(f"{ledger.FOLDER}/") if item.key.endswith("/accepted.json")]
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        read = [BatchOutcome.model_validate_json(body) for body in pool.map(store.get, keys)]
    made: dict[str, BatchOutcome] = {}
    for outcome in sorted(read, key=lambda found: found.at):
        if outcome.batch_id is not None:
            made.setdefault(outcome.batch_id, outcome)
    return made


def _not_kept(lineage: Lineage) -> Iterator[str]:
    if lineage.git_commit is None:
        yield "The code it was made with: it was not made in a git repository."
    elif lineage.git_dirty:
        yield "The code it was made with, exactly: there were changes that no commit has."
    if lineage.dependency_lock_sha256 is None:
        yield "The packages it was made with: there was no requirements/all.lock."
    if lineage.teacher_scores_sha256 is None:
        yield "The scores it learned from: an earlier Restill did not keep their digest."
    if lineage.config is None:
        yield "Its settings: an earlier Restill kept only their digest."
    if lineage.flow_run_id is None:
        yield "The run that made it: it was not made by a flow."
