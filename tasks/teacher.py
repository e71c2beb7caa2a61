"""score_with_teacher: the missing teacher scores, shard by shard."""

from restill import logits, storage, teachers
from restill.logits import LogitsStore, ScoreReport
from restill.settings import Settings
from restill.snapshots import Snapshot
from tasks.progress import reporting, say
from tasks.step import HOURS, step


@step("score {snapshot.short} with the teacher", timeout_seconds=24 * HOURS)
def score_with_teacher(snapshot: Snapshot, settings: Settings) -> ScoreReport:
    """Store a teacher embedding for every sentence of the snapshot that has none yet."""
    store = storage.connect(settings.storage, settings.state_dir)
    fingerprint = teachers.fingerprint(settings.teacher, cache=settings.digest_cache)
    scores = LogitsStore(store, fingerprint, settings.logits_cache)
    with reporting("teacher-scores", "scoring sentences with the teacher") as report:
        done = logits.score(
            lambda: teachers.load_teacher(settings.teacher),
            scores,
            snapshot.sentences(),
            shard_sentences=settings.teacher.shard_sentences,
            progress=report,
        )
    if done.scored:
        say(
            f"scored {done.scored:,} sentences ({done.scored / max(done.seconds, 1e-9):,.0f} a second, "
            f"{done.padding_share:.0%} padding), {done.already:,} were there"
        )
    else:
        say(f"teacher scores of all {done.already:,} sentences were there")
    return done
