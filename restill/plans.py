"""What a retrain would do now: read-only, and decided before anything slow is started."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from restill import approvals, incoming, logits, sample, snapshots, teachers
from restill.approvals import Approval
from restill.gates import Verdict
from restill.incoming import IncomingFile
from restill.logits import planning
from restill.manifests import Manifest, PromotionEntry
from restill.recipes import training_key
from restill.registry import Registry
from restill.settings import Settings
from restill.snapshots import Snapshot
from restill.storage.objects import ObjectStore
from restill.verdicts import stored_verdicts


@dataclass(frozen=True)
class Plan:
    """The state of the project, and what is left to be done in it."""

    new_files: tuple[str, ...]  # paths or s3:// addresses of incoming files that were never judged
    left_files: tuple[str, ...]  # other incoming files, and why each stays where it is, in words
    named_version: str | None  # what data.dvc names, or what was asked for; None: there is no data set yet
    snapshot: Snapshot | None  # None: the data set is not on this machine (yet)
    missing_sentences: int | None  # without teacher scores; None: not known before the data is here
    export: str  # which export of the student is next to be promoted; those before it were judged and refused
    challenger: Manifest | None  # the registered student of this data, teacher and configuration, as that export
    champion: PromotionEntry | None
    verdict: Verdict | None  # the last one of that challenger, against this champion, under these limits
    may_judge_again: bool  # the last one left only latency undecided, and there are tries left
    rolled_back: bool  # a person took that challenger out of service
    asked_for: bool = False  # a person named the data version: new files wait, and data.dvc stays as it is
    approval: Approval | None = None  # the last request for that challenger, where it counts

    @property
    def is_champion(self) -> bool:
        """Return whether the student of the present inputs is already live."""
        return bool(self.challenger and self.champion and self.challenger.version == self.champion.version)

    @property
    def is_up_to_a_person(self) -> bool:
        """Return whether a person decides, decided against it, or let its time go by."""
        if self.approval is None or self.approval.status == "approved":
            return False
        # No is no. A time that is over is that of one verdict: against another champion it is judged and asked anew.
        asked = self.verdict is not None and self.verdict.sha256 == self.approval.request.verdict_sha256
        return asked or self.approval.status == "rejected"

    @property
    def nothing_to_do(self) -> bool:
        """Return whether a run would change nothing."""
        if self.new_files or self.challenger is None:
            return False
        if self.is_champion or self.rolled_back or self.is_up_to_a_person:
            return True
        return self.verdict is not None and not self.verdict.passed and not self.may_judge_again

    def lines(self) -> list[str]:
        """Return the plan in sentences, in the order of the run."""
        said = [f"ingest {PurePath(place).name}" for place in self.new_files]
        said += [f"leave {left}" for left in self.left_files]
        if self.snapshot is None:
            if self.named_version == sample.DATA_VERSION and not self.asked_for:
                said.append("bring the sample data set to this machine, or make it again")
            elif self.named_version is not None:
                said.append(f"bring data version {self.named_version[:12]} to this machine")
            elif not self.new_files:
                return [*said, "fail: there is no data yet. Bring in pairs: restill ingest FILE, or restill sample"]
            return [*said, "score the sentences with the teacher", "distill a student and judge it"]
        if self.missing_sentences:
            said.append(f"score {self.missing_sentences:,} sentences with the teacher")
        if self.new_files:
            return [*said, "score what is new, distill a student, judge it against the champion"]
        if self.challenger is None:
            said.append(f"distill a student from data version {self.snapshot.short} and judge it")
        elif self.is_champion:
            said.append(f"train nothing: {self.challenger.short} was trained on exactly this and is the champion")
        elif self.rolled_back:
            said.append(f"train nothing: {self.challenger.short} was rolled back and is not promoted again by itself")
        elif self.is_up_to_a_person and self.approval is not None:
            said.append(f"train nothing: {self.challenger.short} {self.approval.words}")
        elif self.verdict is None:
            said.append(f"judge {self.challenger.short}, already trained, against the champion")
        elif self.may_judge_again:
            said.append(f"judge {self.challenger.short} again: its latency was undecided")
        elif self.verdict.passed:
            said.append(f"promote {self.challenger.short}, already judged")
        else:
            said.append(f"train nothing: {self.challenger.short} was judged and not promoted ({self.verdict.reason})")
        return said


def make_plan(settings: Settings, store: ObjectStore, *, data_version: str | None = None) -> Plan:
    """Look at incoming files, data version, teacher scores and registry; change nothing.

    Args:
        data_version: plan for this version, or the one that begins so, and for no new files; default: what data.dvc
            names, with what is new.
    Raises: ConfigurationError, TeacherError, StorageUnreachable, IntegrityError; VersionNotFound if there is no such
        data version.
    """
    registry = Registry.configured(store, settings.registry)
    champion = registry.champion(settings.registry.alias)
    history = registry.history(settings.registry.alias)
    fingerprint = teachers.fingerprint(settings.teacher, cache=settings.digest_cache)
    new_files: tuple[str, ...] = ()
    left_files: tuple[str, ...] = ()
    if data_version is None:
        named = snapshots.named_version(settings.root)
        snapshot = snapshots.current(settings.root)
        new_files, left_files = _incoming(settings, store, named, snapshot)
    else:
        named = snapshots.find_version(store, data_version).version
        snapshot = snapshots.opened_version(settings.root, named)
    export: str = settings.student.exports[0]
    challenger, missing, found = None, None, list[Verdict]()
    if snapshot is not None:
        key = training_key(snapshot.version, fingerprint, settings)
        export, challenger, found = _next_challenger(registry, key, champion, history, settings)
        missing = 0
        if challenger is None:
            missing = planning.count_missing(snapshot, logits.open_store(settings, store))
    approval = None
    if challenger is not None:
        asked = approvals.newest(registry, challenger.version, alias=settings.registry.alias)
        # Where nobody has to agree any more, only a no still counts.
        approval = asked if asked and (settings.approval.required or asked.status == "rejected") else None
    verdict = found[-1] if found else None
    return Plan(
        new_files=new_files,
        left_files=left_files,
        named_version=named,
        snapshot=snapshot,
        missing_sentences=missing,
        export=export,
        challenger=challenger,
        champion=champion,
        verdict=verdict,
        may_judge_again=_may_judge_again(found, settings),
        rolled_back=challenger is not None and was_rolled_back(challenger.version, history),
        asked_for=data_version is not None,
        approval=approval,
    )


def _next_challenger(
    registry: Registry,
    key: str,
    champion: PromotionEntry | None,
    history: list[PromotionEntry],
    settings: Settings,
) -> tuple[str, Manifest | None, list[Verdict]]:
    """Return the export that is next, its version and the verdicts on it: the first that was not refused for good.

    If all were, the last one. A version that a person took out of service ends the search: the next export of the
    same student is not what they asked for either.
    """
    made = {export: registry.find(key, export) for export in settings.student.exports}
    for export, challenger in made.items():
        # What is live settles it: an export refused before is not judged anew against the one that came in its place.
        if challenger is not None and champion is not None and challenger.version == champion.version:
            return export, challenger, find_verdicts(registry, challenger, champion, settings)
    for export in settings.student.exports:
        challenger = made[export]
        found = find_verdicts(registry, challenger, champion, settings) if challenger is not None else []
        refused = bool(found) and not found[-1].passed and not _may_judge_again(found, settings)
        if not refused or (challenger is not None and was_rolled_back(challenger.version, history)):
            break
    return export, challenger, found


def _may_judge_again(verdicts: list[Verdict], settings: Settings) -> bool:
    return bool(verdicts) and verdicts[-1].retryable and len(verdicts) < settings.gates.attempts


def find_verdicts(
    registry: Registry, challenger: Manifest, champion: PromotionEntry | None, settings: Settings
) -> list[Verdict]:
    """Return the stored verdicts on a challenger against this champion under the present limits, oldest first."""
    verdicts = stored_verdicts(registry, challenger.version)
    return [
        verdict
        for verdict in verdicts
        if verdict.measurements.champion == (champion.version if champion else None)
        and verdict.limits == settings.gates.model_dump(mode="json")
    ]


def was_rolled_back(version: str, history: list[PromotionEntry]) -> bool:
    """Return whether a rollback took a version out of service, or went past it, and nobody promoted it since."""
    rolled_back: set[str] = set()
    for position, entry in enumerate(history):
        if entry.action == "rollback":
            earlier = [before.version for before in history[:position]]
            back_to = max(number for number, live in enumerate(earlier) if live == entry.version)
            rolled_back |= set(earlier[back_to + 1 :])
        rolled_back.discard(entry.version)
    return version in rolled_back


def new_files(settings: Settings, store: ObjectStore) -> list[IncomingFile]:
    """Return the incoming files that were never judged, which are what a retrain would take in.

    Raises: ConfigurationError, StorageUnreachable.
    """
    named, snapshot = snapshots.named_version(settings.root), snapshots.current(settings.root)
    return [file for file, why in _sorted(settings, store, named, snapshot) if why is None]


def _incoming(
    settings: Settings, store: ObjectStore, named: str | None, snapshot: Snapshot | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files to be judged, and the others with the reason why they stay."""
    found = list(_sorted(settings, store, named, snapshot))
    left = tuple(f"{file.name}: {why}" for file, why in found if why)
    return tuple(file.place for file, why in found if why is None), left


def _sorted(
    settings: Settings, store: ObjectStore, named: str | None, snapshot: Snapshot | None
) -> Iterator[tuple[IncomingFile, str | None]]:
    """Yield what waits, each with why it stays where it is: None if it does not, empty if that needs no word."""
    for file in incoming.waiting(settings, store):
        outcome = file.outcome
        if file.problem is not None:
            yield file, file.problem
        elif outcome is None or (outcome.outcome != "refused" and named is None):
            yield file, None
        elif outcome.outcome == "refused":
            yield file, f"refused on {outcome.at:%Y-%m-%d %H:%M} UTC"
        elif (
            snapshot is not None
            and outcome.batch_id is not None
            and not snapshot.holds(outcome.batch_id)
            and file.sha256 not in snapshot.sources
        ):
            # data.dvc was put back to before it; taking it in again by itself would undo that.
            yield file, "it was taken in, but is not part of this data version (restill ingest)"
        else:
            yield file, ""
