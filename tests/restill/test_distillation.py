"""The whole library path on real pairs and real teachers: ingest, score, distil, evaluate."""

import csv
import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from factories import write_tiny_cross_encoder
from projects import scored_project

from restill import artifacts, batches, distillation, evaluation, logits, snapshots, teachers, training
from restill.measurements import accuracy
from restill.measurements.rows import read_rows
from restill.serving import PairModel
from restill.settings import DistillationSettings, Settings, StudentSettings, TeacherSettings

SHARED = Path(__file__).parents[3] / "shared"
PAIRS = 600


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
        # Few pieces beyond the corpus's own: a teacher reads each of them.
        student=StudentSettings(embedding_size=48, hidden_size=32, max_vocabulary=2500),
        distillation=DistillationSettings(epochs=5, batch_pairs=64, learning_rate=0.004),
    )
    outcome = batches.ingest_file(file, settings, store)
    assert outcome.outcome == "accepted", outcome.reasons
    snapshot = snapshots.current(tmp_path)
    scores = logits.open_store(settings, store)
    logits.score(
        lambda: teachers.load_teacher(teacher),
        scores,
        snapshot,
        shard_items=1024,
        progress=lambda done, total, what: None,
    )
    artifact = distillation.distill(snapshot, scores, settings)

    rows = read_rows(snapshot, "test")
    found = evaluation.score_rows(PairModel(artifact.folder), rows)
    assert accuracy.measure(found, rows).roc_auc > student_auc
    expected = evaluation.teacher_predictions(rows, scores, artifacts.teacher_calibration(artifact.folder))
    assert accuracy.measure(expected, rows).roc_auc > teacher_auc


@pytest.fixture
def scored(tmp_path, store):
    return scored_project(tmp_path, store)


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


def test_every_export_is_a_candidate_with_a_calibration_of_its_own(scored):
    snapshot, scores, settings = scored
    exports = ("litert_pruned_int8", "litert_int8", "litert", "litert_pruned")
    student = settings.student.model_copy(update={"exports": exports})
    artifact = distillation.distill(snapshot, scores, settings.model_copy(update={"student": student}))
    assert set(artifact.calibrations) == set(exports)
    rows = read_rows(snapshot, "test")
    probabilities = {}
    for path, role in artifact.files.items():
        if role in exports:
            model = PairModel(artifact.folder, file=path)
            assert model.calibration == artifact.calibrations[role]
            assert artifact.report["calibration"][role]["method"] in ("platt", "isotonic")
            probabilities[role] = evaluation.score_rows(model, rows).probabilities
    assert set(probabilities) == set(exports)
    assert not (probabilities["litert"] == probabilities["litert_pruned"]).all()


def test_a_cross_encoder_teaches_a_student(tmp_path, store):
    teacher = TeacherSettings(path=write_tiny_cross_encoder(tmp_path / "teacher"))
    snapshot, scores, settings = scored_project(tmp_path, store, teacher=teacher, unlabelled=50)
    assert scores.kind == "cross-encoder"
    artifact = distillation.distill(snapshot, scores, settings)
    rows = read_rows(snapshot, "test")
    calibration = artifacts.teacher_calibration(artifact.folder)
    assert np.isfinite(evaluation.teacher_predictions(rows, scores, calibration).probabilities).all()
    assert artifact.report["train_pairs"] > 250


def test_deterministic_training_gives_the_same_bytes_twice(scored):
    snapshot, scores, settings = scored
    chosen = settings.model_copy(update={"distillation": DistillationSettings(epochs=2, deterministic=True)})
    made = []
    for _ in range(2):
        artifact = distillation.distill(snapshot, scores, chosen, force=True)
        made.append(
            {
                path: (artifact.folder / path).read_bytes()
                for path in artifact.files
                if path.endswith((".tflite", "json"))
            }
        )
        made[-1].pop("training.json")  # it holds the seconds that each epoch took
    assert made[0] == made[1]


def test_mined_pairs_join_the_training(scored):
    snapshot, scores, settings = scored
    chosen = settings.model_copy(update={"distillation": DistillationSettings(epochs=1, mined_pairs=2)})
    report = distillation.distill(snapshot, scores, chosen).report
    assert report["mined_pairs"] > 300
