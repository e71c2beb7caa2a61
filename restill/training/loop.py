"""Train one student: every phase in turn, from the last checkpoint on."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from restill import students
from restill.corpus import Corpus, Pairs, Sentences
from restill.errors import CeilingReached, ConfigurationError, TrainingFailed
from restill.losses import SOFT
from restill.settings import DistillationSettings, StudentSettings
from restill.students import Predecessor, bert
from restill.students.pruning import Pruner
from restill.training import checkpoints
from restill.training.checkpoints import Checkpoints, Epoch
from restill.training.learner import Learner
from restill.training.phases import SCHEDULES, Phase, pruning_phases

Progress = Callable[[int, int, str], None]  # done, total, what

STEP_WIDTH = 8  # batches are padded to a multiple of this many tokens, so that few shapes are traced
WARMUP_SHARE = 0.05  # of a phase's steps
PRUNING_STEPS = 20  # between two looks at which weights are the smallest
FIRST_REPLACED = 0.5  # probability that a teacher's module is replaced in the first step of `theseus`; in the last 1


@dataclass(frozen=True)
class TrainedStudent:
    """An encoder with the weights of its best epoch, and how it got there."""

    learner: Learner
    history: tuple[Epoch, ...]
    best_epoch: int
    resumed_at: int  # epochs that an earlier, interrupted run had done

    @property
    def encoder(self) -> Any:
        """Return what is exported."""
        return self.learner.encoder

    @property
    def parameters(self) -> int:
        """Return the number of trained values that are exported."""
        return sum(int(np.prod(variable.shape)) for variable in self.encoder.trainable_variables)


@dataclass(frozen=True)
class Batch:
    """What one step reads."""

    pairs: NDArray[np.int64]  # [batch], rows of Pairs
    ids: NDArray[np.int32]  # [2·batch, steps], side a above side b
    labels: NDArray[np.float32]  # [batch]
    scores: NDArray[np.float32]  # [batch]
    teacher: NDArray[np.float32]  # [2·batch, dimension], centred, unit length


def distill(
    corpus: Corpus,
    student: StudentSettings,
    settings: DistillationSettings,
    folder: Path,
    *,
    embeddings: NDArray[np.float32] | None = None,
    predecessor: Predecessor | None = None,
    progress: Progress = lambda done, total, what: None,
    after_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> TrainedStudent:
    """Train one student; a run that was killed goes on from its last checkpoint.

    Args:
        corpus: prepared data.
        student: architecture.
        settings: losses, schedule, seed.
        folder: checkpoints of this run; named by everything the run depends on.
        embeddings: what the token embeddings start from, ``[vocabulary, embedding_size]``; None: random.
        predecessor: what a `bert` student is made from; with the schedule `theseus`, one that is replaced.
        progress: told after every step; if it raises CeilingReached, that step is kept.
        after_epoch: told after every epoch; what it raises ends the training, and can be gone on from.
    Raises: TrainingFailed on a loss that is not finite, with step, pair ids and the last good checkpoint;
        ConfigurationError if a loss needs vectors that the teacher does not have, or the schedule another student.
    """
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    _require_vectors(corpus, settings)
    vocabulary_size = corpus.tokenizer.get_vocab_size()
    encoder = students.build(
        vocabulary_size, student, embeddings, predecessor, corpus.sentences.used_tokens(vocabulary_size)
    )
    dimension = int(encoder(tf.zeros([1, 1], tf.int32), training=False).shape[-1])
    learner = Learner(
        encoder,
        settings,
        student_dimension=dimension,
        teacher_dimension=corpus.sentences.dimension,
        is_probability=corpus.sentences.stored is None,
        teacher_scale=corpus.teacher.scale,
        teacher_bias=corpus.teacher.bias,
        starts_as_teacher=predecessor is not None,
    )
    phases = SCHEDULES[settings.schedule].phases(settings, settings.rate(student.kind))
    if any(phase.replacing for phase in phases) and bert.replacement(encoder) is None:
        raise ConfigurationError(
            f"The schedule {settings.schedule} replaces a teacher's layers; this {student.kind} student has none.",
            hint="Set student.kind = bert, or distillation.schedule = joint.",
        )
    return _Training(corpus, learner, settings, phases, folder, progress, after_epoch).finish()


def prune(
    corpus: Corpus,
    trained: TrainedStudent,
    student: StudentSettings,
    settings: DistillationSettings,
    folder: Path,
    *,
    progress: Progress = lambda done, total, what: None,
) -> TrainedStudent:
    """Set the smallest weights of a trained student to zero, `settings.pruning` of them, and let the others recover.

    The student's own weights change; `trained` is not what it was. A run that was killed goes on from its last
    checkpoint in `folder`.

    Raises: TrainingFailed as `distill` does.
    """
    phases = pruning_phases(settings, settings.rate(student.kind))
    return _Training(corpus, trained.learner, settings, phases, folder, progress, lambda epoch: None).finish()


def _require_vectors(corpus: Corpus, settings: DistillationSettings) -> None:
    wanting = [name for name in settings.soft_losses or () if SOFT[name].needs_vectors]
    if wanting and corpus.sentences.stored is None:
        raise ConfigurationError(
            f"distillation.soft_losses has {', '.join(wanting)}, but a cross-encoder gives no vectors of sentences.",
            hint="Use kd, mse or listwise with this teacher.",
        )


class _Training:
    """One student on its way through the phases."""

    def __init__(
        self,
        corpus: Corpus,
        learner: Learner,
        settings: DistillationSettings,
        phases: tuple[Phase, ...],
        folder: Path,
        progress: Progress,
        after_epoch: Callable[[Epoch], None],
    ) -> None:
        self._corpus, self._settings, self._phases = corpus, settings, phases
        self._report, self._after_epoch = progress, after_epoch
        self._learner = learner
        self._pruner = Pruner(learner.encoder, settings.pruning) if any(phase.pruning for phase in phases) else None
        self._replacement = bert.replacement(learner.encoder)
        # The rate is set before every step, so that it can follow phases whose length is not known beforehand.
        self._optimizer = keras.optimizers.Adam(clipnorm=1.0)
        self._optimizer.build(self._learner.weights)
        # Not only what is trained: the state of the dropout's random numbers too, so that a resumed run draws on.
        self._kept = Checkpoints(folder, [*self._learner.weights, *_untrained(learner.encoder)], self._optimizer)
        self._mean = _mean_vector(corpus.sentences, corpus.train, settings.seed)
        self._train_step, self._validate_step = self._compiled()

    def finish(self) -> TrainedStudent:
        """Run what is left of every phase; return the student of the best epoch."""
        done = self._kept.restore()
        resumed_at = len(done.history)
        for number in range(done.phase, len(self._phases)):
            phase = self._phases[number]
            if number > done.phase:
                done.phase, done.step, done.loss_sum = number, 0, 0.0
                self._begin(self._phases[number - 1], done)
            self._run_phase(phase, done)
        best = done.best(self._phases[-1].name)
        assert best is not None, "a phase has at least one epoch"  # noqa: S101
        self._kept.load_best(best)
        self._report(1, 1, "done")
        return TrainedStudent(self._learner, tuple(done.history), best.number, resumed_at)

    def _begin(self, earlier: Phase, done: checkpoints.Progress) -> None:
        """Start a later phase from the best weights of the one before, with a fresh optimiser."""
        best = done.best(earlier.name)
        if best is not None and earlier.pruning != "rising":  # the least pruned is no beginning for the fully pruned
            self._kept.load_best(best)
        for variable in self._optimizer.variables:
            variable.assign(tf.zeros_like(variable))

    def _run_phase(self, phase: Phase, done: checkpoints.Progress) -> None:
        pairs = self._corpus.train
        rows = np.flatnonzero(~np.isnan(pairs.labels)) if phase.labelled_only else np.arange(len(pairs))
        steps = math.ceil(len(rows) / self._settings.batch_pairs)
        first = sum(epoch.phase != phase.name for epoch in done.history)
        for number in range(len(done.history) - first + 1, phase.epochs + 1):
            best = done.best(phase.name)
            waited = len(done.history) - best.number if best is not None else 0
            if phase.stops_early and waited >= self._settings.patience:
                break
            self._run_epoch(phase, number, rows, steps, done)

    def _run_epoch(
        self, phase: Phase, number: int, rows: NDArray[np.int64], steps: int, done: checkpoints.Progress
    ) -> None:
        started = time.monotonic()
        settings, overall = self._settings, len(done.history) + 1
        if self._pruner is not None and phase.pruning:
            # From here on the masks stand (`full`), or go on from where they were, also after a kill (`rising`).
            self._pruner.update(1.0 if phase.pruning == "full" else (number - 1) / phase.epochs)
        # Seeded by the epoch, so that a resumed run sees the order it would have seen. Nothing else is seeded anew:
        # that would make TensorFlow optimise its graphs again, seconds each time.
        order = np.random.default_rng([settings.seed, overall]).permutation(rows)
        for step in range(done.step + 1, steps + 1):
            batch = self._batch(self._corpus.train, order[(step - 1) * settings.batch_pairs :][: settings.batch_pairs])
            share = ((number - 1) * steps + step) / (phase.epochs * steps)
            self._optimizer.learning_rate.assign(phase.learning_rate * _rate(share))
            if self._replacement is not None:
                probability = FIRST_REPLACED + (1 - FIRST_REPLACED) * share if phase.replacing else 1.0
                self._replacement.draw(probability, np.random.default_rng([settings.seed, overall, step]))
            loss = float(self._train_step(batch.ids, batch.labels, batch.scores, batch.teacher, phase.alpha))
            if not math.isfinite(loss):
                _stop_not_finite(self._corpus.train, batch.pairs, overall, step, self._kept.last)
            if self._pruner is not None and phase.pruning:
                if phase.pruning == "rising" and step % PRUNING_STEPS == 0:
                    self._pruner.update(share)
                self._pruner.apply()
            done.loss_sum += loss * len(batch.pairs)
            try:
                self._report(
                    (number - 1) * steps + step, phase.epochs * steps, f"{phase.name}, epoch {number}, loss {loss:.4f}"
                )
            except CeilingReached:
                done.step = step
                self._kept.save(done)
                raise
            if step % settings.checkpoint_steps == 0 and step < steps:
                done.step = step
                self._kept.save(done)
        validation_loss, score = self._validate(phase)
        seconds = time.monotonic() - started
        epoch = Epoch(overall, done.loss_sum / len(rows), validation_loss, score, seconds, phase.name)
        done.history.append(epoch)
        done.step, done.loss_sum = 0, 0.0
        if epoch is done.best(phase.name):
            self._kept.save_best(epoch)
        self._kept.save(done)
        self._kept.drop_beaten(done)
        self._after_epoch(epoch)

    def _batch(self, pairs: Pairs, rows: NDArray[np.int64]) -> Batch:
        rows = np.sort(rows)  # sorted: a memory-mapped file is read forwards
        sentences = np.concatenate([pairs.a[rows], pairs.b[rows]])
        teacher = self._corpus.sentences.teacher_vectors(sentences)
        if teacher.shape[1]:
            teacher = teacher - self._mean
            teacher /= np.maximum(np.linalg.norm(teacher, axis=1, keepdims=True), 1e-12)
        ids = self._corpus.sentences.trimmed_ids(sentences, multiple=STEP_WIDTH)
        return Batch(rows, ids, pairs.labels[rows], pairs.scores[rows], teacher)

    def _batches(self, pairs: Pairs) -> Iterator[Batch]:
        for start in range(0, len(pairs), self._settings.batch_pairs):
            yield self._batch(pairs, np.arange(start, min(start + self._settings.batch_pairs, len(pairs))))

    def _validate(self, phase: Phase) -> tuple[float, float]:
        """Return the mean loss and the score of the validation split."""
        pairs = self._corpus.validation
        total = 0.0
        cosines = np.empty(len(pairs), np.float32)
        for batch in self._batches(pairs):
            loss, found = self._validate_step(batch.ids, batch.labels, batch.scores, batch.teacher, phase.alpha)
            total += float(loss)
            cosines[batch.pairs] = found.numpy()
        mean = total / len(pairs)
        labelled = ~np.isnan(pairs.labels)
        if not np.isfinite(cosines).all():
            raise TrainingFailed(
                f"The student gives {np.count_nonzero(~np.isfinite(cosines))} validation pairs no finite similarity. "
                f"Last good checkpoint: {self._kept.last or 'none, it was the first epoch'}.",
                hint="Lower distillation.learning_rate.",
            )
        positive = pairs.labels[labelled] >= 0.5
        both = positive.any() and not positive.all()
        return mean, float(roc_auc_score(positive, cosines[labelled])) if both else -mean

    def _compiled(self) -> tuple[Callable[..., tf.Tensor], Callable[..., tuple[tf.Tensor, tf.Tensor]]]:
        learner, optimizer = self._learner, self._optimizer
        signature = [
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([None, self._corpus.sentences.dimension], tf.float32),
            tf.TensorSpec([], tf.float32),
        ]

        # AutoGraph would take seconds to read all code below for branches on tensors; there are none.
        @tf.function(input_signature=signature, autograph=False)
        def train_step(
            ids: tf.Tensor, labels: tf.Tensor, scores: tf.Tensor, teacher: tf.Tensor, alpha: tf.Tensor
        ) -> tf.Tensor:
            with tf.GradientTape() as tape:
                values, _ = learner.pair_losses(ids, labels, scores, teacher, alpha, training=True)
                loss = tf.reduce_mean(values)
            gradients = tape.gradient(loss, learner.weights)

            def learn() -> tf.Tensor:
                optimizer.apply_gradients(zip(gradients, learner.weights, strict=True))
                return loss

            # A finite loss can have a gradient that is not; applied, it would spoil every weight, and the checkpoint.
            norm = tf.linalg.global_norm([gradient for gradient in gradients if gradient is not None])
            return tf.cond(tf.math.is_finite(norm), learn, lambda: norm)

        @tf.function(input_signature=signature, autograph=False)
        def validate_step(
            ids: tf.Tensor, labels: tf.Tensor, scores: tf.Tensor, teacher: tf.Tensor, alpha: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            values, cosines = learner.pair_losses(ids, labels, scores, teacher, alpha, training=False)
            return tf.reduce_sum(values), cosines

        return train_step, validate_step


def _untrained(encoder: Any) -> list[Any]:
    """Return what an encoder keeps besides what it learns."""
    trained = {id(variable) for variable in encoder.trainable_variables}
    return [variable for variable in encoder.variables if id(variable) not in trained]


def _rate(share: float) -> float:
    """Return the learning rate's factor after this share of a phase: a linear rise, then half a cosine to zero."""
    if share < WARMUP_SHARE:
        return share / WARMUP_SHARE
    return 0.5 * (1 + math.cos(math.pi * (share - WARMUP_SHARE) / (1 - WARMUP_SHARE)))


def _mean_vector(sentences: Sentences, pairs: Pairs, seed: int, sample: int = 50_000) -> NDArray[np.float32]:
    """Return the mean of the teacher's vectors of (a sample of) the training sentences, ``[dimension]``.

    Vectors of some teachers crowd in a narrow cone; less their mean, they say what tells sentences apart.
    """
    rows = np.random.default_rng(seed).permutation(len(pairs))[: sample // 2]
    chosen = np.unique(np.concatenate([pairs.a[rows], pairs.b[rows]]))
    mean: NDArray[np.float32] = sentences.teacher_vectors(chosen).mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _stop_not_finite(pairs: Pairs, rows: NDArray[np.int64], epoch: int, step: int, checkpoint: str | None) -> None:
    names = b", ".join(pairs.pair_ids[rows[:5]]).decode()
    raise TrainingFailed(
        f"The loss is not finite at epoch {epoch}, step {step} (pairs {names}, … {len(rows)} in the batch). "
        f"Last good checkpoint: {checkpoint or 'none, it was the first epoch'}.",
        hint="Lower distillation.learning_rate, or look at those pairs in data/pairs.",
    )
