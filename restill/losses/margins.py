"""Contrastive losses on the cosine: positives are pulled together, negatives pushed apart."""

import tensorflow as tf


def contrastive(labels: tf.Tensor, cosines: tf.Tensor, *, margin: float = 0.0) -> tf.Tensor:
    """Return y·(1 - c)²/4 + (1 - y)·c²·[c > margin] for each pair.

    The pull on positives is Neculoiu, Versteegh and Rotaru 2016, eq. (3). For negatives the published text
    has [c < m], which lets the most similar negatives go free; this is the corrected condition.

    Args:
        labels: float ``[batch]`` in [0, 1].
        cosines: float ``[batch]`` in [-1, 1].
        margin: cosine up to which a negative costs nothing.
    Returns: float ``[batch]``, no unit.
    References: https://aclanthology.org/W16-1617
    """
    return _pull_and_push(labels, cosines, pushed=cosines > margin)


def contrastive_published(labels: tf.Tensor, cosines: tf.Tensor, *, margin: float = 0.0) -> tf.Tensor:
    """Return y·(1 - c)²/4 + (1 - y)·c²·[c < margin] for each pair: the condition as it is printed.

    Kept so that the two can be compared on data; `contrastive` is the corrected one.

    Args:
        labels: float ``[batch]`` in [0, 1].
        cosines: float ``[batch]`` in [-1, 1].
        margin: cosine from which a negative costs nothing.
    Returns: float ``[batch]``, no unit.
    References: https://aclanthology.org/W16-1617, eq. (3)
    """
    return _pull_and_push(labels, cosines, pushed=cosines < margin)


def _pull_and_push(labels: tf.Tensor, cosines: tf.Tensor, *, pushed: tf.Tensor) -> tf.Tensor:
    pull = tf.square(1.0 - cosines) / 4.0
    push = tf.where(pushed, tf.square(cosines), tf.zeros_like(cosines))
    return labels * pull + (1.0 - labels) * push
