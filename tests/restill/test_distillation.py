"""The whole library path on real pairs and real teachers: ingest, score, distil, evaluate."""

import csv
import gzip
from pathlib import Path

import pytest

from restill import batches, distillation, evaluation, logits, snapshots, teachers
from restill.logits import LogitsStore
from restill.measurements import accuracy
from restill.serving import PairModel
from restill.settings import DistillationSettings, Settings, StudentSettings, TeacherSettings

SHARED = Path(__file__).parents[3] / "shared"
PAIRS = 2500


@pytest.mark.parametrize(
    ("data", "teacher", "teacher_auc", "student_auc"),
    [
        ("zh/lcqmc_dev", TeacherSettings(path=SHARED / "teachers" / "zh-e5-small", prompt="query: "), 0.85, 0.65),
        ("en/qqp_dev", TeacherSettings(), 0.80, 0.60),
    ],
    ids=["lcqmc-zh-e5", "qqp-minilm"],
)
def test_a_student_learns_from_a_real_teacher(tmp_path, store, data, teacher, teacher_auc, student_auc):
    source = SHARED / "data" / f"{data}.csv.gz"
    if not source.is_file():
        pytest.skip(f"{source} is not there: real data sets are not part of the project")
    file = tmp_path / "pairs.csv"
    with (
        gzip.open(source, "rt", encoding="utf-8", newline="") as rows,
        file.open("w", encoding="utf-8", newline="") as kept,
    ):
        writer = csv.writer(kept)
        for number, row in enumerate(csv.reader(rows)):
            if number <= PAIRS:
                writer.writerow(row)
    settings = Settings(
        root=tmp_path,
        teacher=teacher,
        student=StudentSettings(embedding_size=48, hidden_size=32),
        distillation=DistillationSettings(epochs=5, batch_pairs=64, learning_rate=0.004),
    )
    outcome = batches.ingest_file(file, settings, store)
    assert outcome.outcome == "accepted", outcome.reasons
    snapshot = snapshots.current(tmp_path)
    scores = LogitsStore(store, teachers.fingerprint(teacher), settings.logits_cache)
    logits.score(
        lambda: teachers.load_teacher(teacher),
        scores,
        snapshot.sentences(),
        shard_sentences=1024,
        progress=lambda done, total, what: None,
    )
    artifact = distillation.distill(snapshot, scores, settings)

    rows = accuracy.read_rows(snapshot, "test")
    found = evaluation.score_rows(PairModel(artifact.folder), rows)
    assert accuracy.measure(found, rows.labels).roc_auc > student_auc
    expected = evaluation.teacher_predictions(rows, scores, distillation.teacher_calibration(artifact.folder))
    assert accuracy.measure(expected, rows.labels).roc_auc > teacher_auc
