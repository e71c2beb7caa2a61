"""The student while it learns: the encoder, what is dropped at export, and the losses of a batch."""

import math
from typing import Any

import tensorflow as tf

from restill import losses
from restill.losses import Batch
from restill.settings import DistillationSettings


class Learner(tf.Module):
    """An encoder with the scale and bias that turn its cosine into the logit z = (c - bias)·scale, scale > 0.

    With the `embedding` loss also the projection W of its vectors into the teacher's space; it is dropped at export.
    """

    def __init__(
        self,
        encoder: Any,
        settings: DistillationSettings,
        *,
        student_dimension: int,
        teacher_dimension: int,
        is_probability: bool,
        teacher_scale: float,
        teacher_bias: float,
        starts_as_teacher: bool = False,
    ) -> None:
        """Join an encoder and the objective.

        Args:
            encoder: a `students.build` model.
            settings: losses and their weights.
            student_dimension: width of the encoder's vectors.
            teacher_dimension: width of the teacher's; 0 if there are none (a cross-encoder).
            is_probability: whether a teacher's score stands for itself as a probability, as a cross-encoder's does.
            teacher_scale: with the bias, turns the teacher's score into its logit.
            teacher_bias: see teacher_scale.
            starts_as_teacher: whether the encoder's vectors are in the teacher's space from the beginning.
        """
        super().__init__(name="learner")
        self.encoder = encoder
        self.log_scale = tf.Variable(math.log(8.0), name="log_scale")  # a log keeps the scale positive
        self.bias = tf.Variable(0.5, name="bias")
        self._settings = settings
        self._soft_weights = settings.soft_weights("cross-encoder" if is_probability else "bi-encoder")
        self._teacher = (teacher_scale, teacher_bias)
        self._is_probability = is_probability
        self.projection: tf.Variable | None = None
        if any(losses.SOFT[name].needs_projection for name in self._soft_weights):
            if starts_as_teacher:
                initial = tf.eye(student_dimension, teacher_dimension)
            else:  # orthogonal: distances survive the projection from the first step on
                initial = tf.keras.initializers.Orthogonal(seed=settings.seed)([student_dimension, teacher_dimension])
            self.projection = tf.Variable(initial, name="projection")

    @property
    def weights(self) -> list[tf.Variable]:
        """Return everything that is trained."""
        extra = [] if self.projection is None else [self.projection]
        return [*self.encoder.trainable_variables, self.log_scale, self.bias, *extra]

    def pair_losses(
        self,
        ids: tf.Tensor,
        labels: tf.Tensor,
        scores: tf.Tensor,
        teacher_vectors: tf.Tensor,
        alpha: tf.Tensor,
        *,
        training: bool,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the total loss ``[batch]`` and the cosine ``[batch]`` of each pair.

        Args:
            ids: int32 ``[2·batch, steps]``, side a above side b.
            labels: float ``[batch]``, NaN: unlabelled.
            scores: float ``[batch]``, the teacher's cosine, or a cross-encoder's logit.
            teacher_vectors: float ``[2·batch, dimension]``, unit length; of width 0 if there are none.
            alpha: weight of the soft losses on labelled pairs.
            training: whether dropout acts.
        """
        vectors = self.encoder(ids, training=training)
        left, right = tf.split(vectors, 2)
        cosines = tf.reduce_sum(left * right, axis=-1)
        labelled = tf.logical_not(tf.math.is_nan(labels))
        scale, bias = self._teacher
        teacher_logits = (scores - bias) * scale
        batch = Batch(
            labels=tf.where(labelled, labels, tf.zeros_like(labels)),
            labelled=labelled,
            student_cosines=cosines,
            student_logits=(cosines - self.bias) * tf.exp(self.log_scale),
            teacher_scores=tf.sigmoid(teacher_logits) if self._is_probability else scores,
            teacher_logits=teacher_logits,
            student_vectors=vectors,
            teacher_vectors=None if teacher_vectors.shape[-1] == 0 else teacher_vectors,
            projected=None if self.projection is None else tf.matmul(vectors, self.projection),
        )
        chosen = self._settings
        hard = losses.HARD[chosen.hard_loss].compute(batch, chosen.margin)
        soft = losses.weighted(batch, self._soft_weights, temperature=chosen.temperature)
        return losses.total(hard, soft, labelled, alpha=alpha), cosines
