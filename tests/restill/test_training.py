import dataclasses
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from restill import training
from restill.corpus import Corpus, Pairs, Sentences
from restill.errors import CeilingReached, ConfigurationError, TrainingFailed
from restill.logits import PlattCalibration
from restill.losses import HARD, SOFT
from restill.settings import DistillationSettings, StudentSettings

STUDENT = StudentSettings(kind="siamese-lstm", embedding_size=8, hidden_size=8, max_tokens=6, dropout=0.0)
QUICK = STUDENT.model_copy(update={"kind": "static"})  # where it does not matter who learns


def pairs(number, *, labels="all", seed=0, offset=0):
    """Pairs of two-word sentences that are the same exactly when their first words are: ids, and the pairs."""
    generator = np.random.default_rng(seed)
    ids_a = np.zeros((number, 6), np.int32)
    ids_a[:, :2] = generator.integers(2, 12, size=(number, 2))
    ids_b = ids_a.copy()
    same = generator.random(number) < 0.5
    ids_b[:, 1] = generator.integers(2, 12, size=number)
    ids_b[~same, 0] = 2 + (ids_a[~same, 0] - 2 + generator.integers(1, 10, size=(~same).sum())) % 10
    values = same.astype(np.float32)
    if labels == "none":
        values[:] = np.nan
    elif labels == "one class":
        values[:] = 1.0
    elif labels == "some":
        values[::3] = np.nan
    scores = np.where(same, 0.9, 0.3).astype(np.float32)
    names = np.array([f"{row:032x}".encode() for row in range(number)])
    rows = np.arange(number, dtype=np.int32) + offset
    return np.concatenate([ids_a, ids_b]), Pairs(rows, rows + number, values, scores, names)


def corpus(*, vectors=True, train_pairs=600, **changes):
    """600 training and 200 validation pairs; the teacher's vector of a sentence says what its first word is."""
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", *"abcdefghij"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    train_ids, train = pairs(train_pairs, **changes)
    validation_ids, validation = pairs(200, seed=1, offset=len(train_ids), **changes)
    ids = np.concatenate([train_ids, validation_ids])
    stored = np.eye(12, dtype=np.float32)[ids[:, 0]] + 0.3
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    sentences = Sentences(ids, stored if vectors else None, np.arange(len(ids)))
    return Corpus(sentences, train, validation, tokenizer, PlattCalibration(10.0, 0.6))


def settings(**changes):
    return DistillationSettings(**({"epochs": 6, "batch_pairs": 50, "learning_rate": 0.02, "patience": 6} | changes))


def test_a_student_learns_what_labels_and_teacher_say(tmp_path):
    trained = training.distill(corpus(), STUDENT, settings(), tmp_path)
    assert trained.history[trained.best_epoch - 1].validation_score > 0.95
    assert trained.history[-1].train_loss < 0.5 * trained.history[0].train_loss


@pytest.mark.parametrize("labels", ["none", "one class"])
def test_pairs_without_labels_or_with_one_class_train(tmp_path, labels):
    trained = training.distill(corpus(labels=labels), QUICK, settings(epochs=2), tmp_path)
    assert all(np.isfinite(epoch.validation_loss) for epoch in trained.history)


@pytest.mark.parametrize(
    ("hard", "soft"), [*((hard, "mse") for hard in HARD), *(("bce", soft) for soft in SOFT if soft != "mse")]
)
def test_every_loss_trains(tmp_path, hard, soft):
    chosen = settings(epochs=3, hard_loss=hard, soft_losses={soft: 1.0}, temperature=1.0)
    trained = training.distill(corpus(), QUICK, chosen, tmp_path)
    assert trained.history[-1].train_loss < trained.history[0].train_loss


def test_losses_are_combined_by_weight(tmp_path):
    chosen = settings(epochs=3, soft_losses={"embedding": 1.0, "similarity-matrix": 5.0, "kd": 0.5})
    trained = training.distill(corpus(labels="some"), STUDENT, chosen, tmp_path)
    assert trained.history[-1].validation_score > 0.9


def test_a_loss_on_vectors_is_refused_with_a_cross_encoder(tmp_path):
    with pytest.raises(ConfigurationError, match="embedding"):
        training.distill(corpus(vectors=False), STUDENT, settings(soft_losses={"embedding": 1.0}), tmp_path)


def test_a_cross_encoder_teaches_by_its_logits(tmp_path):
    data = corpus(vectors=False, labels="some")
    for split in (data.train, data.validation):
        split.scores[:] = np.where(split.scores > 0.5, 4.0, -5.0)
    data = dataclasses.replace(data, teacher=PlattCalibration(1.0, 0.0))
    chosen = settings(soft_losses={"kd": 1.0, "mse": 1.0, "listwise": 0.1})
    assert training.distill(data, STUDENT, chosen, tmp_path).history[-1].validation_score > 0.95


def test_pseudo_labels_come_first_and_labels_second(tmp_path):
    chosen = settings(schedule="pseudo-label", epochs=3)
    trained = training.distill(corpus(labels="some"), QUICK, chosen, tmp_path)
    assert [epoch.phase for epoch in trained.history] == ["teacher"] * 3 + ["labels"] * 3
    assert trained.best_epoch > 3


