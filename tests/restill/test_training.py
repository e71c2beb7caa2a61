import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from restill import training
from restill.corpus import Corpus, Split
from restill.errors import TrainingFailed
from restill.logits import PlattCalibration
from restill.settings import DistillationSettings, StudentSettings

STUDENT = StudentSettings(embedding_size=8, hidden_size=8, max_tokens=6, dropout=0.0)


def split(pairs, *, labels="all", seed=0):
    """Pairs of two-word sentences that are the same exactly when their first words are."""
    generator = np.random.default_rng(seed)
    ids_a = np.zeros((pairs, 6), np.int32)
    ids_a[:, :2] = generator.integers(2, 12, size=(pairs, 2))
    ids_b = ids_a.copy()
    same = generator.random(pairs) < 0.5
    ids_b[:, 1] = generator.integers(2, 12, size=pairs)
    ids_b[~same, 0] = 2 + (ids_a[~same, 0] - 2 + generator.integers(1, 10, size=(~same).sum())) % 10
    values = same.astype(np.float32)
    if labels == "none":
        values[:] = np.nan
    elif labels == "one class":
        values[:] = 1.0
    teacher = np.where(same, 0.9, 0.3).astype(np.float32)
    names = np.array([f"{number:032x}".encode() for number in range(pairs)])
    return Split(ids_a, ids_b, values, teacher, names)


def corpus(**changes):
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", *"abcdefghij"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    return Corpus(split(600, **changes), split(200, seed=1, **changes), tokenizer, PlattCalibration(10.0, 0.6))


def settings(**changes):
    return DistillationSettings(**({"epochs": 6, "batch_pairs": 50, "learning_rate": 0.02, "patience": 6} | changes))


def test_a_student_learns_what_labels_and_teacher_say(tmp_path):
    trained = training.distill(corpus(), STUDENT, settings(), tmp_path)
    assert trained.history[trained.best_epoch - 1].validation_score > 0.95
    assert trained.history[-1].train_loss < 0.5 * trained.history[0].train_loss


@pytest.mark.parametrize("labels", ["none", "one class"])
def test_pairs_without_labels_or_with_one_class_train(tmp_path, labels):
    trained = training.distill(corpus(labels=labels), STUDENT, settings(epochs=2), tmp_path)
    assert all(np.isfinite(epoch.validation_loss) for epoch in trained.history)


@pytest.mark.parametrize(("hard", "soft"), [("contrastive", "mse"), ("contrastive", "kd"), ("bce", "mse")])
def test_every_combination_of_losses_trains(tmp_path, hard, soft):
    chosen = settings(epochs=3, hard_loss=hard, soft_loss=soft, temperature=1.0)
    trained = training.distill(corpus(), STUDENT, chosen, tmp_path)
    assert trained.history[-1].train_loss < trained.history[0].train_loss


def test_training_stops_when_validation_no_longer_improves(tmp_path):
    trained = training.distill(corpus(), STUDENT, settings(epochs=40, patience=2), tmp_path)
    assert len(trained.history) < 40
    assert len(trained.history) - trained.best_epoch == 2


def test_the_weights_returned_are_those_of_the_best_epoch(tmp_path):
    data = corpus()
    trained = training.distill(data, STUDENT, settings(epochs=8, learning_rate=0.2), tmp_path)
    vectors = trained.encoder(np.concatenate([data.validation.ids_a, data.validation.ids_b]), training=False).numpy()
    cosines = (vectors[:200] * vectors[200:]).sum(axis=1)
    from sklearn.metrics import roc_auc_score

    best = max(epoch.validation_score for epoch in trained.history)
    assert roc_auc_score(data.validation.labels, cosines) == pytest.approx(best, abs=1e-6)


def test_a_loss_that_is_not_finite_stops_with_step_and_pairs(tmp_path):
    data = corpus()
    data.train.teacher_cosines[137] = np.nan
    with pytest.raises(TrainingFailed, match=r"not finite at epoch 1, step \d+ \(pairs 0{20}") as caught:
        training.distill(data, STUDENT, settings(), tmp_path)
    assert "none, it was the first epoch" in str(caught.value)


def test_a_killed_run_goes_on_and_ends_like_an_undisturbed_one(tmp_path):
    code = "\n".join(
        [
            "import os, pathlib, runpy, signal",
            f"module = runpy.run_path({__file__!r})",
            "kill = lambda done, total, what: os.kill(os.getpid(), signal.SIGKILL) if done == 40 else None",
            "module['training'].distill(module['corpus'](), module['STUDENT'], module['settings'](), "
            f"pathlib.Path({str(tmp_path / 'killed')!r}), progress=kill)",
        ]
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]

    resumed = training.distill(corpus(), STUDENT, settings(), tmp_path / "killed")
    undisturbed = training.distill(corpus(), STUDENT, settings(), tmp_path / "whole")
    assert resumed.resumed_at == 3
    assert len(resumed.history) == len(undisturbed.history)
    assert resumed.history[-1].validation_score == pytest.approx(undisturbed.history[-1].validation_score, abs=0.003)
    assert resumed.history[-1].train_loss == pytest.approx(undisturbed.history[-1].train_loss, rel=0.02)
