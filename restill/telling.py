"""A version's provenance in sentences: the same sections on a terminal and in a picture. Pure."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from restill.manifests import SHORT
from restill.provenance import Ancestor, Judgement, LearnedBatch, LiveTime, Provenance

Tone = Literal["plain", "good", "bad", "doubt", "quiet"]
SHOWN_BATCHES = 6
SHOWN_ANCESTORS = 6
_TONES: dict[str, Tone] = {"pass": "good", "fail": "bad", "inconclusive": "doubt"}
MARKS: dict[Tone, str] = {"good": "✔ ", "bad": "✘ ", "doubt": "▲ "}  # colour is never alone
_SILENT = ("off", "n/a")  # gates that decided nothing


@dataclass(frozen=True)
class Line:
    """One line: what it is about, and what is said of it."""

    label: str
    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Section:
    """Lines under a title."""

    title: str
    lines: tuple[Line, ...]


def headline(found: Provenance) -> str:
    """Return the answer in one sentence."""
    name = f"Version {found.version[:SHORT]} of {found.model}"
    if not found.lives:
        why = found.judgement.reason if found.judgement else "It was never judged."
        return one_line(f"{name} was never {found.alias}. {why}")
    last = found.lives[-1]
    how = "by force, against its gates" if last.forced else "as a rollback" if last.action == "rollback" else "promoted"
    if found.live:
        return f"{name} is live as {found.alias} since {_time(last.since)}, {how}."
    return (
        f"{name} is not live: {(last.followed_by or '')[:SHORT]} followed it at {_time(last.until)}. "
        f"It was {found.alias} from {_time(last.since)}, {how}."
    )


def sections(found: Provenance) -> tuple[Section, ...]:
    """Return everything that is known, in the order a person asks, and last what is not."""
    told = (
        Section("Live", tuple(_lives(found))),
        Section("Judged", tuple(_judged(found.judgement))),
        Section("Learned from", tuple(_learned(found))),
        Section("Made with", tuple(_made(found))),
        Section("Before it", tuple(_before(found))),
        Section("Not known", tuple(Line("", one_line(sentence), "doubt") for sentence in found.unknown)),
    )
    return tuple(section for section in told if section.lines)


def one_line(text: str) -> str:
    """Return others' text as one line without control and invisible signs, which could move what stands beside it."""
    return "".join(
        " " if unicodedata.category(sign) in ("Cc", "Zl", "Zp") else sign
        for sign in text
        if unicodedata.category(sign) not in ("Cf", "Cs", "Co", "Cn")
    )


def _lives(found: Provenance) -> Iterator[Line]:
    for life in reversed(found.lives):
        yield Line(f"#{life.number}", _span(life), "bad" if life.forced else "good" if life.until is None else "plain")
        yield Line("by", one_line(life.by))
        yield Line("why", one_line(life.reason), "bad" if life.forced else "plain")
        instead = life.instead_of[:SHORT] if life.instead_of else "nothing: it was the first"
        yield Line("instead of", instead)
    if not found.lives:
        yield Line("", f"It was never {found.alias}.", "doubt")


def _span(life: LiveTime) -> str:
    what = "FORCED by a person against the gates" if life.forced else life.action
    end = "and is live" if life.until is None else f"until {_time(life.until)}"
    return f"{what}, {_time(life.since)} {end}"


def _judged(found: Judgement | None) -> Iterator[Line]:
    if found is None:
        yield Line("", "There is no stored verdict.", "doubt")
        return
    yield Line("verdict", one_line(found.reason), "good" if found.passed else "bad")
    if not found.named_by_promotion:
        yield Line("", "No promotion names this verdict; it is the newest one.", "quiet")
    values = [f"{name} {value:.4f}" for name, value in found.accuracy.items() if value is not None]
    held = f"held to {found.held_to[:SHORT]}" if found.held_to else "held to no champion"
    test = f"on test split {found.test_version}" if found.test_version else "on a test split that was not recorded"
    yield Line("accuracy", f"{', '.join(values)}; {held}, {test}")
    for gate, answer, observed, limit in found.gates:
        if answer not in _SILENT:
            allowed = f" (allowed: {limit})" if limit else ""
            yield Line(gate, one_line(f"{answer}: {observed}{allowed}"), _TONES.get(answer, "plain"))
    silent = [gate for gate, answer, _, _ in found.gates if answer in _SILENT]
    if silent:
        yield Line("did not apply", ", ".join(silent), "quiet")


