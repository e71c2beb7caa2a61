"""Cross-entropy against the labels.

The two-class logits of a pair are (0, z), so a single z stands for both and softmax over them is sigmoid(z).
"""

import tensorflow as tf


def bce(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return binary cross-entropy of the two-class logits (0, z), in nats.

    Args:
        labels: float ``[batch]`` in [0, 1]; graded labels are taken as probabilities.
        logits: float ``[batch]``, z before the sigmoid.
    Returns: float ``[batch]``.
    Raises: ValueError if the shapes differ.
    """
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
