"""The whole library path on real pairs and real teachers: ingest, score, distil, evaluate."""

import csv
import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from factories import write_tiny_teacher

from restill import batches, distillation, evaluation, logits, snapshots, teachers, training
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


@pytest.fixture
def scored(tmp_path, store):
    """A small data set with the scores of a tiny teacher, and the settings for a very small student."""
    settings = Settings(
        root=tmp_path,
        teacher=TeacherSettings(path=write_tiny_teacher(tmp_path / "teacher")),
        student=StudentSettings(embedding_size=8, hidden_size=8, max_tokens=8),
        distillation=DistillationSettings(epochs=2),
    )
    file = tmp_path / "pairs.csv"
    rows = "".join(f"turn lamp {n} on,switch on lamp {n + n % 2},{1 - n % 2}\n" for n in range(400))
    file.write_text("text_a,text_b,label\n" + rows)
    assert batches.ingest_file(file, settings, store).outcome == "accepted"
    snapshot = snapshots.current(tmp_path)
    scores = LogitsStore(store, teachers.fingerprint(settings.teacher), settings.logits_cache)
    teacher = teachers.load_teacher(settings.teacher)
    sentences = list(dict.fromkeys(snapshot.sentences()))
    scores.add(sentences, teacher.encode(sentences))
    return snapshot, scores, settings


def test_two_runs_at_once_train_one_student(scored, monkeypatch):
    snapshot, scores, settings = scored
    original, calls = training.distill, []
    monkeypatch.setattr(training, "distill", lambda *args, **named: calls.append(1) or original(*args, **named))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: distillation.distill(snapshot, scores, settings), range(2))
    assert len(calls) == 1
    assert first == second


def test_an_artifact_is_not_trained_again_unless_forced(scored, monkeypatch):
    snapshot, scores, settings = scored
    first = distillation.distill(snapshot, scores, settings)
    with monkeypatch.context() as patch:
        patch.setattr(training, "distill", lambda *_, **__: pytest.fail("trained again"))
        assert distillation.distill(snapshot, scores, settings) == first
    forced = distillation.distill(snapshot, scores, settings, force=True)
    assert forced.training_key == first.training_key
    other = settings.model_copy(update={"distillation": DistillationSettings(epochs=2, alpha=0.9)})
    assert distillation.distill(snapshot, scores, other).training_key != first.training_key
