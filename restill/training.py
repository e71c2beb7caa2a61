"""The distillation loop: the `joint` schedule, checkpoints after every epoch, early stopping on validation."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from restill import losses, students
from restill.corpus import Corpus, Split
from restill.errors import TrainingFailed
from restill.files import write_whole
from restill.settings import DistillationSettings, StudentSettings

Progress = Callable[[int, int, str], None]  # done, total, what

_STEP_WIDTH = 8  # batches are padded to a multiple of this many tokens, so that few shapes are traced


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training split gave."""

    number: int
    train_loss: float  # mean joint loss a pair
    validation_loss: float
    validation_score: float  # ROC-AUC, or minus the loss where validation has one class only
    seconds: float


@dataclass(frozen=True)
class TrainedStudent:
    """An encoder with the weights of its best epoch, and how it got there."""

    encoder: keras.Model
    history: tuple[Epoch, ...]
    best_epoch: int
    resumed_at: int  # epochs that an earlier, interrupted run had done


class _Learner(tf.Module):
    """The encoder with the scale and bias that turn its cosine into the logit z = (c - bias)·scale."""

    def __init__(self, encoder: keras.Model, settings: DistillationSettings, teacher_scale: float, teacher_bias: float):
        super().__init__()
        self.encoder = encoder
        self.log_scale = tf.Variable(math.log(8.0), name="log_scale")  # a log keeps the scale positive
        self.bias = tf.Variable(0.5, name="bias")
        self._settings = settings
        self._teacher = (teacher_scale, teacher_bias)

    @property
    def weights(self) -> list[tf.Variable]:
        return [*self.encoder.trainable_variables, self.log_scale, self.bias]

    def pair_losses(
        self, ids: tf.Tensor, labels: tf.Tensor, teacher_cosines: tf.Tensor, *, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return joint loss ``[batch]`` and cosine ``[batch]`` for ids ``[2·batch, steps]``, side a above side b."""
        vectors = self.encoder(ids, training=training)
        left, right = tf.split(vectors, 2)
        cosines = tf.reduce_sum(left * right, axis=-1)
        logits = (cosines - self.bias) * tf.exp(self.log_scale)
        labelled = tf.logical_not(tf.math.is_nan(labels))
        known = tf.where(labelled, labels, tf.zeros_like(labels))
        chosen = self._settings
        hard = losses.bce(known, logits) if chosen.hard_loss == "bce" else losses.contrastive(known, cosines)
        if chosen.soft_loss == "kd":
            scale, bias = self._teacher
            soft = losses.kd(logits, (teacher_cosines - bias) * scale, temperature=chosen.temperature)
        else:
            soft = losses.mse(cosines, teacher_cosines, temperature=chosen.temperature)
        return losses.joint(hard, soft, labelled, alpha=chosen.alpha), cosines


def distill(
    corpus: Corpus,
    student: StudentSettings,
    settings: DistillationSettings,
    folder: Path,
    *,
    progress: Progress = lambda done, total, what: None,
) -> TrainedStudent:
    """Train one student; a run that was killed goes on after its last whole epoch.

    Args:
        corpus: prepared data.
        student: architecture.
        settings: losses, schedule, seed.
        folder: checkpoints of this run; named by everything the run depends on.
        progress: told after every step.
    Raises: TrainingFailed on a loss that is not finite, with step, pair ids and the last good checkpoint.
    """
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    encoder = students.build(corpus.tokenizer.get_vocab_size(), student)
    learner = _Learner(encoder, settings, corpus.teacher.scale, corpus.teacher.bias)
    optimizer = keras.optimizers.Adam(settings.learning_rate, clipnorm=1.0)
    optimizer.build(learner.weights)
    run = _Run(learner, optimizer, folder)
    history = run.restore()
    resumed_at = len(history)
    steps = math.ceil(len(corpus.train) / settings.batch_pairs)
    train_step, validate_step = _compiled(learner, optimizer)

    for number in range(resumed_at + 1, settings.epochs + 1):
        best = max(history, key=lambda epoch: epoch.validation_score, default=None)
        if best is not None and number - 1 - best.number >= settings.patience:
            break
        started = time.monotonic()
        # Seeded by the epoch, so that a resumed run sees the order and the dropout it would have seen.
        keras.utils.set_random_seed(settings.seed + number)
        order = np.random.default_rng([settings.seed, number]).permutation(len(corpus.train))
        total = 0.0
        for step, (rows, ids, labels, cosines) in enumerate(_batches(corpus.train, order, settings.batch_pairs), 1):
            loss = float(train_step(ids, labels, cosines))
            if not math.isfinite(loss):
                _stop_not_finite(corpus.train, rows, number, step, run.last_checkpoint)
            total += loss * len(rows)
            progress((number - 1) * steps + step, settings.epochs * steps, f"epoch {number}, loss {loss:.4f}")
        validation_loss, score = _validate(corpus.validation, validate_step, settings.batch_pairs)
        epoch = Epoch(number, total / len(corpus.train), validation_loss, score, time.monotonic() - started)
        history.append(epoch)
        if epoch is max(history, key=lambda past: past.validation_score):
            run.save_best(number)
        run.save(history)
        run.drop_beaten(history)
    best_epoch = max(history, key=lambda past: past.validation_score).number
    run.load_best(best_epoch)
    progress(settings.epochs * steps, settings.epochs * steps, "done")
    return TrainedStudent(encoder, tuple(history), best_epoch, resumed_at)


def _compiled(
    learner: _Learner, optimizer: keras.optimizers.Optimizer
) -> tuple[Callable[..., tf.Tensor], Callable[..., tuple[tf.Tensor, tf.Tensor]]]:
    signature = [
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None], tf.float32),
        tf.TensorSpec([None], tf.float32),
    ]

    @tf.function(input_signature=signature)
    def train_step(ids: tf.Tensor, labels: tf.Tensor, cosines: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            values, _ = learner.pair_losses(ids, labels, cosines, training=True)
            loss = tf.reduce_mean(values)
        optimizer.apply_gradients(zip(tape.gradient(loss, learner.weights), learner.weights, strict=True))
        return loss

    @tf.function(input_signature=signature)
    def validate_step(ids: tf.Tensor, labels: tf.Tensor, cosines: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values, student_cosines = learner.pair_losses(ids, labels, cosines, training=False)
        return tf.reduce_sum(values), student_cosines

    return train_step, validate_step


def _batches(
    split: Split, order: NDArray[np.int64], size: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]]:
    """Yield row numbers, ids ``[2·batch, steps]``, labels and teacher cosines, padded to the longest of the batch."""
    for start in range(0, len(order), size):
        rows = np.sort(order[start : start + size])  # sorted: a memory-mapped file is read forwards
        ids = np.concatenate([split.ids_a[rows], split.ids_b[rows]])
        longest = max(1, int((ids != 0).sum(axis=1).max()))
        width = min(math.ceil(longest / _STEP_WIDTH) * _STEP_WIDTH, ids.shape[1])
        yield rows, np.ascontiguousarray(ids[:, :width]), split.labels[rows], split.teacher_cosines[rows]


def _validate(split: Split, step: Callable[..., tuple[tf.Tensor, tf.Tensor]], size: int) -> tuple[float, float]:
    """Return the mean loss and the score of the validation split."""
    total = 0.0
    cosines = np.empty(len(split), np.float32)
    for rows, ids, labels, teacher in _batches(split, np.arange(len(split)), size):
        loss, found = step(ids, labels, teacher)
        total += float(loss)
        cosines[rows] = found.numpy()
    mean = total / len(split)
    labelled = ~np.isnan(split.labels)
    positive = split.labels[labelled] >= 0.5
    both = positive.any() and not positive.all()
    return mean, float(roc_auc_score(positive, cosines[labelled])) if both else -mean


def _stop_not_finite(split: Split, rows: NDArray[np.int64], epoch: int, step: int, checkpoint: str | None) -> None:
    pairs = b", ".join(split.pair_ids[rows[:5]]).decode()
    raise TrainingFailed(
        f"The loss is not finite at epoch {epoch}, step {step} (pairs {pairs}, … {len(rows)} in the batch). "
        f"Last good checkpoint: {checkpoint or 'none, it was the first epoch'}.",
        hint="Lower distillation.learning_rate, or look at those pairs in data/pairs.",
    )


class _Run:
    """Checkpoints of one run: what an interrupted run goes on from, and the weights of the best epoch."""

    def __init__(self, learner: _Learner, optimizer: keras.optimizers.Optimizer, folder: Path) -> None:
        self._learner = learner
        self._folder = folder
        self._epochs = tf.Variable(0, dtype=tf.int64)
        checkpoint = tf.train.Checkpoint(weights=learner.weights, optimizer=optimizer.variables, epochs=self._epochs)
        self._manager = tf.train.CheckpointManager(checkpoint, str(folder / "checkpoints"), max_to_keep=2)
        self._checkpoint = checkpoint

    @property
    def last_checkpoint(self) -> str | None:
        latest: str | None = self._manager.latest_checkpoint
        return latest

    def restore(self) -> list[Epoch]:
        """Return the epochs already done, their state restored; none if there is no usable checkpoint."""
        if self.last_checkpoint is None:
            return []
        self._checkpoint.restore(self.last_checkpoint).assert_existing_objects_matched()
        records = json.loads((self._folder / "history.json").read_text("utf-8"))
        return [Epoch(**record) for record in records][: int(self._epochs.numpy())]

    def save(self, history: list[Epoch]) -> None:
        """Keep the state after an epoch: history first, then the checkpoint that says how much of it counts."""
        write_whole(self._folder / "history.json", json.dumps([asdict(epoch) for epoch in history]).encode())
        self._epochs.assign(len(history))
        self._manager.save(checkpoint_number=len(history))

    def save_best(self, number: int) -> None:
        """Keep the encoder weights of an epoch that is the best so far."""
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / ".best.partial.weights.h5"
        self._learner.encoder.save_weights(partial, overwrite=True)
        os.replace(partial, self._best(number))

    def drop_beaten(self, history: list[Epoch]) -> None:
        """Delete weights of epochs that are no longer the best; only once the history that says so is kept."""
        best = max(history, key=lambda epoch: epoch.validation_score).number
        for beaten in set(self._folder.glob("best-*.weights.h5")) - {self._best(best)}:
            beaten.unlink()

    def load_best(self, number: int) -> None:
        """Put the weights of the best epoch back into the encoder."""
        self._learner.encoder.load_weights(self._best(number))

    def _best(self, number: int) -> Path:
        return self._folder / f"best-{number:04d}.weights.h5"
