"""What a loss may look at: one batch of pairs, as the student and the teacher see it."""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Batch:
    """One batch of b pairs. Of a tensor with 2·b rows the first b are sides a, the last b sides b.

    Attributes:
        labels: float ``[b]`` in [0, 1]; 0 where there is none.
        labelled: bool ``[b]``.
        student_cosines: float ``[b]``.
        student_logits: float ``[b]``, z = (cosine - bias)·scale.
        teacher_scores: float ``[b]``: a bi-encoder's cosine, a cross-encoder's probability.
        teacher_logits: float ``[b]``, z of the teacher, after its Platt calibration.
        student_vectors: float ``[2b, d]``; None if no loss asks for vectors.
        teacher_vectors: float ``[2b, D]``, centred, of unit length; None for a cross-encoder.
        projected: float ``[2b, D]``, W·s(x), not normalised; None if no loss asks for the projection.
    """

    labels: tf.Tensor
    labelled: tf.Tensor
    student_cosines: tf.Tensor
    student_logits: tf.Tensor
    teacher_scores: tf.Tensor
    teacher_logits: tf.Tensor
    student_vectors: tf.Tensor | None = None
    teacher_vectors: tf.Tensor | None = None
    projected: tf.Tensor | None = None