def test_a_pruned_student_has_that_share_of_zeros_and_still_works(tmp_path):
    data, chosen = corpus(), settings(pruning=0.5)
    trained = training.distill(data, STUDENT, chosen, tmp_path / "run")
    pruned = training.prune(data, trained, STUDENT, chosen, tmp_path / "pruning")
    kernels = [variable.numpy() for variable in pruned.encoder.trainable_variables if len(variable.shape) > 1]
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels) / sum(kernel.size for kernel in kernels)
    assert zeros == pytest.approx(0.5, abs=0.05)
    assert pruned.history[pruned.best_epoch - 1].validation_score > 0.9
    assert pruned.history[pruned.best_epoch - 1].phase == "recover"


def test_training_stops_when_validation_no_longer_improves(tmp_path):
    trained = training.distill(corpus(), QUICK, settings(epochs=40, patience=2), tmp_path)
    assert len(trained.history) < 40
    assert len(trained.history) - trained.best_epoch == 2


def test_the_weights_returned_are_those_of_the_best_epoch(tmp_path):
    data = corpus()
    trained = training.distill(data, QUICK, settings(epochs=8, learning_rate=0.2), tmp_path)
    sides = np.concatenate([data.validation.a, data.validation.b])
    vectors = trained.encoder(data.sentences.ids[sides], training=False).numpy()
    cosines = (vectors[:200] * vectors[200:]).sum(axis=1)
    from sklearn.metrics import roc_auc_score

    best = max(epoch.validation_score for epoch in trained.history)
    others = [epoch.validation_score for epoch in trained.history if epoch.number != trained.best_epoch]
    # In one call and not in batches, so two cosines that are nearly equal may change places.
    found = roc_auc_score(data.validation.labels, cosines)
    assert found == pytest.approx(best, abs=2e-4)
    assert min(abs(found - other) for other in others) > 2e-4


def test_a_loss_that_is_not_finite_stops_with_step_and_pairs(tmp_path):
    data = corpus()
    data.train.scores[137] = np.nan
    with pytest.raises(TrainingFailed, match=r"not finite at epoch 1, step \d+ \(pairs 0{20}") as caught:
        training.distill(data, QUICK, settings(soft_losses={"kd": 1.0}), tmp_path)
    assert "none, it was the first epoch" in str(caught.value)


def test_a_run_killed_inside_an_epoch_goes_on_there_and_ends_like_an_undisturbed_one(tmp_path):
    code = "\n".join(
        [
            "import os, pathlib, runpy, signal",
            f"module = runpy.run_path({__file__!r})",
            "kill = lambda done, total, what: os.kill(os.getpid(), signal.SIGKILL) if done == 40 else None",
            "chosen = module['settings'](checkpoint_steps=3)",
            "module['training'].distill(module['corpus'](), module['STUDENT'], chosen, "
            f"pathlib.Path({str(tmp_path / 'killed')!r}), progress=kill)",
        ]
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]

    chosen, steps = settings(checkpoint_steps=3), []
    resumed = training.distill(
        corpus(), STUDENT, chosen, tmp_path / "killed", progress=lambda done, total, what: steps.append(done)
    )
    undisturbed = training.distill(corpus(), STUDENT, chosen, tmp_path / "whole")
    assert (resumed.resumed_at, steps[0]) == (3, 40)
    assert len(resumed.history) == len(undisturbed.history)
    assert resumed.history[-1].validation_score == pytest.approx(undisturbed.history[-1].validation_score, abs=0.003)
    assert resumed.history[-1].train_loss == pytest.approx(undisturbed.history[-1].train_loss, rel=0.02)


@pytest.mark.parametrize("step", [18, 24])  # inside an epoch of 12 steps, and after its last one
def test_a_run_stopped_at_its_ceiling_goes_on_after_that_step(tmp_path, step):
    chosen = settings(epochs=2)

    def stop(done, total, what):
        if done == step:
            raise CeilingReached("enough")

    with pytest.raises(CeilingReached):
        training.distill(corpus(), QUICK, chosen, tmp_path / "stopped", progress=stop)
    steps = []
    resumed = training.distill(
        corpus(), QUICK, chosen, tmp_path / "stopped", progress=lambda done, total, what: steps.append(done)
    )
    undisturbed = training.distill(corpus(), QUICK, chosen, tmp_path / "whole")
    assert steps == [*range(step + 1, 25), 1]  # the last is "done"
    assert len(resumed.history) == len(undisturbed.history)
    assert resumed.history[-1].train_loss == pytest.approx(undisturbed.history[-1].train_loss, rel=0.02)


def test_a_run_killed_while_fine_tuning_does_not_repeat_what_came_before(tmp_path):
    chosen = settings(schedule="pseudo-label", epochs=2)

    def stop(epoch):
        if epoch.phase == "labels":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.distill(corpus(), QUICK, chosen, tmp_path, after_epoch=stop)
    resumed = training.distill(corpus(), QUICK, chosen, tmp_path)
    assert resumed.resumed_at == 3
    assert [epoch.phase for epoch in resumed.history] == ["teacher"] * 2 + ["labels"] * 2
