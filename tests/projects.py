"""A small project with data and teacher scores, for tests of what comes after."""

from pathlib import Path

from factories import write_tiny_teacher

from restill import batches, logits, snapshots, teachers
from restill.logits import LogitsStore
from restill.settings import DistillationSettings, Settings, StudentSettings, TeacherSettings
from restill.snapshots import Snapshot
from restill.storage import ObjectStore

SMALL_STUDENT = StudentSettings(embedding_size=8, hidden_size=8, max_tokens=8)


def scored_project(
    root: Path, store: ObjectStore, *, teacher: TeacherSettings | None = None, unlabelled: int = 0
) -> tuple[Snapshot, LogitsStore, Settings]:
    """Ingest 400 labelled pairs (and some without a label), score them, and return what a training is given."""
    settings = Settings(
        root=root,
        teacher=teacher or TeacherSettings(path=write_tiny_teacher(root / "teacher")),
        student=SMALL_STUDENT,
        distillation=DistillationSettings(epochs=2),
    )
    file = root / "pairs.csv"
    rows = [f"turn lamp {n} on,switch on lamp {n + n % 2},{1 - n % 2}\n" for n in range(400)]
    rows += [f"play song {n} now,play the song {n},\n" for n in range(unlabelled)]
    file.write_text("text_a,text_b,label\n" + "".join(rows))
    outcome = batches.ingest_file(file, settings, store)
    assert outcome.outcome == "accepted", outcome.reasons
    snapshot = snapshots.current(root)
    assert snapshot is not None
    scores = logits.open_store(settings, store)
    logits.score(
        lambda: teachers.load_teacher(settings.teacher),
        scores,
        snapshot,
        shard_items=1024,
        progress=lambda done, total, what: None,
    )
    return snapshot, scores, settings
