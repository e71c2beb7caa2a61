"""Students that are bad in one way, trained and exported for real: the gate that names the cause refuses each."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
import tensorflow as tf
from factories import write_tiny_teacher
from project_folder import drop_rows

from restill import artifacts, batches, distillation, evaluation, gates, lineage, logits, snapshots, teachers
from restill.evaluation import Candidate
from restill.gates import Answer
from restill.registry import Registry
from restill.settings import (
    DistillationSettings,
    GateSettings,
    LatencySettings,
    Settings,
    StudentSettings,
    TeacherSettings,
)
from restill.storage import ObjectStore
from restill.students import exports, parity

# A small test split: wide margins, so that a student is judged by its fault and not by chance.
LIMITS = GateSettings(
    resamples=2000,
    min_accuracy=0.6,
    min_f1=0.5,
    min_roc_auc=0.6,
    min_teacher_retention=0.5,
    max_accuracy_loss=0.08,
    max_slice_loss=0.12,
    min_slice_pairs=100,
    max_calibration_error=0.15,
    max_changed_decisions=0.3,
    max_p99_latency_ms=1000,
    max_latency_ratio=1.5,
    max_disturbance=50,
)


class Bench:
    """One data set, one champion, and challengers that are measured against it."""

    def __init__(self, root, server_connection):
        store = ObjectStore(replace(server_connection, prefix="bad-students"))
        self.settings = Settings(
            root=root,
            teacher=TeacherSettings(path=write_tiny_teacher(root / "teacher")),
            student=StudentSettings(embedding_size=24, hidden_size=16, exports=("litert",)),
            distillation=DistillationSettings(epochs=4, batch_pairs=64, learning_rate=0.01),
            latency=LatencySettings(requests=700),
            gates=LIMITS,
        )
        path = root / "pairs.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(drop_rows("1")[:3001])
        assert batches.ingest_file(path, self.settings, store).outcome == "accepted"
        self.snapshot = snapshots.current(root)
        self.scores = logits.open_store(self.settings, store)
        logits.score(
            lambda: teachers.load_teacher(self.settings.teacher),
            self.scores,
            self.snapshot,
            shard_items=2048,
            progress=lambda *_: None,
        )
        self.registry = Registry(store, "default")
        self.artifact = distillation.distill(self.snapshot, self.scores, self.settings)
        self.champion = self.register(self.artifact)
        self.timed = None

    def train(self, **changes):
        """Train another student; changes are of `student` or `distillation`."""
        parts = {
            name: getattr(self.settings, name).model_copy(update=changes.get(name, {}))
            for name in ("student", "distillation")
        }
        return distillation.distill(self.snapshot, self.scores, self.settings.model_copy(update=parts))

    def altered(self, folder):
        """Return a copy of the good artifact, to be damaged."""
        shutil.copytree(self.artifact.folder, folder)
        return replace(self.artifact, folder=folder)

    def register(self, artifact):
        """Register an artifact and return it as downloaded."""
        manifest = lineage.register(
            self.registry, artifact, self.snapshot, self.settings, export="litert", champion=None, flow_run_id=None
        )
        return Candidate(manifest, self.registry.fetch(manifest, self.settings.state_dir / "cache"))

    def answers(self, artifact, *, timed=False):
        """Return each gate's row. Latency is taken anew only where it is what the test is about."""
        challenger = self.register(artifact)
        if self.timed is None and not timed:
            rows = evaluation.read_rows(self.snapshot, "test")
            self.timed = evaluation.time_artifacts(self.champion, self.champion, rows, self.settings)
        measured = evaluation.evaluate(
            challenger,
            self.champion,
            self.snapshot,
            self.scores,
            artifacts.teacher_calibration(challenger.folder),
            self.settings,
            time=evaluation.time_artifacts if timed else lambda *_, **__: self.timed,
        )
        return {row.gate: row for row in gates.judge(measured.measurements, LIMITS).rows}


@pytest.fixture(scope="module")
def bench(tmp_path_factory, server_connection):
    return Bench(tmp_path_factory.mktemp("bench"), server_connection)


def refused_by(rows):
    return {gate for gate, row in rows.items() if row.answer is Answer.FAIL}


def test_another_seed_of_the_good_student_is_refused_by_nothing_but_chance(bench):
    rows = bench.answers(bench.train(distillation={"seed": 8}))
    assert refused_by(rows) == set()
    assert rows["symmetry"].answer is Answer.PASS


def test_a_worse_student_is_refused_for_its_accuracy(bench):
    rows = bench.answers(
        bench.train(distillation={"epochs": 1, "learning_rate": 1e-6}, student={"embeddings": "random"})
    )
    assert "champion_non_inferiority" in refused_by(rows)


def test_a_slower_student_is_refused_for_its_latency(bench):
    artifact = bench.train(distillation={"epochs": 1}, student={"kind": "siamese-lstm", "hidden_size": 160})
    # A machine that is disturbed decides nothing, and the gate then measures again: it must never pass.
    for _ in range(LIMITS.attempts):
        rows = bench.answers(artifact, timed=True)
        assert rows["p50_ratio"].answer is not Answer.PASS
        if rows["p50_ratio"].answer is Answer.FAIL:
            return
    pytest.fail(f"undecided {LIMITS.attempts} times: {rows['p50_ratio'].sentence}")


def test_a_miscalibrated_student_is_refused_for_its_probabilities(bench, tmp_path):
    artifact = bench.altered(tmp_path / "artifact")
    card = json.loads((artifact.folder / "student.json").read_text())
    (file,) = card["calibrations"]
    card["calibrations"][file] |= {"scale": 0.5, "knots": []}  # everything is about as likely as not
    (artifact.folder / "student.json").write_text(json.dumps(card))
    wrong = artifact.calibrations["litert"].model_copy(update={"scale": 0.5, "knots": ()})
    rows = bench.answers(replace(artifact, calibrations={"litert": wrong}))
    assert "calibration" in refused_by(rows)


def test_a_student_that_is_blind_in_one_language_is_refused_for_that_slice(bench, tmp_path):
    artifact = bench.altered(tmp_path / "artifact")
    path = artifact.folder / "tokenizer.json"
    document = json.loads(path.read_text("utf-8"))
    pieces = document["model"]["vocab"]
    document["model"]["vocab"] = {
        f"lost {identity}" if any("\u4e00" <= sign <= "\u9fff" for sign in piece) else piece: identity
        for piece, identity in pieces.items()
    }
    path.write_text(json.dumps(document), "utf-8")
    rows = bench.answers(artifact)
    assert "slices" in refused_by(rows)
    assert "language=zh" in rows["slices"].sentence
    assert "language=en" not in rows["slices"].sentence


def test_an_asymmetric_student_is_refused_for_it(bench, monkeypatch):
    """Its second row is turned: whoever calls the file itself gets another answer for (a, b) than for (b, a)."""
    plain = exports.serving_form

    def turning(encoder, *, int8):
        encode = plain(encoder, int8=int8)

        def form(ids):
            vectors = encode(ids)
            turned = tf.concat([vectors[1:, 1:], vectors[1:, :1]], axis=-1)
            return tf.concat([vectors[:1], turned], axis=0)

        return form

    with monkeypatch.context() as patch:
        patch.setattr(exports, "serving_form", turning)
        patch.setattr(parity, "hold_litert", lambda *_, **__: None)  # which would refuse it before it is registered
        artifact = bench.train(distillation={"seed": 9, "epochs": 1})
    rows = bench.answers(artifact)
    assert "symmetry" in refused_by(rows)
