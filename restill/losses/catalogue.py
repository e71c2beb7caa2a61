"""Every loss by its name in the settings, callable in one way. A new one is a function and an entry here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tensorflow as tf

from restill.losses.batch import Batch
from restill.losses.cross_entropy import bce
from restill.losses.margins import contrastive, contrastive_published
from restill.losses.scores import listwise, mse
from restill.losses.soft_targets import kd
from restill.losses.vectors import embedding, similarity_matrix


@dataclass(frozen=True)
class HardLoss:
    """A loss against the labels.

    Attributes:
        name: as in `distillation.hard_loss`.
        summary: one line for people.
        compute: (batch, margin) → float ``[b]``; its value at unlabelled pairs is finite and means nothing.
    """

    name: str
    summary: str
    compute: Callable[[Batch, float], tf.Tensor]


@dataclass(frozen=True)
class SoftLoss:
    """A loss against the teacher.

    Attributes:
        name: as in `distillation.soft_losses`.
        summary: one line for people.
        compute: (batch, temperature) → float ``[b]``.
        needs_vectors: reads `teacher_vectors`, so the teacher must be a bi-encoder.
        needs_projection: reads `projected`.
    """

    name: str
    summary: str
    compute: Callable[[Batch, float], tf.Tensor]
    needs_vectors: bool = False
    needs_projection: bool = False


HARD: dict[str, HardLoss] = {
    loss.name: loss
    for loss in (
        HardLoss(
            "bce",
            "binary cross-entropy of the calibrated logit; graded labels are probabilities",
            lambda batch, margin: bce(batch.labels, batch.student_logits),
        ),
        HardLoss(
            "contrastive",
            "pulls positives to cosine 1, pushes negatives above the margin to 0 (Neculoiu et al. 2016, corrected)",
            lambda batch, margin: contrastive(batch.labels, batch.student_cosines, margin=margin),
        ),
        HardLoss(
            "contrastive-published",
            "the same with the condition as printed: the most similar negatives go free; for comparison",
            lambda batch, margin: contrastive_published(batch.labels, batch.student_cosines, margin=margin),
        ),
    )
}

SOFT: dict[str, SoftLoss] = {
    loss.name: loss
    for loss in (
        SoftLoss(
            "kd",
            "T²·KL between the softened class probabilities of teacher and student (Hinton et al. 2015)",
            lambda batch, temperature: kd(batch.student_logits, batch.teacher_logits, temperature=temperature),
        ),
        SoftLoss(
            "mse",
            "squared difference of the cosines, each divided by T",
            lambda batch, temperature: mse(batch.student_cosines, batch.teacher_scores, temperature=temperature),
        ),
        SoftLoss(
            "listwise",
            "T²·KL between softmax over the batch of the cosines: how pairs rank, not where they lie (ListNet)",
            lambda batch, temperature: listwise(batch.student_cosines, batch.teacher_scores, temperature=temperature),
        ),
        SoftLoss(
            "embedding",
            "1 - cosine between the teacher's vector and a learned projection of the student's; bi-encoders only",
            lambda batch, temperature: embedding(
                _given(batch.projected, "embedding", "projected"),
                _given(batch.teacher_vectors, "embedding", "teacher_vectors"),
            ),
            needs_vectors=True,
            needs_projection=True,
        ),
        SoftLoss(
            "similarity-matrix",
            "squared difference of the cosines between all sentences of the batch; bi-encoders only",
            lambda batch, temperature: similarity_matrix(
                _given(batch.student_vectors, "similarity-matrix", "student_vectors"),
                _given(batch.teacher_vectors, "similarity-matrix", "teacher_vectors"),
            ),
            needs_vectors=True,
        ),
    )
}


def weighted(batch: Batch, weights: Mapping[str, float], *, temperature: float) -> tf.Tensor:
    """Return the sum of the soft losses, each times its weight: float ``[b]``.

    Args:
        batch: with the vectors that the named losses need.
        weights: name in `SOFT` → weight; at least one.
        temperature: T > 0, for those that have one.
    Raises: KeyError for an unknown name, ValueError if there is none or the batch lacks what a loss needs.
    """
    if not weights:
        raise ValueError("A sum of soft losses needs at least one. Received: none.")
    return sum(weight * SOFT[name].compute(batch, temperature) for name, weight in weights.items())


def total(hard: tf.Tensor, soft: tf.Tensor, labelled: tf.Tensor, *, alpha: float) -> tf.Tensor:
    """Return alpha·soft + (1 - alpha)·hard for each pair; an unlabelled pair costs its soft loss alone.

    Args:
        hard: float ``[batch]``; its value at unlabelled pairs is ignored, but must be finite.
        soft: float ``[batch]``.
        labelled: bool ``[batch]``.
        alpha: weight of the soft loss, in [0, 1].
    Returns: float ``[batch]``.
    """
    return tf.where(labelled, alpha * soft + (1.0 - alpha) * hard, soft)


def _given(tensor: tf.Tensor | None, loss: str, field: str) -> tf.Tensor:
    if tensor is None:
        raise ValueError(f"The loss {loss!r} needs Batch.{field}. Received: None. A cross-encoder has no vectors.")
    return tensor