def _learned(found: Provenance) -> Iterator[Line]:
    lineage = found.lineage
    pairs = ", ".join(f"{count:,} {name}" for name, count in (found.splits or {}).items())
    made = f" of {_time(found.data_at)}: {found.data_made}" if found.data_made else ""
    yield Line("data version", one_line(f"{lineage.data_version[:SHORT]}{made}"))
    new = sum(batch.new for batch in found.batches)
    count = f"{len(found.batches):,} batch{'' if len(found.batches) == 1 else 'es'}"
    since = f", {new:,} of them new since the champion before it" if found.lineage.parent else ""
    yield Line("batches", f"{count}{since}; pairs: {pairs or 'not known'}")
    for batch in found.batches[:SHOWN_BATCHES]:
        yield from _batch(batch)
    if len(found.batches) > SHOWN_BATCHES:
        yield Line("", f"and {len(found.batches) - SHOWN_BATCHES:,} more: --json names them all", "quiet")


def _batch(batch: LearnedBatch) -> Iterator[Line]:
    label = f"{'new ' if batch.new else ''}{batch.batch[:SHORT]}"
    rows = "pairs not known" if batch.rows is None else f"{batch.rows:,} pairs"
    said = batch.validation or f"{rows}; what validation said is not known."
    yield Line(
        label, one_line(f"{f'{_time(batch.at)}: ' if batch.at else ''}{said}"), "plain" if batch.validation else "doubt"
    )
    for warning in batch.warnings:
        yield Line("  warned", one_line(warning), "doubt")


def _made(found: Provenance) -> Iterator[Line]:
    lineage = found.lineage
    commit = f"{lineage.git_commit[:SHORT]}" if lineage.git_commit else "not known"
    changes = {True: ", with changes that were not committed", False: ", unchanged", None: ""}[lineage.git_dirty]
    yield Line("trained", f"{_time(found.created_at)} on {lineage.hardware}, Restill {lineage.restill_version}")
    yield Line("as", f"{found.artifact_role}, {found.served_mb:.1f} MB served")
    yield Line("teacher", f"{lineage.teacher_fingerprint[:SHORT]}, scores {_short(lineage.teacher_scores_sha256)}")
    yield Line("validated", f"data version {lineage.data_version[:SHORT]}, record {_short(lineage.data_record_sha256)}")
    yield Line("settings", f"{lineage.config_digest[:SHORT]}, seed {lineage.seed}")
    yield Line("code", f"commit {commit}{changes}", "doubt" if lineage.git_dirty or not lineage.git_commit else "plain")
    yield Line("packages", _short(lineage.dependency_lock_sha256))
    yield Line("flow run", lineage.flow_run_id or "not known")


def _before(found: Provenance) -> Iterator[Line]:
    for ancestor in found.ancestors[:SHOWN_ANCESTORS]:
        yield Line(
            ancestor.version[:SHORT], one_line(ancestor_sentence(ancestor)), "bad" if ancestor.forced else "plain"
        )
    if len(found.ancestors) > SHOWN_ANCESTORS:
        first = found.ancestors[-1]
        yield Line("", f"and {len(found.ancestors) - SHOWN_ANCESTORS:,} more, back to {first.version[:SHORT]}", "quiet")
    if not found.ancestors:
        yield Line("", "Nothing: when it was made there was no champion.")


def ancestor_sentence(found: Ancestor) -> str:
    """Return what is known of a champion before."""
    quality = "accuracy not known" if found.accuracy is None else f"accuracy {found.accuracy:.4f}"
    if found.number is None:
        return f"not in this history; {quality}"
    forced = ", forced" if found.forced else ""
    return f"#{found.number}, {_time(found.since)}{forced}, {quality}; by {found.by}"


def _short(digest: str | None) -> str:
    return digest[:SHORT] if digest else "not known"


def _time(at: datetime | None) -> str:
    return "an unknown time" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
