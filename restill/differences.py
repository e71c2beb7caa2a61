"""What tells two versions apart: their data, configuration, quality, size, latency, and their answers to one test."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, JsonValue

from restill.gates import Verdict
from restill.manifests import Manifest
from restill.measurements import Measurements, predictions
from restill.measurements.accuracy import Predictions
from restill.measurements.rows import Rows
from restill.measurements.statistics import mcnemar
from restill.registry import Registry
from restill.verdicts import stored_verdicts

# Facts of the lineage that are compared one by one; data, batches and configuration have sections of their own.
_MADE_WITH = (
    *("teacher_fingerprint", "training_key", "seed", "git_commit", "git_dirty", "dependency_lock_sha256"),
    *("restill_version", "hardware", "flow_run_id", "parent", "data_record_sha256", "teacher_scores_sha256"),
)
_QUALITY = ("accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "calibration_error", "spearman")
_LABEL_TOLERANCE = 1e-6  # labels are stored as float32


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Side(_Record):
    """One of the two versions."""

    version: str
    created_at: datetime
    artifact_role: str
    data_version: str
    batches: int
    judged: bool
    passed: bool | None  # by its newest verdict
    test_version: str | None  # the test split of that verdict; None: not judged, or not recorded
    latency_hardware: str | None


class Change(_Record):
    """A fact in which they differ; None where one does not have it."""

    name: str
    a: JsonValue
    b: JsonValue


class DataChange(_Record):
    """Batches of the training data; `replaced` ones appear as removed and added."""

    same: bool  # one data version
    added: tuple[str, ...]  # only b learned from them
    removed: tuple[str, ...]
    common: int


class Measured(_Record):
    """One measure of both; None where it was not measured."""

    name: str
    unit: str
    a: float | None
    b: float | None


class AnswerChange(_Record):
    """How both answered the same labelled test pairs."""

    pairs: int
    agreement: float  # share of the pairs that both decide alike
    only_a_right: int
    only_b_right: int
    p_value: (
        float  # McNemar, exact, two-sided; pairs that share a sentence are not independent, which it takes them for
    )


class Difference(_Record):
    """Everything that tells version b from version a."""

    a: Side
    b: Side
    data: DataChange
    made_with: tuple[Change, ...]
    configuration_same: bool
    configuration: tuple[Change, ...] | None  # differing keys; None: a version keeps only the digest
    measures: tuple[Measured, ...]
    measured_together: bool  # all of one verdict, which held one to the other; else each of its own newest verdict
    answers: AnswerChange | None
    not_comparable: str | None  # why there are no answers


@dataclass(frozen=True)
class Answers:
    """One version's answers to the labelled pairs of a test split."""

    rows: Rows
    found: Predictions


@dataclass(frozen=True)
class Sheet:
    """Where answers of one version are stored: in the evidence of a verdict on it, or on one that was held to it."""

    holder: str  # version that the verdict is on
    model: str  # its column there: challenger or champion
    sha256: str
    test_version: str


def read(registry: Registry, a: Manifest, b: Manifest) -> Difference:
    """Compare two stored versions.

    Raises: IntegrityError if something stored is not what it was; StorageUnreachable.
    """
    judged = {version: stored_verdicts(registry, version) for version in dict.fromkeys((a.version, b.version))}
    chosen = choose(a.version, b.version, judged)
    if isinstance(chosen, str):
        return compare(a, b, judged[a.version], judged[b.version], chosen)
    ours, theirs = (_answers(registry, sheet) for sheet in chosen)
    return compare(a, b, judged[a.version], judged[b.version], (ours, theirs))


def choose(a: str, b: str, judged: Mapping[str, Sequence[Verdict]]) -> tuple[Sheet, Sheet] | str:
    """Return the newest stored answers of both to one test split, or why there are none.

    Args:
        a: a version.
        b: another.
        judged: the verdicts on each, oldest first.
    """
    ours, theirs = list(_sheets(a, judged)), list(_sheets(b, judged))
    for name, sheets in ((a, ours), (b, theirs)):
        if not sheets:
            why = "its verdict is older than the storing of answers" if judged[name] else "it was never judged"
            return f"no answers of {name[:12]} are stored: {why}"
    for sheet in theirs:
        for other in ours:
            if sheet.test_version == other.test_version:
                return other, sheet
    splits = [", ".join(dict.fromkeys(sheet.test_version for sheet in sheets)) for sheets in (ours, theirs)]
    return f"they were judged on different test versions: {a[:12]} on {splits[0]}, {b[:12]} on {splits[1]}"


def compare(
    a: Manifest,
    b: Manifest,
    verdicts_a: Sequence[Verdict],
    verdicts_b: Sequence[Verdict],
    answers: tuple[Answers, Answers] | str,
) -> Difference:
    """Return what tells b from a. Pure.

    Args:
        a: a version.
        b: another.
        verdicts_a: on the first, oldest first.
        verdicts_b: on the second.
        answers: of both to one test split, or why there are none.
    """
    last_a, last_b = (found[-1] if found else None for found in (verdicts_a, verdicts_b))
    arms = _arms(a, b, last_a, last_b)
    found = answers if isinstance(answers, str) else answered(*answers)
    return Difference(
        a=_side(a, last_a),
        b=_side(b, last_b),
        data=_data(a, b),
        made_with=tuple(
            Change(name=name, a=getattr(a.lineage, name), b=getattr(b.lineage, name))
            for name in _MADE_WITH
            if getattr(a.lineage, name) != getattr(b.lineage, name)
        ),
        configuration_same=a.lineage.config_digest == b.lineage.config_digest,
        configuration=_configuration(a, b),
        measures=tuple(_measures(a, b, *arms)),
        measured_together=arms[0][0] is not None and arms[0][0] is arms[1][0],
        answers=None if isinstance(found, str) else found,
        not_comparable=found if isinstance(found, str) else None,
    )


