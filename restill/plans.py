"""What a retrain would do now: read-only, and decided before anything slow is started."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from restill import batches, sample, snapshots, teachers
from restill.batches import BatchOutcome
from restill.gates import Verdict
from restill.logits import LogitsStore
from restill.manifests import Manifest, PromotionEntry
from restill.recipes import training_key
from restill.registry import Registry
from restill.settings import Settings
from restill.snapshots import Snapshot
from restill.storage.objects import ObjectStore


@dataclass(frozen=True)
class Plan:
    """The state of the project, and what is left to be done in it."""

    new_files: tuple[Path, ...]  # in the incoming folder, never judged
    refused_files: tuple[BatchOutcome, ...]  # in the incoming folder, judged and refused
    named_version: str | None  # what data.dvc names; None: there is no data set yet
    snapshot: Snapshot | None  # None: the data set is not on this machine (yet)
    missing_sentences: int | None  # without teacher scores; None: not known before the data is here
    challenger: Manifest | None  # the registered student of this data, teacher and configuration
    champion: PromotionEntry | None
    verdict: Verdict | None  # of that challenger, against this champion, under these limits
    rolled_back: bool  # a person took that challenger out of service

    @property
    def is_champion(self) -> bool:
        """Return whether the student of the present inputs is already live."""
        return bool(self.challenger and self.champion and self.challenger.version == self.champion.version)

    @property
    def nothing_to_do(self) -> bool:
        """Return whether a run would change nothing."""
        if self.new_files or self.challenger is None:
            return False
        if self.is_champion or self.rolled_back:
            return True
        return self.verdict is not None and not self.verdict.passed and not self.verdict.retryable

    def lines(self) -> list[str]:
        """Return the plan in sentences, in the order of the run."""
        said = [f"ingest {path.name}" for path in self.new_files]
        said += [
            f"leave {outcome.file_name}: refused on {outcome.at:%Y-%m-%d %H:%M} UTC" for outcome in self.refused_files
        ]
        if self.snapshot is None:
            if self.named_version == sample.DATA_VERSION:
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
        elif self.verdict is None:
            said.append(f"judge {self.challenger.short}, already trained, against the champion")
        elif self.verdict.retryable:
            said.append(f"judge {self.challenger.short} again: its latency was undecided")
        elif self.verdict.passed:
            said.append(f"promote {self.challenger.short}, already judged")
        else:
            said.append(f"train nothing: {self.challenger.short} was judged and not promoted ({self.verdict.reason})")
        return said


def make_plan(settings: Settings, store: ObjectStore) -> Plan:
    """Look at incoming files, data version, teacher scores and registry; change nothing.

    Raises: ConfigurationError, TeacherError, StorageUnreachable, IntegrityError.
    """
    new_files, refused = _incoming(settings, store)
    registry = Registry(store, settings.registry.model)
    history = registry.history(settings.registry.alias)
    champion = history[-1] if history else None
    fingerprint = teachers.fingerprint(settings.teacher, cache=settings.digest_cache)
    named = snapshots.named_version(settings.root)
    snapshot = snapshots.current(settings.root)
    if snapshot is None:
        return Plan(new_files, refused, named, None, None, None, champion, None, rolled_back=False)
    challenger = registry.find(training_key(snapshot.version, fingerprint, settings))
    missing = 0
    if challenger is None:
        logits = LogitsStore(store, fingerprint, settings.logits_cache)
        missing = len(logits.missing(snapshot.sentences()))
    return Plan(
        new_files=new_files,
        refused_files=refused,
        named_version=named,
        snapshot=snapshot,
        missing_sentences=missing,
        challenger=challenger,
        champion=champion,
        verdict=find_verdict(registry, challenger, champion, settings) if challenger else None,
        rolled_back=challenger is not None and was_rolled_back(challenger.version, history),
    )


def find_verdict(
    registry: Registry, challenger: Manifest, champion: PromotionEntry | None, settings: Settings
) -> Verdict | None:
    """Return the stored verdict on a challenger against this champion under the present limits, if there is one."""
    for document in registry.verdicts(challenger.version):
        verdict = Verdict.model_validate_json(document)
        if (
            verdict.measurements.champion == (champion.version if champion else None)
            and verdict.limits == settings.gates
        ):
            return verdict
    return None


def was_rolled_back(version: str, history: list[PromotionEntry]) -> bool:
    """Return whether the last time a version stopped being live was a rollback."""
    for before, after in reversed(list(pairwise(history))):
        if before.version == version:
            return after.action == "rollback"
    return False


def _incoming(settings: Settings, store: ObjectStore) -> tuple[tuple[Path, ...], tuple[BatchOutcome, ...]]:
    """Return files never judged, and the outcomes of those that were refused."""
    new: list[Path] = []
    refused: list[BatchOutcome] = []
    folder = settings.root / settings.data.incoming
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not path.is_file() or path.name.startswith("."):
            continue
        outcome = batches.known_outcome(path, settings.data, store)
        if outcome is None:
            new.append(path)
        elif outcome.outcome == "refused":
            refused.append(outcome)
    return tuple(new), tuple(refused)
