"""A shallow BERT from its teacher: data and teacher in, inputs, schedule `theseus`. Its export is test_bert's."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from factories import write_tiny_cross_encoder, write_tiny_teacher

from restill import batches, inputs, logits, snapshots, students, teachers, training
from restill.errors import ConfigurationError
from restill.settings import DistillationSettings, Settings, StudentSettings, TeacherSettings
from restill.students import bert

STUDENT = {"kind": "bert", "layers": 3, "max_tokens": 16, "dropout": 0.0}
LEARNING = {"schedule": "theseus", "epochs": 1, "batch_pairs": 64, "learning_rate": 1e-3}


def configured(root, *, teacher=None, student=None, learning=None):
    return Settings(
        root=root,
        teacher=teacher or TeacherSettings(path=root / "teacher", prompt="find the: "),
        student=StudentSettings(**STUDENT | (student or {})),
        distillation=DistillationSettings(**LEARNING | (learning or {})),
    )


@pytest.fixture
def scored(tmp_path, store):
    """A small data set, scored by a tiny teacher of six layers that reads a prompt."""
    write_tiny_teacher(tmp_path / "teacher", layers=6)
    settings = configured(tmp_path)
    file = tmp_path / "pairs.csv"
    rooms = ["kitchen", "room", "house", "door", "window"]
    rows = [
        f"turn on the {rooms[n % 5]} lamp {n},switch the {rooms[(n + n % 2) % 5]} lights on {n},{1 - n % 2}\n"
        for n in range(240)
    ]
    file.write_text("text_a,text_b,label\n" + "".join(rows))
    assert batches.ingest_file(file, settings, store).outcome == "accepted"
    snapshot = snapshots.current(tmp_path)
    scores = logits.open_store(settings, store)
    logits.score(
        lambda: teachers.load_teacher(settings.teacher), scores, snapshot, shard_items=1024, progress=lambda *_: None
    )
    return snapshot, scores, settings


def test_a_successor_is_made_and_trained(scored, tmp_path, monkeypatch):
    snapshot, scores, settings = scored
    made = inputs.prepare(snapshot, scores, settings, tmp_path / "inputs")
    sentences, train = made.corpus.sentences, made.corpus.train
    assert made.embeddings is None

    # With nothing replaced the student says what the teacher said of the text: ids, prompt and all are right.
    untrained = students.build(made.corpus.tokenizer.get_vocab_size(), settings.student, None, made.predecessor)
    bert.replacement(untrained).draw(0.0, np.random.default_rng(0))
    rows = np.unique(np.concatenate([train.a, train.b]))
    vectors = untrained(np.asarray(sentences.ids[rows]), training=True).numpy()
    assert vectors == pytest.approx(sentences.teacher_vectors(rows), abs=1e-4)

    probabilities, teacher_weights = [], []
    draw = bert.Replacement.draw

    def watched(self, probability, generator):
        if not probabilities:
            variables = [variable for group in self.groups for layer in group for variable in layer.variables]
            teacher_weights.extend((variable, variable.numpy()) for variable in variables)
        probabilities.append(probability)
        draw(self, probability, generator)

    monkeypatch.setattr(bert.Replacement, "draw", watched)
    trained = training.distill(
        made.corpus, settings.student, settings.distillation, tmp_path / "run", predecessor=made.predecessor
    )
    phases = [epoch.phase for epoch in trained.history]
    replacing = probabilities[: len(probabilities) // 2]
    assert phases == ["replace", "alone"]
    assert 0.5 < replacing[0] < 0.75
    assert replacing == sorted(replacing)
    assert replacing[-1] == 1.0
    assert set(probabilities[len(replacing) :]) == {1.0}
    assert len(teacher_weights) == 6 * 12
    assert all(np.array_equal(variable.numpy(), before) for variable, before in teacher_weights)
    assert trained.history[-1].train_loss < trained.history[0].train_loss


def test_a_bert_is_fine_tuned_without_its_teacher_too(scored, tmp_path):
    snapshot, scores, settings = scored
    settings = configured(Path(settings.root), learning={"schedule": "joint", "epochs": 1})
    made = inputs.prepare(snapshot, scores, settings, tmp_path / "inputs")
    trained = training.distill(
        made.corpus, settings.student, settings.distillation, tmp_path / "run", predecessor=made.predecessor
    )
    assert bert.replacement(trained.encoder) is None
    assert [epoch.phase for epoch in trained.history] == ["joint"]
    with pytest.raises(ConfigurationError, match="theseus replaces a teacher's layers"):
        training.distill(
            made.corpus,
            settings.student,
            settings.distillation.model_copy(update={"schedule": "theseus"}),
            tmp_path / "other",
            predecessor=dataclasses.replace(made.predecessor, is_replaced=False),
        )


@pytest.mark.parametrize(
    ("write", "student", "message"),
    [
        (write_tiny_teacher, {"kind": "siamese-lstm"}, "theseus makes a shallow BERT"),
        (write_tiny_teacher, {"layers": 3}, "only 2 layers"),
        (write_tiny_cross_encoder, {"layers": 2}, "made from a bi-encoder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(tmp_path, write, student, message):
    write(tmp_path / "teacher", layers=2)
    with pytest.raises(ConfigurationError, match=message):
        inputs.prepare(None, None, configured(tmp_path, student=student), tmp_path / "inputs")
