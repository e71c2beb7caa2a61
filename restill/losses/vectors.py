"""Losses on the embeddings: the student's space follows the teacher's. They need a bi-encoder teacher.

Of a tensor with 2·batch rows the first half are sides a and the last half sides b of the same pairs.
"""

import tensorflow as tf

_SHORTEST = 1e-12  # squared length up to which a vector counts as zero


def embedding(projected: tf.Tensor, teacher_vectors: tf.Tensor) -> tf.Tensor:
    """Return the mean of 1 - cos(W·s(x), t(x)) over the two sentences of each pair.

    W exists for this loss only: the student is narrower than the teacher, and W is dropped at export. A zero vector
    has cosine 0 with everything, and no gradient.

    Args:
        projected: float ``[2·batch, D]``, W·s(x).
        teacher_vectors: float ``[2·batch, D]``, t(x).
    Returns: float ``[batch]`` in [0, 2], no unit.
    Raises: ValueError if the shapes differ.
    References: Jiao et al. 2020, TinyBERT, eq. (8) has the projection, with MSE, https://arxiv.org/abs/1909.10351
    """
    if projected.shape.as_list() != teacher_vectors.shape.as_list():
        raise ValueError(
            "Projected student vectors and teacher vectors must have one shape, [2·batch, D]. "
            f"Received: projected {projected.shape}, teacher {teacher_vectors.shape}."
        )
    cosines = tf.reduce_sum(_unit(projected) * _unit(teacher_vectors), axis=-1)
    return _of_pairs(1.0 - cosines)


def similarity_matrix(student_vectors: tf.Tensor, teacher_vectors: tf.Tensor) -> tf.Tensor:
    """Return how far the student's cosines to all other sentences of the batch are from the teacher's, for each pair.

    With S and T the cosine matrices of the 2·batch sentences, a sentence costs the mean of (S_ij - T_ij)² over the
    2·batch - 1 others (the diagonal is 1 in both and would only dilute), and a pair the mean of its two sentences.
    A batch of one pair therefore costs (c_S - c_T)².

    Args:
        student_vectors: float ``[2·batch, d]``; d may differ from D.
        teacher_vectors: float ``[2·batch, D]``.
    Returns: float ``[batch]`` in [0, 4], no unit.
    References: Tung and Mori 2019, similarity-preserving distillation, https://arxiv.org/abs/1907.09682
    """
    student, teacher = _unit(student_vectors), _unit(teacher_vectors)
    difference = tf.matmul(student, student, transpose_b=True) - tf.matmul(teacher, teacher, transpose_b=True)
    difference = tf.linalg.set_diag(difference, tf.zeros_like(difference[:, 0]))
    others = tf.cast(tf.shape(difference)[0] - 1, difference.dtype)
    return _of_pairs(tf.reduce_sum(tf.square(difference), axis=-1) / others)


def _of_pairs(sentences: tf.Tensor) -> tf.Tensor:
    """Return the mean over the two sides of each pair: ``[2·batch]`` to ``[batch]``."""
    left, right = tf.split(sentences, 2)
    return (left + right) / 2.0


def _unit(vectors: tf.Tensor) -> tf.Tensor:
    """Scale rows to length 1; a zero row stays zero.

    Its gradient is 0 too, where that of `tf.math.l2_normalize` is 1/√epsilon times what arrives, a million.
    """
    squared = tf.reduce_sum(tf.square(vectors), axis=-1, keepdims=True)
    known = squared > _SHORTEST
    # Chosen before the square root as well: the branch that `where` drops must not send NaN back through it.
    inverse = tf.math.rsqrt(tf.where(known, squared, tf.ones_like(squared)))
    return tf.where(known, vectors * inverse, tf.zeros_like(vectors))