def answered(a: Answers, b: Answers) -> AnswerChange | str:
    """Compare answers on the pairs that both have with one label, or say why they cannot be compared."""
    places = {pair: place for place, pair in enumerate(b.rows.pair_ids)}
    shared = [(mine, places[pair]) for mine, pair in enumerate(a.rows.pair_ids) if pair in places]
    if not shared:
        return "they have answered no pair in common"
    mine, yours = (np.array(column) for column in zip(*shared, strict=True))
    same = np.isclose(a.rows.grades[mine], b.rows.grades[yours], atol=_LABEL_TOLERANCE)
    if not same.any():
        return "the pairs they have in common were labelled anew between their verdicts"
    mine, yours = mine[same], yours[same]
    ours, theirs = a.found.decisions[mine], b.found.decisions[yours]
    labels = a.rows.labels[mine]
    compared = mcnemar(ours == labels, theirs == labels)
    return AnswerChange(
        pairs=len(mine),
        agreement=float((ours == theirs).mean()),
        only_a_right=compared.challenger_only,
        only_b_right=compared.champion_only,
        p_value=compared.p_value,
    )


def _sheets(version: str, judged: Mapping[str, Sequence[Verdict]]) -> Iterator[Sheet]:
    """Yield the stored answers of a version, newest first; its own verdicts before others'."""
    for holder in sorted(judged, key=lambda name: name != version):
        for verdict in reversed(judged[holder]):
            measured = verdict.measurements
            if measured.predictions_sha256 is None or measured.test_split is None:
                continue
            for model, of in (("challenger", measured.challenger), ("champion", measured.champion)):
                if of == version:
                    yield Sheet(holder, model, measured.predictions_sha256, measured.test_split.version)


def _answers(registry: Registry, sheet: Sheet) -> Answers:
    content = registry.evidence(sheet.holder, "predictions", sheet.sha256)
    rows, answers = predictions.from_parquet(content, f"The predictions of version {sheet.holder[:12]}")
    return Answers(rows, answers[sheet.model])


def _side(manifest: Manifest, verdict: Verdict | None) -> Side:
    measured = verdict.measurements if verdict else None
    return Side(
        version=manifest.version,
        created_at=manifest.created_at,
        artifact_role=manifest.artifact_role,
        data_version=manifest.lineage.data_version,
        batches=len(manifest.lineage.batches),
        judged=verdict is not None,
        passed=verdict.passed if verdict else None,
        test_version=measured.test_split.version if measured and measured.test_split else None,
        latency_hardware=measured.latency.hardware if measured and measured.latency else None,
    )


def _data(a: Manifest, b: Manifest) -> DataChange:
    ours, theirs = dict.fromkeys(a.lineage.batches), dict.fromkeys(b.lineage.batches)  # sets that keep the order
    return DataChange(
        same=a.lineage.data_version == b.lineage.data_version,
        added=tuple(batch for batch in theirs if batch not in ours),
        removed=tuple(batch for batch in ours if batch not in theirs),
        common=len(ours.keys() & theirs.keys()),
    )


def _configuration(a: Manifest, b: Manifest) -> tuple[Change, ...] | None:
    if a.lineage.config_digest == b.lineage.config_digest:
        return ()
    if a.lineage.config is None or b.lineage.config is None:
        return None
    ours, theirs = dict(_flat(a.lineage.config)), dict(_flat(b.lineage.config))
    return tuple(
        Change(name=name, a=ours.get(name), b=theirs.get(name))
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name) or (name in ours) != (name in theirs)
    )


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, JsonValue]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


_Arm = tuple[Measurements | None, Literal["challenger", "champion"]]  # where a version's numbers are


def _arms(a: Manifest, b: Manifest, last_a: Verdict | None, last_b: Verdict | None) -> tuple[_Arm, _Arm]:
    """Return where the numbers of both are: in one verdict if one was held to the other, else in each one's own."""
    if last_b is not None and last_b.measurements.champion == a.version:
        return (last_b.measurements, "champion"), (last_b.measurements, "challenger")
    if last_a is not None and last_a.measurements.champion == b.version:
        return (last_a.measurements, "challenger"), (last_a.measurements, "champion")
    ours, theirs = (last.measurements if last else None for last in (last_a, last_b))
    return (ours, "challenger"), (theirs, "challenger")


def _measures(a: Manifest, b: Manifest, arm_a: _Arm, arm_b: _Arm) -> Iterator[Measured]:
    """Yield what was measured of both, in the order a person looks at it; what neither has is left out."""
    ours, theirs = _numbers(a, *arm_a), _numbers(b, *arm_b)
    for (name, unit), value in ours.items():
        if value is not None or theirs[name, unit] is not None:
            yield Measured(name=name, unit=unit, a=value, b=theirs[name, unit])


def _numbers(
    manifest: Manifest, measured: Measurements | None, arm: Literal["challenger", "champion"]
) -> dict[tuple[str, str], float | None]:
    """Return each measure by its name and unit."""
    quality = measured.accuracy.get(arm) if measured else None
    latency = getattr(measured.latency, arm) if measured and measured.latency else None
    return {
        **{(name, ""): getattr(quality, name, None) for name in _QUALITY},
        ("served", "MB"): manifest.served_bytes / 1e6,
        ("latency p50", "ms"): latency.p50_ms.estimate if latency else None,
        ("latency p99", "ms"): latency.p99_ms.estimate if latency else None,
        ("cold start", "ms"): latency.cold_start_ms if latency else None,
        ("memory", "MB"): latency.peak_memory_mb if latency else None,
    }
